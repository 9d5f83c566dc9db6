package retry

import "sync/atomic"

// token is the cost of a retry. The budget counts in millionths of a token.
const token = 1_000_000

// budget is the token bucket shared by all uses of a layer. The bucket is usually full; then a
// success only reads the bucket.
type budget struct{ tokens, limit atomic.Int64 }

// earn adds amount, in millionths of a token, up to the limit.
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
	// The limit may have fallen after the load, and resize may have trimmed too early to remove
	// amount.
	b.trim()
}

// spend takes a token and reports whether the budget had a whole token.
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

// resize changes the limit and removes the tokens above the new limit. Calls of resize must not
// overlap.
func (b *budget) resize(limit int64) {
	b.limit.Store(limit)
	b.trim()
}

// trim removes the tokens above the limit.
func (b *budget) trim() {
	for {
		have, limit := b.tokens.Load(), b.limit.Load()
		if have <= limit || b.tokens.CompareAndSwap(have, limit) {
			return
		}
	}
}
