package pool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool/internal/errtree"
	"github.com/earnorm/poolstack/pool/internal/poison"

	"github.com/earnorm/poolstack/pool/driver"
)

// Op describes the operation of a use for the layers. The zero Op is an operation without a name.
// Layers do not repeat such an operation after an attempt that may have changed something on the
// server. If the driver is no [driver.Witness], layers do not repeat the operation after it has
// been sent.
type Op struct {
	Name       string // the operation, such as "GET" or "find"; low-cardinality
	Target     string // a collection or a family of keys; low-cardinality
	Key        string // the key for keyed layers; low-cardinality, never an attribute
	Idempotent bool   // a repeated operation has the same effect as a single operation
	Priority   uint8  // for layers that shed load; a higher value is more important

	// Limit bounds a single attempt of this operation. Limit replaces the limit of the attempt layer
	// (RoleAttempt).
	//
	//   - 0 means the limit of the layer.
	//   - A negative Limit means no limit: the operation is meant to block, such as BLPOP. A timeout
	//     of such an operation is no evidence against the server.
	//
	// The limit of the whole use (RoleTotal) holds in every case. A lease is bounded by a positive
	// Limit only, counted from the moment at which the resource is lent; see [Pool.Acquire].
	//
	// Example: a BLPOP in a one-step use, with the defaults of the standard stack. The BLPOP blocks
	// for less than 10 s, or until the deadline of the caller. A timeout counts against the server
	// unless Limit is negative. If BLPOP mostly finds an element at once, the attempt layer regards
	// BLPOP as a quick operation. Without a negative Limit, BLPOP then blocks for less than 3 s, or
	// for half of the caller's time if that is longer. In a lease, BLPOP blocks for as long as the
	// borrower likes.
	Limit time.Duration
}

// Call is a single use of a pool on its way through the layers, or an attempt of a use made with
// Fork. A Call belongs to its use. In a one-step use, a layer must not keep the Call after its
// Handler has returned. In a two-step use, a layer must not keep the Call after its End. The
// methods of a Call must not be called concurrently.
type Call struct {
	op      Op
	hub     *hub
	term    terminal
	ends    []end // of a two-step use: outermost first, the release of the resource last
	values  []value
	caller  context.Context
	started time.Time
	attempt int
	wait    time.Duration
	granted bool // the latest attempt got a resource
	holds   bool // a two-step use holds a resource now
	// The context of the latest attempt was cancelled, by the caller or by a layer that has no need
	// for the attempt any more.
	cancelled bool
	fresh     bool
	told      account // the testimony about the latest attempt; none without a Witness
	twoStep   bool
	nowait    bool // the use is a TryAcquire
	over      bool
	shard     uint32
	limits    *Deadline // the limits counted from the grant
	reach     func(context.Context, *Call)
	from, to  time.Duration // the server's part of the attempt, see Served
	// uses is the number of uses served by this record. The number distinguishes the Call of this use
	// from the Call of a later use.
	uses atomic.Uint64
}

// terminal is the innermost step of a use. A terminal takes a resource and, in a one-step use, runs
// the function of the borrower. A terminal has the types of the resource and of the result, so Call
// needs no type parameters.
type terminal interface {
	run(ctx context.Context, c *Call) error
	fork() *Call         // nil for Do
	adopt(from terminal) // takes over the result of a Get, or the resource of an Acquire
	setResult(v any) error
	recycle()
}

// end is an action at the end of a two-step use.
type end interface {
	fire(c *Call, err error)
}

type endFunc func(error)

func (f endFunc) fire(_ *Call, err error) { f(err) }

// check panics if the Call is used after its end. Only the poisoned Calls of package pooltest make
// this visible.
func (c *Call) check() {
	if c.over {
		panic("pool: a Call was used after its use was over")
	}
}

// Op returns the operation of the use.
func (c *Call) Op() Op { c.check(); return c.op }

// Identity returns the identity of the pool.
func (c *Call) Identity() driver.Identity { c.check(); return c.hub.id }

// TwoStep reports whether the use is an Acquire. In a two-step use, next returns when the resource
// has been lent, and End runs at Release.
func (c *Call) TwoStep() bool { c.check(); return c.twoStep }

// Started returns the time at which the use began. Started reads the clock at the first call in a
// use.
func (c *Call) Started() time.Time {
	c.check()
	if c.started.IsZero() {
		c.started = time.Now()
	}
	return c.started
}

// CallerDeadline returns the deadline of the context given by the borrower, without the limits of
// layers. ok is false if there is no deadline.
func (c *Call) CallerDeadline() (deadline time.Time, ok bool) {
	c.check()
	return c.caller.Deadline()
}

// Clock returns the time of the pool's coarse clock. The time is up to 10 ms old, and older only if
// the process is too busy to run a timer in time. While the pool is in use, Clock costs a fraction
// of time.Now. Clock is for a layer that counts uses over much longer times.
func (c *Call) Clock() time.Time { return c.hub.start.Add(c.Tick()) }

// Tick returns the time of the coarse clock as the time since the pool was made. Tick is for a
// layer that needs only differences between times.
func (c *Call) Tick() time.Duration {
	c.check()
	if now := c.hub.now.Load(); now != 0 {
		return time.Duration(now)
	}
	return c.hub.sinceStart()
}

// Attempt returns the number of this attempt within the use, counted from 1.
func (c *Call) Attempt() int { c.check(); return c.attempt }

// SetAttempt sets the number of the next attempt. A layer that calls its next handler several times
// calls SetAttempt before each call. SetAttempt removes the function set with BeforeAcquire.
// SetAttempt also clears the record of the earlier attempt ([Call.Acquired], [Call.Served]), unless
// the use still holds its resource.
func (c *Call) SetAttempt(n int) {
	c.check()
	c.attempt = n
	if !c.holds {
		c.wait, c.fresh, c.granted, c.cancelled = 0, false, false, false
		c.from, c.to = 0, 0
		c.forget()
	}
	c.reach = nil
}

// forget removes the testimony about the last attempt.
func (c *Call) forget() {
	if c.told.known {
		c.told = account{}
	}
}

// BeforeAcquire sets the function to be called when the next attempt reaches the pool. At this
// moment all layers inside have let the attempt pass, and the attempt has neither a resource nor a
// place in the queue. fn runs in the goroutine of the attempt. If a layer inside refuses the
// attempt, fn is not called. If a layer inside makes several attempts, fn may be called several
// times and concurrently, with a fork in place of c.
//
// BeforeAcquire is for a layer that calls its next handler several times. The layer calls
// BeforeAcquire after SetAttempt, because SetAttempt removes an earlier fn, and before the next
// handler.
func (c *Call) BeforeAcquire(fn func(context.Context, *Call)) { c.check(); c.reach = fn }

// reached calls the function set with BeforeAcquire.
func (c *Call) reached(ctx context.Context) {
	fn := c.reach
	c.reach = nil
	fn(ctx, c)
}

// Shard returns a number for sharded counters. Two Calls in use at the same time on different
// processors mostly have different numbers. A layer that counts every use keeps a counter for each
// of a few shards. The index of the counter is Shard modulo the number of shards. The processors
// then do not contend for a single counter.
func (c *Call) Shard() uint32 { c.check(); return c.shard }

// Acquired describes how the latest attempt got its resource: wait is the time spent waiting, and
// fresh reports whether the resource is new. ok is false if the attempt has no resource yet, or got
// no resource. In the second case wait is the time spent waiting in vain.
func (c *Call) Acquired() (wait time.Duration, fresh, ok bool) {
	c.check()
	return c.wait, c.fresh, c.granted
}

// Served returns the times at which the server's part of the latest attempt began and ended. Both
// are the zero Time while the server has had no part.
//
// If the attempt got a resource: from is the time of the grant if the use had to wait. Otherwise
// from is the zero Time, because the pool read no clock, and the server's part began with the
// attempt. to is the time at which the attempt ended with an error: the return of the borrower's
// function, or Release. After a success, a panic or runtime.Goexit, to is the zero Time.
//
// If the attempt got no resource: from is the time at which the failed dial or the wait began, if
// the server is to blame. to is the time at which the attempt got its error. Both are the zero Time
// if the use waited for other borrowers, or if the attempt was refused.
//
// After [Call.Adopt] both are the times of the fork.
func (c *Call) Served() (from, to time.Time) {
	c.check()
	if c.from != 0 {
		from = c.hub.start.Add(c.from)
	}
	if c.to != 0 {
		to = c.hub.start.Add(c.to)
	}
	return from, to
}

// Classify returns the class of err. err is the outcome of this use or of an attempt of this use.
// For nil the class is zero, and Classify costs nothing.
func (c *Call) Classify(err error) (class driver.Class) {
	c.check()
	if err == nil {
		return class
	}
	c.hub.classifyInto(c.caller, &class, err, c.granted, &c.told)
	if class.Fault != driver.FaultServer {
		return class
	}
	switch {
	case c.cancelled && errors.Is(err, context.Canceled):
		blameCaller(&class)
	case c.granted && c.op.Limit < 0 && errtree.IsTimeout(err): // a blocking operation has blocked
		class.Fault = driver.FaultElsewhere
	}
	return class
}

// Asked reports whether the latest attempt may have sent a command to the server. Asked is false
// for an attempt without a resource, such as a use answered by a layer. If the driver is a
// [driver.Witness], Asked is also false for an attempt without a command. If Asked is false, a
// success is no evidence about the server.
func (c *Call) Asked() bool { c.check(); return c.granted && (!c.told.known || c.told.Asked) }

// Answered reports whether the server has answered a command of the latest attempt without a fault
// of the server. Answered is false if the driver is no [driver.Witness]. A server that has answered
// the first command of a use is not silent, even if the use ends with a deadline.
func (c *Call) Answered() bool { c.check(); return c.told.known && c.told.Answered }

// Observed reports whether some layer observes events. If millions of uses are refused, a layer
// calls Observed first and saves the cost of an [Event] without an observer. A layer emits an
// [EventWarning] in any case.
func (c *Call) Observed() bool { c.check(); return c.hub.observed() }

// Emit reports e to the observers among the layers. Emit fills in Pool, Op, and an empty Attempt or
// Layer. ctx is the context of the reported fact. The caller must not hold a lock. Without an
// observer, Emit does nothing, except for an [EventWarning].
func (c *Call) Emit(ctx context.Context, e Event) {
	c.check()
	switch {
	case c.hub.observed():
		c.emit(ctx, &e, c.hub.observers)
	case e.Kind == EventWarning:
		c.hub.warn(ctx, &e)
	}
}

func (c *Call) emit(ctx context.Context, e *Event, to []observer) {
	e.Op = c.op
	if e.Attempt == 0 {
		e.Attempt = c.attempt
	}
	c.hub.emitUse(ctx, c, e, to)
}

// SetResult sets the result of [Get]. SetResult is for a layer that answers a use itself. The type
// of v must be R of Get, or v is nil. For another type SetResult returns an error with the name of
// the expected type. A use by Do or Acquire has no result, so SetResult returns an error.
func (c *Call) SetResult(v any) error { c.check(); return c.term.setResult(v) }

// Fork returns an independent attempt of the same use, with its own resource, Ends and result. Fork
// is for a layer that makes several attempts at the same time. For Do, Fork returns nil, because
// the function of Do may write to captured variables.
//
// The layer hands the fork to the next handler once. After the handler has returned, the layer
// calls exactly one of two methods: c.Adopt(fork) or fork.Drop(). If the handler panics or calls
// runtime.Goexit, the layer calls fork.Drop in a deferred call. A layer that returns the outcome of
// a fork, success or error, adopts the fork.
func (c *Call) Fork() *Call {
	c.check()
	f := c.term.fork()
	if f == nil {
		return nil
	}
	f.begin(&c.op, c.caller)
	f.started, f.attempt, f.nowait, f.reach = c.started, c.attempt, c.nowait, c.reach
	f.values = append(f.values, c.values...)
	if !c.holds {
		c.granted = false // the earlier attempt is not the latest any more
	}
	return f
}

// OnEnd sets a function to be called once, at the end of the attempt c. c is a fork not yet handed
// to a handler. fn runs after everything else of the attempt: after the Ends of the layers inside,
// and after the resource has been returned to the pool. The argument of fn is the outcome of the
// attempt:
//
//   - [ErrLost] after Drop.
//   - nil after Adopt of a fork of Get, even if the handler of the fork has returned an error.
//   - After Adopt of a fork of Acquire: the outcome of the lease, or the error of the use if there
//     is no lease.
func (c *Call) OnEnd(fn func(error)) { c.check(); c.ends = append(c.ends, endFunc(fn)) }

// Adopt makes the outcome of the fork the outcome of c. In a one-step use, c takes over the result.
// In a two-step use, c takes over the resource, the pending Ends of the layers, and the values kept
// with SetValue. The fork must not be used after Adopt.
func (c *Call) Adopt(fork *Call) {
	c.check()
	fork.check()
	c.wait, c.fresh, c.granted, c.holds, c.told = fork.wait, fork.fresh, fork.granted, fork.holds, fork.told
	c.from, c.to = fork.from, fork.to
	if c.twoStep {
		for fork.limits != nil {
			d := fork.limits
			fork.limits = d.next
			c.limit(d)
		}
		c.ends = append(c.ends, fork.ends...)
		clear(fork.ends)
		fork.ends = fork.ends[:0]
		for _, v := range fork.values { // an End may look for the values of its layer
			c.SetValue(v.key, v.value)
		}
	} else {
		fork.unwind(0, nil)
	}
	c.term.adopt(fork.term)
	fork.finish()
}

// Drop ends a fork without Adopt. The Ends of the fork's layers get [ErrLost], and the resource
// goes back to the pool.
func (c *Call) Drop() {
	c.check()
	defer c.finish()
	c.unwind(0, ErrLost)
}

// init prepares a new Call for the pool. A sync.Pool mostly gives a Call to the processor that used
// the Call last, so each processor mostly has its own shard.
func (c *Call) init(h *hub, term terminal) {
	c.hub, c.term, c.shard = h, term, h.calls.Add(1)
}

// begin prepares the Call for a use.
func (c *Call) begin(op *Op, caller context.Context) {
	c.op, c.caller, c.attempt = *op, caller, 1
}

// finish ends the Call and makes the Call ready for another use. Under a conformance suite an ended
// Call is not used again, so the suite finds later accesses.
func (c *Call) finish() {
	if c.twoStep && c.limits != nil {
		c.endLimits()
	}
	if len(c.hub.commands) > 0 { // without observers of commands no context keeps a Call
		c.uses.Add(1)
	}
	if poison.On.Load() {
		c.over = true
		return
	}
	c.ends = c.ends[:0]
	c.caller, c.started, c.wait = nil, time.Time{}, 0 // op is kept until the next use
	c.granted, c.holds, c.fresh, c.nowait, c.cancelled = false, false, false, false, false
	c.from, c.to = 0, 0
	if c.limits != nil || c.reach != nil {
		c.limits, c.reach = nil, nil
	}
	c.forget()
	if len(c.values) > 0 {
		c.dropValues()
	}
	c.term.recycle()
}

// unwind fires the ends from the innermost end down to mark. If an end panics or calls
// runtime.Goexit, the other ends still run. A fired end stays in its place beyond the end of the
// stack, for the next use.
func (c *Call) unwind(mark int, err error) {
	if len(c.ends) <= mark {
		return
	}
	defer func() {
		if len(c.ends) > mark {
			c.unwind(mark, err)
		}
	}()
	for top := len(c.ends) - 1; top >= mark; top = len(c.ends) - 1 {
		e := c.ends[top]
		if _, ok := e.(endFunc); ok {
			c.ends[top] = nil // the function may refer to data of the use
		}
		c.ends = c.ends[:top]
		e.fire(c, err)
	}
}

// dropGrant removes grant from the ends, because the resource has been returned. grant is the last
// end, with one exception: a layer has called next again, and a layer inside has treated ErrGranted
// as a success.
func (c *Call) dropGrant(grant end) {
	last := len(c.ends) - 1
	if at := last; c.ends[at] != grant {
		for c.ends[at] != grant {
			at--
		}
		copy(c.ends[at:], c.ends[at+1:])
	}
	c.ends[last] = nil
	c.ends, c.holds = c.ends[:last], false
}

// errNoResult returns the error of setResult for a use without a result.
func errNoResult(of string) error {
	return fmt.Errorf("pool: %s has no result that a layer could set", of)
}
