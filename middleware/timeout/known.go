package timeout

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// The default limit of an attempt leaves time for another attempt when a connection or a server
// gives no answer. An operation that needs longer than the limit would be cut in each attempt,
// although its callers have enough time. So the default limit holds for operations known to be
// quick. An attempt of any other operation has all of the time of the use.
//
//   - An operation is quick after quickUses quick successes, and not before quickTime after its
//     first success. By then, the slow calls among the first calls have ended. A success is quick
//     if the server took less than half of the minimal default limit. A longer call may exceed the
//     limit in the future.
//   - A slow success, and a second cut by the default limit, make the operation slow for slowUses
//     quick successes and for slowTime. So an operation with quick and slow calls is slow if 1 call
//     in slowUses is slow. The second cut is a cut of an attempt that began after the first cut. A
//     frozen server cuts all attempts of a moment, and the cuts of the next attempts tell the
//     breaker about the server.
//   - After a cut, the next attempt of the same use has all of the remaining time. A part of the
//     time would let the attempt do less than the attempt before. If the time runs out, this is a
//     second cut.
//   - An operation is an Op.Name with its Op.Target. maxOps operations have their own records. All
//     further operations share a record.
//
// An attempt of a quick operation reads a map that never changes, and writes nothing.

const (
	quickUses = 20
	quickTime = defaultTotal
	slowUses  = 1000
	slowTime  = time.Minute
	slow      = defaultAttempt / 2
	maxOps    = 256
)

// work identifies an operation.
type work struct{ name, target string }

// known holds the records of operations.
type known struct {
	made   time.Time                        // the origin of all other times
	ops    atomic.Pointer[map[work]*record] // replaced by a larger map, never changed
	mu     sync.Mutex                       // held while ops is replaced
	others record                           // for all operations without a record once ops is full
}

// record holds the successes and cuts of an operation. The zero record is a record without a
// success.
type record struct {
	quick atomic.Int64 // number of successes; the operation is quick from quickUses on
	// until is the time before which the operation is not quick, even with enough successes. 0: there
	// was no success.
	until atomic.Int64
	cut   atomic.Int64 // time of the first of two cuts; 0: none
}

// of returns the record of the operation, or nil.
func (k *known) of(c *pool.Call) *record {
	ops := k.ops.Load()
	if ops == nil {
		return nil
	}
	op := c.Op()
	if r := (*ops)[work{op.Name, op.Target}]; r != nil {
		return r
	}
	if len(*ops) >= maxOps {
		return &k.others
	}
	return nil
}

// add returns the record of the operation, and creates a missing record.
func (k *known) add(c *pool.Call) *record {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.of(c)
	if r == nil {
		larger := map[work]*record{}
		if ops := k.ops.Load(); ops != nil {
			larger = maps.Clone(*ops)
		}
		op := c.Op()
		r = &record{}
		larger[work{op.Name, op.Target}] = r
		k.ops.Store(&larger)
	}
	return r
}

// answered records the answer of the server to an attempt begun at began. r is the record from of.
func (k *known) answered(c *pool.Call, r *record, began time.Time) {
	now := c.Clock()
	took := now.Sub(began)
	if took >= slow {
		wait, _, _ := c.Acquired()
		took -= wait
	}
	switch {
	case took < slow && r.isQuick():
		return
	case r == nil:
		r = k.add(c)
	}
	if took < slow {
		r.succeeded(now.Sub(k.made))
	} else {
		r.isSlow(now.Sub(k.made))
	}
}

// cutShort records a cut of an attempt begun at began.
func (k *known) cutShort(r *record, began time.Time) {
	now, first := time.Since(k.made), r.cut.Load()
	switch {
	case first == 0:
		r.cut.CompareAndSwap(0, int64(now))
	case began.Sub(k.made) >= time.Duration(first) && r.cut.CompareAndSwap(first, 0):
		r.isSlow(now)
	}
}

// isQuick reports whether the default limit holds for the operation. isQuick may be called on nil.
func (r *record) isQuick() bool { return r != nil && r.quick.Load() >= quickUses }

// succeeded records a quick success of an operation not known to be quick. Of several successes at
// the same moment, some may not be counted.
func (r *record) succeeded(now time.Duration) {
	if r.until.Load() == 0 {
		r.until.CompareAndSwap(0, int64(now+quickTime))
	}
	if n := r.quick.Load(); n+1 < quickUses || int64(now) >= r.until.Load() {
		r.quick.CompareAndSwap(n, n+1)
	}
}

// isSlow makes the operation slow: it may need longer than the default limit.
func (r *record) isSlow(now time.Duration) {
	r.until.Store(int64(now + slowTime))
	r.quick.Store(quickUses - slowUses)
}
