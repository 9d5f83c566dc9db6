package retry

import "sync/atomic"

// token is what a retry costs; the budget is counted in fractions of it.
const token = 1_000_000

// budget is the token bucket that all uses of a layer share. When it is full, which is the rule, a success only reads it.
type budget struct{ tokens atomic.Int64 }

// earn adds amount, up to limit. It says whether there was room.
func (b *budget) earn(amount, limit int64) bool {
	for {
		have := b.tokens.Load()
		if have >= limit {
			return false
		}
		if b.tokens.CompareAndSwap(have, min(have+amount, limit)) {
			return true
		}
	}
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

// cap takes away what is above limit.
func (b *budget) cap(limit int64) {
	for {
		have := b.tokens.Load()
		if have <= limit || b.tokens.CompareAndSwap(have, limit) {
			return
		}
	}
}
