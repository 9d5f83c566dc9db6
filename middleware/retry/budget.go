package retry

import "sync/atomic"

// token is what a retry costs; the budget is counted in fractions of it.
const token = 1_000_000

// budget is the token bucket that all uses of a layer share. It is full as a rule, and then a success only reads it.
type budget struct{ tokens, limit atomic.Int64 }

// earn adds amount, up to the limit.
func (b *budget) earn(amount int64) {
	for {
		have, limit := b.tokens.Load(), b.limit.Load()
		if have >= limit {
			return
		}
		if b.tokens.CompareAndSwap(have, min(have+amount, limit)) {
			break
		}
	}
	b.trim() // the limit may have fallen in between, and resize been too early to take this away
}

// spend takes a token, if there is one.
func (b *budget) spend() bool {
	for {
		have := b.tokens.Load()
		if have < token {
			return false
		}
		if b.tokens.CompareAndSwap(have, have-token) {
			return true
		}
	}
}

// resize changes the limit, and takes away what is above the new limit. Calls of resize must not overlap.
func (b *budget) resize(limit int64) {
	b.limit.Store(limit)
	b.trim()
}

// trim takes away what is above the limit.
func (b *budget) trim() {
	for {
		have, limit := b.tokens.Load(), b.limit.Load()
		if have <= limit || b.tokens.CompareAndSwap(have, limit) {
			return
		}
	}
}
