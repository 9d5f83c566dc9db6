package breaker

import (
	"context"
	"slices"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// A breaker refuses only what the evidence is about. A server that fails one operation may serve the others. A server that is too slow for
// callers with 100 ms may serve callers with 2 s.
//
//   - The scope of an open breaker holds the operations (Op.Name and Op.Target) that failed in the run. Uses of other operations pass. The
//     first of them that fails puts its operation into the scope too.
//   - An operation that failed by deadlines of its callers only is refused to callers with at most twice as long as the longest of the failed
//     calls had. Callers with more time pass, and a failure of theirs raises the bound.
//   - A failure to get a resource is evidence about all operations. So are failures of more operations than maxScope. An explicit
//     ConsecutiveFailures and FailureRatio are about the server as a whole, whatever the probes show.
//   - A probe that succeeds takes its operation out of the scope. When nothing is left, the breaker closes. The operation whose probe failed
//     last leaves the next round to the others for one OpenFor.
//   - A caller with more time is a probe too if there is a permit, and passes without a permit. Such a success counts if it took no longer than
//     the failed calls had.
//   - A half-open breaker that has waited for Config.Window takes any use as a probe: the operations in the scope may not be used any more.
//
// Uses that pass an open breaker without a permit can only widen the scope. A scope does not change once it is published.

const (
	maxScope = 16                       // operations in a scope
	forever  = time.Duration(1<<63 - 1) // of scoped.held: callers are refused whatever their deadlines

	// moreTime is how many times as long as the failed calls had a caller must have to pass. A smaller number refuses fewer callers that would
	// be served. A larger one spares a frozen server's callers the wait: each kind of caller with more time waits for one deadline of its own.
	moreTime = 2
)

// work is a kind of work.
type work struct{ name, target string }

func workOf(c *pool.Call) work {
	op := c.Op()
	return work{op.Name, op.Target}
}

// scoped is an operation in a scope.
type scoped struct {
	work

	held time.Duration // how long the longest of the failed calls had, or forever
}

// scope is what an open breaker refuses.
type scope struct {
	all   bool // every use
	fixed bool // by an explicit setting: probes do not change the scope
	ops   []scoped
}

var (
	whole = &scope{all: true, fixed: true}
	wide  = &scope{all: true}
	none  = &scope{}
)

// covers says whether the evidence concerns a use of c, and whether the use is refused in ctx. If nothing is left in the scope, the rest of
// the probes decides about all uses.
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

// held is how long the longest of the failed calls of w had, or forever.
func (s *scope) held(w work) time.Duration {
	if i := s.index(w); i >= 0 && !s.all {
		return s.ops[i].held
	}
	return forever
}

// served says whether the probes that have succeeded leave nothing to refuse. A resource that a probe has got contradicts evidence about all.
func (s *scope) served() bool { return s.all || len(s.ops) == 0 }

func (s *scope) index(w work) int {
	return slices.IndexFunc(s.ops, func(o scoped) bool { return o.work == w })
}

// unreached says whether the evidence is that no resource could be had, or that many operations failed: a look that passes contradicts.
func (s *scope) unreached() bool { return s.all && !s.fixed }

// with returns the scope with one failure more.
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

// afterProbe returns the scope after a probe of w, which failed with f, or succeeded if f is nil. A resource that a probe has got says that
// the evidence about all operations is out of date.
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
