package breaker

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// needs is the time that the server lately needed for successes, by operation and to within a factor of two. A success within two steps of
// the pool's coarse clock costs nothing; only slow successes are noted. The counts halve with each window of enough successes. So they
// outlast a quiet time and an outage.
type needs struct {
	window time.Duration
	ops    sync.Map     // of *slow, by the operation's name
	n      atomic.Int64 // how many there are
	known  atomic.Int64 // successes behind the counts

	mu    sync.Mutex
	since time.Duration // when the counts were last halved
}

const (
	tick     = 10 * time.Millisecond // a step of the pool's coarse clock
	slowest  = 16                    // classes of slow successes
	maxOps   = 256                   // operations with counts of their own; the others share a count
	enough   = 20                    // successes before anything is known
	rare     = 1000                  // 1 in so many successes is not minded
	common   = 4                     // 1 in so many may need longer than a deadline that adds to a silence
	weight   = 4                     // of a slow success: remembered for three windows
	muchMore = 4
	quiet    = time.Second / 2 // a shorter silence is no evidence
	unknown  = time.Second     // a shorter deadline is no evidence while nothing is known
)

// slow counts an operation's slow successes: class i took less than 2^(i+2) ticks.
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

// age halves the counts if it is time. The last window had so many successes.
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

// outlast keeps the knowledge of a closed state that ends with so many successes in its window, for the probes and for the next closed state.
func (n *needs) outlast(successes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known.Store(max(n.known.Load(), successes))
}

// bound returns the time within which all successes of op but one in so many ended. successes counts the successes since the counts were last
// halved. ok is false while too little is known.
func (n *needs) bound(op string, successes, one int64) (need time.Duration, ok bool) {
	known := n.known.Load() + successes
	if known < enough {
		return 0, false
	}
	v, found := n.ops.Load(op)
	if !found {
		v, found = n.ops.Load("") // too many operations: op shares a count
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

// muchLonger returns how long the server must have had a call of op to have had the call for much longer than lately needed: four times the
// bound within which 999 in 1,000 successes ended.
func (n *needs) muchLonger(op string, successes int64) time.Duration {
	if need, ok := n.bound(op, successes, rare); ok {
		return muchMore * need
	}
	return unknown
}

// commonly returns the bound within which three in four successes of op ended. A cold start may be slow for more than one in ten.
func (n *needs) commonly(op string, successes int64) time.Duration {
	if need, ok := n.bound(op, successes, common); ok {
		return need
	}
	return unknown / muchMore
}
