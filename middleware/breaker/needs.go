package breaker

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// needs records how long recent successes of each operation took, to within a factor of two. Only
// slow successes are recorded. A success within two steps of the pool's coarse clock costs nothing.
// The counts halve with each window of enough successes. So the counts outlast a quiet time and an
// outage.
type needs struct {
	window time.Duration
	ops    sync.Map     // of *slow, by the name of the operation
	n      atomic.Int64 // number of entries in ops
	known  atomic.Int64 // number of successes represented by the counts

	mu    sync.Mutex
	since time.Duration // when the counts were last halved
}

const (
	tick     = 10 * time.Millisecond // a step of the pool's coarse clock
	slowest  = 16                    // number of classes of slow successes
	maxOps   = 256                   // operations with separate counts; the rest share a count
	enough   = 20                    // minimum number of successes for a bound
	rare     = 1000                  // 1 in 1,000 successes may exceed the bound of muchLonger
	common   = 4                     // 1 in 4 successes may exceed the bound of commonly
	weight   = 4                     // of a slow success, remembered for three windows
	muchMore = 4                     // this many times a bound is much longer
	quiet    = time.Second / 2       // a shorter silence is no evidence
	unknown  = time.Second           // while no bound is known, a shorter deadline is no evidence
)

// slow counts the slow successes of an operation. Class i holds successes of less than 2^(i+2)
// ticks.
type slow [slowest]atomic.Int64

// note counts a success of at least two ticks.
func (n *needs) note(op string, took time.Duration) {
	v, ok := n.ops.Load(op)
	if !ok {
		if n.n.Load() >= maxOps {
			op = ""
		}
		if v, ok = n.ops.LoadOrStore(op, &slow{}); !ok {
			n.n.Add(1)
		}
	}
	s, _ := v.(*slow)
	s[min(bits.Len(uint(took/tick))-2, slowest-1)].Add(weight) //nolint:gosec // took is positive
}

// age halves the counts if a window has passed with at least enough successes. successes is the
// number of successes in the latest window.
func (n *needs) age(now time.Duration, successes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now-n.since < n.window || successes < enough {
		return
	}
	n.since = now
	n.known.Store(n.known.Load()/2 + successes)
	n.ops.Range(func(op, v any) bool {
		s, _ := v.(*slow)
		kept := int64(0)
		for i := range s {
			c := s[i].Load()
			kept += c / 2
			s[i].Add(c/2 - c)
		}
		if kept == 0 {
			n.ops.Delete(op)
			n.n.Add(-1)
		}
		return true
	})
}

// outlast keeps the bounds after a closed state ends, for the probes and for the next closed state.
// successes is the number of successes in the window of the closed state.
func (n *needs) outlast(successes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known.Store(max(n.known.Load(), successes))
}

// bound returns the time within which all but 1 in one successes of op ended. successes is the
// number of successes since the counts were last halved. ok is false while too few successes are
// known.
func (n *needs) bound(op string, successes, one int64) (need time.Duration, ok bool) {
	known := n.known.Load() + successes
	if known < enough {
		return 0, false
	}
	v, found := n.ops.Load(op)
	if !found {
		v, found = n.ops.Load("") // too many operations: op may share a count
	}
	need = 2 * tick
	if s, _ := v.(*slow); found {
		slower := int64(0)
		for i := slowest - 1; i >= 0; i-- {
			if slower += s[i].Load(); slower > weight*known/one {
				return tick << (i + 2), true
			}
		}
	}
	return need, true
}

// muchLonger returns the least time of an attempt of op at the server that is evidence by itself.
// The time is four times the bound within which 999 in 1,000 successes ended.
func (n *needs) muchLonger(op string, successes int64) time.Duration {
	if need, ok := n.bound(op, successes, rare); ok {
		return muchMore * need
	}
	return unknown
}

// commonly returns the bound within which 3 in 4 successes of op ended. A stricter bound would be
// too strict for a cold start: more than 1 in 10 successes may then be slow.
func (n *needs) commonly(op string, successes int64) time.Duration {
	if need, ok := n.bound(op, successes, common); ok {
		return need
	}
	return unknown / muchMore
}
