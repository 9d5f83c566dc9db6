package pool

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool/internal/poison"
)

// Op says what a use is about, for the layers. The zero Op is a nameless operation that is not repeated once it may have
// changed something: if the driver is no [Witness], once it has been sent.
type Op struct {
	Name       string // the operation: "GET", "find"; low-cardinality
	Target     string // what it works on: a collection, a family of keys; low-cardinality
	Key        string // what keyed layers key by; low-cardinality, never an attribute
	Idempotent bool   // doing it twice is like doing it once
	Priority   uint8  // for layers that shed load: higher is more important

	// Limit bounds one attempt of this operation in place of the limit of the attempt layer (RoleAttempt). 0 means the layer's limit.
	// Negative means no limit: the operation is meant to block, as BLPOP is, and time that runs out in it is no evidence against the
	// server. The limit of the whole use (RoleTotal) holds in every case. A lease is bounded by a positive Limit only, from its grant on;
	// see [Pool.Acquire].
	//
	// So with the defaults of the standard stack a BLPOP in a one-step use blocks for less than 10 s, or until the caller's deadline. Time that
	// runs out in it counts against the server, unless Limit is negative. A BLPOP that mostly finds something at once is known to be quick:
	// without a negative Limit it blocks for less than 3 s, or half of the caller's time if that is more. In a lease the BLPOP blocks for as
	// long as the borrower likes.
	Limit time.Duration
}

// Call is one use of a pool on its way through the layers, or one attempt of it made with Fork. It belongs to the use: a layer must not
// keep it after its End, or after its Handler has returned in a one-step use. Its methods are for one goroutine at a time.
type Call struct {
	op        Op
	hub       *hub
	term      terminal
	ends      []end // of a two-step use: outermost first, the grant's own end last
	values    []value
	caller    context.Context
	started   time.Time
	attempt   int
	wait      time.Duration
	granted   bool // the latest attempt got a resource
	holds     bool // a two-step use holds a resource now
	cancelled bool // the latest attempt's own context was cancelled, by the caller or by a layer that needs it no more
	fresh     bool
	told      account // what the witness, if there is one, has seen of the latest attempt
	twoStep   bool
	nowait    bool // TryAcquire
	over      bool
	shard     uint32
	limits    *Deadline // that count from the grant
	reach     func(context.Context, *Call)
	from, to  time.Duration // of the server's part, see Served
	uses      atomic.Uint64 // how many uses it has served: tells the Call of this use from that of a later one
}

// terminal is the innermost step of a use: it takes a resource and, in a one-step use, runs the borrower's function. It knows the types
// of resource and result, so that Call need not.
type terminal interface {
	run(ctx context.Context, c *Call) error
	fork() *Call         // nil for Do
	adopt(from terminal) // takes over the result of a Get, the grant of an Acquire
	setResult(v any) error
	recycle()
}

// end is something to do when a two-step use ends.
type end interface {
	fire(c *Call, err error)
}

type endFunc func(error)

func (f endFunc) fire(_ *Call, err error) { f(err) }

// check panics when the Call is used after its end, which only the poisoned Calls of package pooltest can tell.
func (c *Call) check() {
	if c.over {
		panic("pool: a Call was used after its use was over")
	}
}

// Op returns what the use is about.
func (c *Call) Op() Op { c.check(); return c.op }

// Identity returns what the pool connects to.
func (c *Call) Identity() Identity { c.check(); return c.hub.id }

// TwoStep says whether the use is an Acquire: then the handler's next returns when the resource has been lent, and End runs at Release.
func (c *Call) TwoStep() bool { c.check(); return c.twoStep }

// Started returns when the use began, read from the clock when the first layer asks.
func (c *Call) Started() time.Time {
	c.check()
	if c.started.IsZero() {
		c.started = time.Now()
	}
	return c.started
}

// CallerDeadline returns the deadline of the context that the borrower gave, without the limits of layers. ok is false if there is none.
func (c *Call) CallerDeadline() (deadline time.Time, ok bool) {
	c.check()
	return c.caller.Deadline()
}

// Clock returns the time by the pool's coarse clock: up to 10 ms old, and older only when the process is too busy to run a timer in time.
// While the pool is in use that costs a fraction of time.Now. It is for a layer that counts uses over times much longer than that.
func (c *Call) Clock() time.Time { return c.hub.start.Add(c.Tick()) }

// Tick is Clock as the time since the pool was made: for a layer that only needs to know how much later one moment is than another.
func (c *Call) Tick() time.Duration {
	c.check()
	if now := c.hub.now.Load(); now != 0 {
		return time.Duration(now)
	}
	return c.hub.sinceStart()
}

// Attempt returns which attempt of the use this is, from 1.
func (c *Call) Attempt() int { c.check(); return c.attempt }

// SetAttempt is called by a layer that calls its next handler repeatedly, before each call.
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

// forget lets go of a testimony.
func (c *Call) forget() {
	if c.told.known {
		c.told = account{}
	}
}

// OnReach has fn called when the attempt that is about to be made comes to the pool, after all layers inside have let it pass: before it
// gets or waits for a resource, in its goroutine. fn is not called for an attempt that a layer inside refuses. It may be called more than
// once, and concurrently, with a fork in place of c, if a layer inside makes several attempts. It is for a layer that calls its next handler
// repeatedly, between SetAttempt, which forgets an earlier fn, and that call.
func (c *Call) OnReach(fn func(context.Context, *Call)) { c.check(); c.reach = fn }

// reached calls what OnReach was given.
func (c *Call) reached(ctx context.Context) {
	fn := c.reach
	c.reach = nil
	fn(ctx, c)
}

// Shard returns a number that Calls in use at the same time, on different processors, mostly do not share. A layer that counts every use
// keeps a cell for each of a few shards, modulo their number, so that the processors do not contend for one.
func (c *Call) Shard() uint32 { c.check(); return c.shard }

// Acquired says how the latest attempt came by its resource: how long it waited for it, and whether the resource is new. ok is false
// when it has none yet, or got none; wait is then how long it waited in vain.
func (c *Call) Acquired() (wait time.Duration, fresh, ok bool) {
	c.check()
	return c.wait, c.fresh, c.granted
}

// Served says when the server's part of the latest attempt began and ended. Both are the zero Time as long as the server has had no part.
//
// An attempt that got its resource: from is the grant if the use had to wait, else the zero Time, as no clock was read. Then the server's
// part began with the attempt. to is when the attempt ended with an error: when the borrower's function returned, or at Release. After a
// success, a panic or runtime.Goexit to is the zero Time.
//
// An attempt that got no resource: from is when the dial or the wait began that the server is blamed for, to when the attempt was told.
// Both are the zero Time if the wait was for other borrowers, or the attempt was refused.
//
// After [Call.Adopt] both are those of the fork.
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

// Classify says what err, the outcome of this use or of an attempt of it, means. It costs nothing for nil.
func (c *Call) Classify(err error) (class Class) {
	c.check()
	if err == nil {
		return class
	}
	c.hub.classifyInto(c.caller, &class, err, c.granted, &c.told)
	if class.Fault != FaultServer {
		return class
	}
	switch {
	case c.cancelled && errors.Is(err, context.Canceled):
		class.overrule()
	case c.granted && c.op.Limit < 0 && isTimeout(err): // an operation that is meant to block has blocked
		class.Fault = FaultElsewhere
	}
	return class
}

// Asked says whether the latest attempt may have asked its server anything. Asked is false for an attempt without a resource, such as a use
// answered by a layer, and for an attempt without a command, if the driver is a [Witness]. Such a success says nothing about the server.
func (c *Call) Asked() bool { c.check(); return c.granted && (!c.told.known || c.told.Asked) }

// Answered says whether the server has answered something in the latest attempt, without a fault of its own. Answered is false if the driver is no
// [Witness]. A server that answers the first command of a use is not silent, though the use may end in a deadline.
func (c *Call) Answered() bool { c.check(); return c.told.known && c.told.Answered }

// Observed says whether some layer observes, so that Emit has somebody to report to. Where uses are refused by the million, an [Event]
// that nobody hears of is worth not making.
func (c *Call) Observed() bool { c.check(); return c.hub.observed() }

// Emit reports e to the observers among the layers, filling in Pool, Op and Attempt. ctx is the context the fact happened in.
// It must not be called while a lock is held.
func (c *Call) Emit(ctx context.Context, e Event) {
	c.check()
	if c.hub.observed() {
		c.emit(ctx, &e, c.hub.observers)
	}
}

func (c *Call) emit(ctx context.Context, e *Event, to []observer) {
	e.Op = c.op
	if e.Attempt == 0 {
		e.Attempt = c.attempt
	}
	c.hub.emitUse(ctx, c, e, to)
}

// SetResult sets what [Get] returns, for a layer that answers a use itself. The type of v must be Get's R; the error says which it is
// when it is not, and that a use by Do or Acquire has no result to set.
func (c *Call) SetResult(v any) error { c.check(); return c.term.setResult(v) }

// Fork returns an independent attempt of the same use, with its own resource, ends and result, for a layer that makes several at once.
// It is nil for Do, whose function may write to captured variables. The fork is handed to the next handler once; afterwards exactly one
// of c.Adopt(fork) and fork.Drop() is called, once that handler has returned. If it panics or exits, that is Drop, in a deferred call.
// A layer that returns a fork's outcome, be it an error, adopts that fork.
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
		c.granted = false // the attempt before is not the latest any more
	}
	return f
}

// OnEnd has fn called when the attempt ends, after everything else of it, with its outcome: [ErrLost] after Drop, and nil when a fork of
// Get is adopted, whatever it came to. It is for a fork that has not been used yet.
func (c *Call) OnEnd(fn func(error)) { c.check(); c.ends = append(c.ends, endFunc(fn)) }

// Adopt makes the fork's outcome that of c: its result in a one-step use; its resource, and the ends of its layers with the values they
// keep, in a two-step one. The fork is over.
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
		for _, v := range fork.values { // the layers that ends belong to look for theirs
			c.SetValue(v.key, v.value)
		}
	} else {
		fork.unwind(0, nil)
	}
	c.term.adopt(fork.term)
	fork.finish()
}

// Drop ends a fork that was not adopted: its layers' ends see [ErrLost], its resource goes back to the pool.
func (c *Call) Drop() {
	c.check()
	defer c.finish()
	c.unwind(0, ErrLost)
}

// init makes a new Call one of a pool's. It is kept by the processor that used it last, so each has a shard of its own.
func (c *Call) init(h *hub, term terminal) {
	c.hub, c.term, c.shard = h, term, h.calls.Add(1)
}

// begin readies a Call for a use.
func (c *Call) begin(op *Op, caller context.Context) {
	c.op, c.caller, c.attempt = *op, caller, 1
}

// finish ends a Call: it serves another use, unless a conformance suite wants to see who still touches it.
func (c *Call) finish() {
	if c.twoStep && c.limits != nil {
		c.endLimits()
	}
	if len(c.hub.commands) > 0 { // nobody else keeps a Call in a context
		c.uses.Add(1)
	}
	if poison.On.Load() {
		c.over = true
		return
	}
	c.ends = c.ends[:0]
	c.caller, c.started, c.wait = nil, time.Time{}, 0 // the Op stays until the next
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

// unwind fires the ends down to mark, innermost first. One that panics or exits does not keep the others from running. What has been
// fired stays in its place beyond the end of the stack, for the next use.
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
			c.ends[top] = nil // it holds what the use held
		}
		c.ends = c.ends[:top]
		e.fire(c, err)
	}
}

// dropGrant takes the grant, which has been given back, from among the ends. It is the last, unless a layer has called next once more and
// another, further in, has taken ErrGranted for success.
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

// errNoResult is returned by setResult where there is none to set.
func errNoResult(of string) error {
	return fmt.Errorf("pool: %s has no result that a layer could set", of)
}
