package pooltest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// The errors that a [Fake] and its connections return by themselves or are made to return; they are classified as their texts say.
var (
	ErrBroken  = errors.New("pooltest: the connection is broken")            // server, repeat if idempotent, broken
	ErrRefused = errors.New("pooltest: the server refused it unexecuted")    // server, repeat always
	ErrDenied  = errors.New("pooltest: the server will not do this for you") // server, repeat never
	ErrReply   = errors.New("pooltest: a healthy server's error reply")      // none, repeat never
	ErrMiss    = errors.New("pooltest: no such thing")                       // none, a miss
	ErrClosed  = errors.New("pooltest: the connection is closed")            // local, broken
)

// A Fault is what goes wrong in a step: it may return an error, block until ctx is over, sleep, panic or end the goroutine.
type Fault func(ctx context.Context) error

// Fail returns err.
func Fail(err error) Fault { return func(context.Context) error { return err } }

// Slow takes d, or until ctx is over.
func Slow(d time.Duration) Fault {
	return func(ctx context.Context) error {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Hang blocks until ctx is over.
func Hang() Fault {
	return func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

// Panic panics with v.
func Panic(v any) Fault { return func(context.Context) error { panic(v) } }

// Exit calls runtime.Goexit.
func Exit() Fault {
	return func(context.Context) error {
		runtime.Goexit()
		return nil
	}
}

// Step is a point at which a [Fake] can be made to fail.
type Step uint8

// The steps.
const (
	Open Step = iota
	Check
	Reset
	Close
	Use
	steps
)

// Fake is an in-memory driver of [*Conn] with scripted faults. It keeps book of what the pool does with its connections: see
// Violations. It is every optional face of a driver; to test a pool without them, embed it as a pool.Driver in a struct. The zero Fake
// works. All methods may be called concurrently.
type Fake struct {
	mu         sync.Mutex
	faults     [steps]Fault
	left       [steps]int // how often the fault is due; negative: always
	dieAfter   int
	opened     int
	closed     int
	alive      int
	peak       int
	violations []string
}

// Conn is a connection of a [Fake].
type Conn struct {
	ID   int // from 1, in the order of opening
	fake *Fake

	busy        atomic.Bool
	closed      atomic.Bool
	broken      atomic.Bool
	soiled      atomic.Bool
	uses        atomic.Int64
	interrupted chan struct{}
	once        sync.Once
}

// Inject makes the next n calls of step meet the fault; a negative n stands for all of them, until the next Inject. n = 0 or a nil fault
// takes the fault away.
func (f *Fake) Inject(step Step, n int, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[step], f.left[step] = fault, n
}

// DieAfter makes every connection break after n uses; 0 stands for never.
func (f *Fake) DieAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dieAfter = n
}

func (f *Fake) meet(ctx context.Context, step Step) error {
	f.mu.Lock()
	fault := f.faults[step]
	if f.left[step] == 0 {
		fault = nil
	} else if f.left[step] > 0 {
		f.left[step]--
	}
	f.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(ctx)
}

// Open makes a connection.
func (f *Fake) Open(ctx context.Context) (*Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		f.violate("Open was called without a deadline")
	}
	if err := f.meet(ctx, Open); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opened++
	f.alive++
	f.peak = max(f.peak, f.alive)
	return &Conn{ID: f.opened, fake: f, interrupted: make(chan struct{})}, nil
}

// Check fails for a broken connection.
func (f *Fake) Check(ctx context.Context, c *Conn) error {
	if err := c.enter("Check"); err != nil {
		return err
	}
	defer c.busy.Store(false)
	if err := f.meet(ctx, Check); err != nil {
		return err
	}
	if c.broken.Load() {
		return ErrBroken
	}
	return nil
}

// Close ends the connection.
func (f *Fake) Close(ctx context.Context, c *Conn) error {
	if c.closed.Swap(true) {
		f.violate(fmt.Sprintf("connection %d was closed twice", c.ID))
	}
	if c.busy.Load() {
		f.violate(fmt.Sprintf("connection %d was closed while in use", c.ID))
	}
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.closed++
		f.alive--
	}()
	return f.meet(ctx, Close)
}

// Dirty says whether the connection has been soiled.
func (f *Fake) Dirty(c *Conn) bool { return c.soiled.Load() }

// Reset cleans the connection.
func (f *Fake) Reset(ctx context.Context, c *Conn) error {
	if err := c.enter("Reset"); err != nil {
		return err
	}
	defer c.busy.Store(false)
	if err := f.meet(ctx, Reset); err != nil {
		return err
	}
	c.soiled.Store(false)
	return nil
}

// Interrupt makes a Use in progress return ErrBroken.
func (f *Fake) Interrupt(c *Conn) {
	if c.closed.Load() {
		f.violate(fmt.Sprintf("connection %d was interrupted after it had been closed", c.ID))
	}
	c.broken.Store(true)
	c.once.Do(func() { close(c.interrupted) })
}

// Inspect reports the connection's number.
func (f *Fake) Inspect(_ context.Context, c *Conn) (map[string]string, error) {
	return map[string]string{"conn": fmt.Sprint(c.ID)}, nil
}

// Classify knows the errors of this package; any other is the caller's own affair.
func (f *Fake) Classify(err error) pool.Class {
	switch {
	case errors.Is(err, ErrBroken), errors.Is(err, context.DeadlineExceeded):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatIfIdempotent, Broken: true}
	case errors.Is(err, context.Canceled): // this client cancels nothing by itself
		return pool.Class{Fault: pool.FaultCaller, Broken: true}
	case errors.Is(err, ErrRefused):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatAlways, Code: "REFUSED"}
	case errors.Is(err, ErrDenied):
		return pool.Class{Fault: pool.FaultServer, Repeat: pool.RepeatNever, Code: "DENIED"}
	case errors.Is(err, ErrReply):
		return pool.Class{Code: "REPLY"}
	case errors.Is(err, ErrMiss):
		return pool.Class{Miss: true}
	case errors.Is(err, ErrClosed):
		return pool.Class{Fault: pool.FaultLocal, Broken: true}
	}
	return pool.Class{Fault: pool.FaultElsewhere}
}

// Identity says that it is a fake.
func (f *Fake) Identity() pool.Identity {
	return pool.Identity{System: "fake", Address: "memory", Namespace: "0"}
}

// Counts returns how many connections have been opened and closed, are alive now, and were alive at most.
func (f *Fake) Counts() (opened, closed, alive, peak int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened, f.closed, f.alive, f.peak
}

// Violations lists what nobody may do to a connection: use it from two hands at a time, use, check, reset or interrupt it after it has
// been closed, close it twice or while it is in use.
func (f *Fake) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.violations...)
}

func (f *Fake) violate(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.violations = append(f.violations, what)
}

// enter notes that somebody works with c, until busy is reset.
func (c *Conn) enter(what string) error {
	if c.closed.Load() {
		c.fake.violate(fmt.Sprintf("%s of connection %d after it had been closed", what, c.ID))
		return ErrClosed
	}
	if c.busy.Swap(true) {
		c.fake.violate(fmt.Sprintf("%s of connection %d while it was in another hand", what, c.ID))
	}
	return nil
}

// Use stands for a command: it meets the fault scripted for it and fails when the connection is broken. Like many clients it does not
// look at ctx while it waits for an answer, except that a scripted fault does; an interrupt makes it return.
func (c *Conn) Use(ctx context.Context) error {
	if err := c.enter("Use"); err != nil {
		return err
	}
	defer c.busy.Store(false)
	if err := c.fake.meet(ctx, Use); err != nil {
		if errors.Is(err, ErrBroken) || ctx.Err() != nil {
			c.broken.Store(true)
		}
		return err
	}
	c.fake.mu.Lock()
	limit := c.fake.dieAfter
	c.fake.mu.Unlock()
	if n := c.uses.Add(1); limit > 0 && n > int64(limit) {
		c.broken.Store(true)
	}
	if c.broken.Load() {
		return ErrBroken
	}
	return nil
}

// Block is a Use that never gets an answer and does not look at any context: only an interrupt makes it return, with ErrBroken.
func (c *Conn) Block() error {
	if err := c.enter("Block"); err != nil {
		return err
	}
	defer c.busy.Store(false)
	<-c.interrupted
	return ErrBroken
}

// Soil leaves something behind for the next borrower, unless the connection is reset.
func (c *Conn) Soil() { c.soiled.Store(true) }

// Soiled says whether something has been left behind.
func (c *Conn) Soiled() bool { return c.soiled.Load() }

// Break makes the connection fail from now on, as when the server goes away.
func (c *Conn) Break() { c.broken.Store(true) }
