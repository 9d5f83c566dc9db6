package retry

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// All operations share the budget. An operation that always fails, such as a command on a broken
// collection, would spend the tokens earned by the other operations. The other operations would
// lose their retries. So an operation with retries in vain is rarely retried:
//
//   - A use is in vain if the use was retried and failed nevertheless. After vainUses such uses in
//     a row, over at least vainTime, only 1 use in vainShare of the operation is retried.
//   - A success of the operation, in any attempt, ends this limit.
//   - An operation is an Op.Name with an Op.Target. At most vainOps operations are counted. A
//     success costs nothing while no operation is counted.

const (
	vainUses  = 8
	vainTime  = time.Second // a shorter outage ends before the callers' deadlines
	vainShare = 32
	vainOps   = 256
)

// work identifies an operation.
type work struct{ name, target string }

func workOf(c *pool.Call) work {
	op := c.Op()
	return work{op.Name, op.Target}
}

// vain counts the uses in vain of each operation.
type vain struct {
	ops sync.Map // from work to *streak
	n   atomic.Int64
}

// streak counts the uses of an operation in vain since the operation's last success.
type streak struct {
	uses  atomic.Int64 // includes the uses not retried because of the streak
	since time.Time
}

// allows reports whether a use of c may be retried.
func (v *vain) allows(c *pool.Call) bool {
	if v.n.Load() == 0 {
		return true
	}
	found, ok := v.ops.Load(workOf(c))
	if !ok {
		return true
	}
	s, _ := found.(*streak)
	if s.uses.Load() < vainUses || time.Since(s.since) < vainTime {
		return true
	}
	return s.uses.Add(1)%vainShare == 0
}

// failed counts a use in vain.
func (v *vain) failed(c *pool.Call) {
	w := workOf(c)
	found, ok := v.ops.Load(w)
	if !ok {
		if v.n.Load() >= vainOps {
			return
		}
		if found, ok = v.ops.LoadOrStore(w, &streak{since: time.Now()}); !ok {
			v.n.Add(1)
		}
	}
	s, _ := found.(*streak)
	s.uses.Add(1)
}

// succeeded ends the streak of c's operation.
func (v *vain) succeeded(c *pool.Call) {
	if v.n.Load() == 0 {
		return
	}
	if _, ok := v.ops.LoadAndDelete(workOf(c)); ok {
		v.n.Add(-1)
	}
}
