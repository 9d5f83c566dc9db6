package metrics

import (
	"slices"
	"sync"
	"time"
)

// state is a circuit breaker's, in the order of stateNames.
type state int

const (
	closed   = "closed"
	open     = "open"
	halfOpen = "half-open"

	states = 3
)

var stateNames = [states]string{closed, open, halfOpen}

const (
	maxLate   = 16          // events that may be held back
	latecomer = time.Second // how long one is waited for
)

// breaker follows a circuit breaker's events. It begins closed.
//
// Events are reported by the goroutines that brought them about, without a lock, so the later of two changes can be heard of first. A
// gauge that went by the latest event would then show a state that is over for as long as the next one lasts, which may be for ever.
// But each change begins where the one before ended: what does not fit is held back until what is missing has come.
type breaker struct {
	mu   sync.Mutex
	now  state
	late []change // in the order in which they were heard of
	gap  time.Time
}

type change struct{ from, to state }

func (b *breaker) state() state {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveUp()
	return b.now
}

// change hears of a change of the state. It takes no notice of states that it does not know.
func (b *breaker) change(from, to string) {
	c := change{state(slices.Index(stateNames[:], from)), state(slices.Index(stateNames[:], to))}
	if c.from < 0 || c.to < 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveUp()
	if len(b.late) == 0 {
		b.gap = time.Now()
	}
	b.late = append(b.late, c)
	for i := 0; i >= 0; {
		i = slices.IndexFunc(b.late, func(c change) bool { return c.from == b.now })
		if i >= 0 {
			b.now = b.late[i].to
			b.late = slices.Delete(b.late, i, i+1)
		}
	}
}

// giveUp takes the latest change as it is when what is missing does not come: the breaker was not closed when its pool was made.
func (b *breaker) giveUp() {
	if n := len(b.late); n > 0 && (n >= maxLate || time.Since(b.gap) > latecomer) {
		b.now = b.late[n-1].to
		b.late = b.late[:0]
	}
}
