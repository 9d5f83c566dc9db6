package retry

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// All operations share the budget. An operation that fails for good, such as a command on a broken collection, would spend what the others
// earn, and the others would miss their retries. So an operation whose retries are in vain is not repeated:
//
//   - A use that was repeated and failed nevertheless was in vain. After vainUses of an operation in a row, within vainTime at least, only one
//     use in vainShare of the operation is repeated.
//   - A success of the operation ends that, at whatever attempt.
//   - An operation is an Op.Name with its Op.Target. At most vainOps are counted. A success costs nothing while none is.

const (
	vainUses  = 8
	vainTime  = time.Second // a shorter outage is over before the callers' time is
	vainShare = 32
	vainOps   = 256
)

type work struct{ name, target string }

func workOf(c *pool.Call) work {
	op := c.Op()
	return work{op.Name, op.Target}
}

// vain counts uses in vain, by operation.
type vain struct {
	ops sync.Map // of *streak, by work
	n   atomic.Int64
}

// streak counts the uses of an operation in vain since its last success.
type streak struct {
	uses  atomic.Int64 // and those that were not repeated for this reason
	since time.Time
}

// allows says whether a use of c may be repeated.
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

// failed notes a use in vain.
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

// succeeded notes a success.
func (v *vain) succeeded(c *pool.Call) {
	if v.n.Load() == 0 {
		return
	}
	if _, ok := v.ops.LoadAndDelete(workOf(c)); ok {
		v.n.Add(-1)
	}
}
