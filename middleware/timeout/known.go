package timeout

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// The default limit of an attempt leaves time for another attempt when a connection or a server gives no answer. An operation that needs
// longer than the limit would be cut in each attempt, though its callers have time enough. So the default limit is for operations that are
// known to be quick; an attempt of another operation has all of the use's time:
//
//   - An operation is quick after quickUses quick successes, quickTime after its first success at the earliest: the slow calls among the
//     first calls have ended by then. A success is quick if the server took less than half of the least default limit. A call that takes
//     longer now may exceed the limit later.
//   - A slow success ends that for slowUses quick successes and for slowTime, and so does a second cut by the default limit. So a name that
//     stands for quick and slow calls is slow if one call in slowUses is. The second cut is of an attempt that began after the first cut. For a
//     frozen server cuts all attempts of a moment, and the cuts of the next attempts tell the breaker.
//   - After a cut, the next attempt of the same use has all of the time that is left. With a part of that time the attempt could do less than
//     the attempt before. If the time runs out, that is a second cut.
//   - An operation is an Op.Name with its Op.Target. maxOps have records of their own, the others share a record.
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

type work struct{ name, target string }

// known is what is known of operations.
type known struct {
	made   time.Time                        // all other times count from here
	ops    atomic.Pointer[map[work]*record] // replaced by a larger map, never changed
	mu     sync.Mutex                       // held by who replaces ops
	others record                           // of all operations that have no record in ops when ops is full
}

// record is what is known of an operation. The zero record is of an operation without a success.
type record struct {
	quick atomic.Int64 // successes; the operation is quick from quickUses on
	until atomic.Int64 // until when the operation is not quick, however many successes there are; 0: there was no success
	cut   atomic.Int64 // when the first of two cuts was; 0: there was none
}

// of returns the record of the operation, nil if there is none.
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

// add returns the record of the operation, a new one if there is none.
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

// answered notes that the server has answered an attempt that began at began. r is what of returned.
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

// cutShort notes that time ran out in an attempt that began at began.
func (k *known) cutShort(r *record, began time.Time) {
	now, first := time.Since(k.made), r.cut.Load()
	switch {
	case first == 0:
		r.cut.CompareAndSwap(0, int64(now))
	case began.Sub(k.made) >= time.Duration(first) && r.cut.CompareAndSwap(first, 0):
		r.isSlow(now)
	}
}

// isQuick says whether the default limit holds for the operation. It may be called on nil.
func (r *record) isQuick() bool { return r != nil && r.quick.Load() >= quickUses }

// succeeded notes a quick success of an operation that is not quick. Of successes at the same moment one may count.
func (r *record) succeeded(now time.Duration) {
	if r.until.Load() == 0 {
		r.until.CompareAndSwap(0, int64(now+quickTime))
	}
	if n := r.quick.Load(); n+1 < quickUses || int64(now) >= r.until.Load() {
		r.quick.CompareAndSwap(n, n+1)
	}
}

// isSlow notes that the operation may need longer than the default limit.
func (r *record) isSlow(now time.Duration) {
	r.until.Store(int64(now + slowTime))
	r.quick.Store(quickUses - slowUses)
}
