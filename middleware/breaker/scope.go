package breaker

import (
	"context"
	"slices"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// A breaker rejects only the operations in its evidence. A server may fail a single operation and
// serve all other operations. A server may be too slow for callers with 100 ms and fast enough for
// callers with 2 s.
//
//   - The scope of an open breaker holds the operations (Op.Name and Op.Target) that failed in the
//     run. Uses of other operations pass. The first failure of another operation adds the operation
//     to the scope.
//   - If an operation failed only at deadlines of its callers, the breaker rejects only callers
//     with little time. Little time is at most twice the time of the longest failed attempt.
//     Callers with more time, or without a deadline, pass. A failure of such a caller raises the
//     bound.
//   - A failure to acquire a resource is evidence about all operations. Failures of more operations
//     than maxScope are evidence about all operations, too. An explicit ConsecutiveFailures and
//     FailureRatio concern the whole server, so probes do not change their scope.
//   - A successful probe removes its operation from the scope. When the scope is empty, the breaker
//     closes. The operation of the latest failed probe leaves the next round to the other
//     operations for OpenFor.
//   - A caller with more time is a probe if there is a permit, and passes without a permit
//     otherwise. The success of such a probe counts if the probe took no longer than the failed
//     attempts.
//   - After Config.Window in half-open, any use may be a probe, because the operations in the scope
//     may not be used any more.
//
// A use passing an open breaker without a permit can only widen the scope. A published scope does
// not change.

const (
	maxScope = 16 // maximum number of operations in a scope
	// forever as scoped.held means: callers are rejected whatever their deadlines.
	forever = time.Duration(1<<63 - 1)

	// moreTime is the ratio between the caller's time and the time of the failed attempts. A caller
	// with a larger ratio passes. A smaller moreTime rejects fewer callers with enough time. A larger
	// moreTime spares more callers of a frozen server the wait. Each group of callers with more time
	// waits for a deadline before the breaker rejects the group.
	moreTime = 2
)

// work identifies an operation.
type work struct{ name, target string }

func workOf(c *pool.Call) work {
	op := c.Op()
	return work{op.Name, op.Target}
}

// scoped is an operation in a scope.
type scoped struct {
	work

	held time.Duration // the time of the longest failed attempt, or forever
}

// scope is the set of uses rejected by an open breaker.
type scope struct {
	all   bool // all uses
	fixed bool // because of an explicit setting: probes do not change the scope
	ops   []scoped
}

var (
	whole = &scope{all: true, fixed: true}
	wide  = &scope{all: true}
	none  = &scope{}
)

// covers reports whether the evidence concerns a use of c, and whether the breaker rejects the use
// in ctx. If the scope is empty, both are true: the remaining probes decide about all uses.
func (s *scope) covers(ctx context.Context, c *pool.Call) (concerned, refused bool) {
	if s.all || len(s.ops) == 0 {
		return true, true
	}
	i := s.index(workOf(c))
	if i < 0 {
		return false, false
	}
	held := s.ops[i].held
	if held >= forever/moreTime {
		return true, true
	}
	deadline, ok := ctx.Deadline()
	return true, ok && time.Until(deadline) <= moreTime*held
}

// held returns the time of the longest failed attempt of w, or forever.
func (s *scope) held(w work) time.Duration {
	if i := s.index(w); i >= 0 && !s.all {
		return s.ops[i].held
	}
	return forever
}

// served reports whether the successful probes leave nothing to reject. If the evidence is about
// all operations, a resource acquired by a probe contradicts the evidence.
func (s *scope) served() bool { return s.all || len(s.ops) == 0 }

func (s *scope) index(w work) int {
	return slices.IndexFunc(s.ops, func(o scoped) bool { return o.work == w })
}

// unreached reports whether the evidence is a failure to acquire a resource, or failures of many
// operations. A passed look contradicts this evidence.
func (s *scope) unreached() bool { return s.all && !s.fixed }

// with returns the scope with the failure f added.
func (s *scope) with(f *failure) *scope {
	i := s.index(f.work)
	switch {
	case s.all:
		return s
	case !f.granted || i < 0 && len(s.ops) == maxScope:
		return wide
	case i >= 0 && s.ops[i].held >= f.held:
		return s
	}
	ops := slices.Clone(s.ops)
	if i < 0 {
		return &scope{ops: append(ops, scoped{f.work, f.held})}
	}
	ops[i].held = f.held
	return &scope{ops: ops}
}

// afterProbe returns the scope after a probe of w. f is the failure of the probe, nil after a
// success. If a failed probe had a resource, evidence about all operations is out of date.
func (s *scope) afterProbe(w work, f *failure) *scope {
	switch i := s.index(w); {
	case s.fixed:
		return s
	case f != nil && f.granted && s.all:
		return none.with(f)
	case f != nil:
		return s.with(f)
	case i >= 0:
		return &scope{ops: slices.Delete(slices.Clone(s.ops), i, i+1)}
	}
	return s
}
