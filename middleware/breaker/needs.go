package breaker

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// needs is what the server lately needed for its successes, to within a factor of two, by the pool's coarse clock. A success that took less
// than two steps of it costs nothing; only a slow one is noted, by its operation.
//
// It has two generations. The present one becomes the past one when it is a window old and at least enough uses have succeeded since, so
// that what was known before a quiet time or an outage is still known in it.
type needs struct {
	window time.Duration
	ops    sync.Map     // of *slow, by the operation's name
	known  atomic.Int64 // successes that the past generation stands for; 0: nothing is known

	mu    sync.Mutex
	since time.Duration // when the present generation began
}

const (
	slowest  = 16                    // classes of slow successes
	tick     = 10 * time.Millisecond // a step of the pool's coarse clock
	enough   = 20                    // successes from which on something is known
	maxOps   = 256
	rare     = 1000 // one in so many successes is not minded
	muchMore = 4
	patience = 100 * time.Millisecond // no deadline that passes sooner is evidence
	unknown  = time.Second            // nor one that passes sooner than this when nothing is known
)

// slow counts an operation's slow successes: class i took less than 2^(i+2) ticks.
type slow [2][slowest]atomic.Int64

// note is called for a success that took at least two ticks.
func (n *needs) note(op string, took time.Duration) {
	v, ok := n.ops.Load(op)
	if !ok {
		v, _ = n.ops.LoadOrStore(op, &slow{})
	}
	s, _ := v.(*slow)
	s[0][min(bits.Len64(uint64(took/tick))-2, slowest-1)].Add(1)
}

// age moves on to the next generation if it is time. successes are those of the last window.
func (n *needs) age(now time.Duration, successes int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now-n.since < n.window || successes < enough {
		return
	}
	n.since = now
	n.known.Store(successes)
	n.ops.Range(func(op, v any) bool {
		s, _ := v.(*slow)
		kept := int64(0)
		for i := range s[0] {
			c := s[0][i].Swap(0)
			s[1][i].Store(c)
			kept += c
		}
		if kept == 0 {
			n.ops.Delete(op)
		}
		return true
	})
}

// muchLonger returns from when on the server has had a call of op for much longer than it lately needed. successes are those of the
// present window.
func (n *needs) muchLonger(op string, successes int64) time.Duration {
	known := max(n.known.Load(), successes)
	if known < enough {
		return unknown
	}
	need, minded := 2*tick, known/rare
	if v, ok := n.ops.Load(op); ok {
		s, _ := v.(*slow)
		slower := int64(0)
		for i := slowest - 1; i >= 0; i-- {
			if slower += s[0][i].Load() + s[1][i].Load(); slower > minded {
				need = tick << (i + 2)
				break
			}
		}
	}
	return max(muchMore*need, patience)
}
