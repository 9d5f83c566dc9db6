package pooltest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool/driver"
)

// The errors returned by a [Fake] and its connections, spontaneously or by [Fake.Inject].
// [Fake.Classify] returns the class of each error.
var (
	// ErrBroken has FaultServer and RepeatIfIdempotent, and its connection is broken.
	ErrBroken = errors.New("pooltest: the connection is broken")
	// ErrRefused has FaultServer and RepeatAlways.
	ErrRefused = errors.New("pooltest: the server refused it unexecuted")
	// ErrDenied has FaultServer and RepeatNever.
	ErrDenied = errors.New("pooltest: the server will not do this for you")
	// ErrReply has FaultNone and RepeatNever.
	ErrReply = errors.New("pooltest: a healthy server's error reply")
	// ErrMiss has FaultNone and RepeatNever, and is a miss.
	ErrMiss = errors.New("pooltest: no such thing")
	// ErrClosed has FaultLocal and RepeatNever, and its connection is broken.
	ErrClosed = errors.New("pooltest: the connection is closed")
)

// Fault is a failure in a step. A Fault may return an error, block until ctx is over, sleep, panic
// or end the goroutine. A Fault that returns nil lets the step go on.
type Fault func(ctx context.Context) error

// Fail returns a Fault that returns err.
func Fail(err error) Fault { return func(context.Context) error { return err } }

// Slow returns a Fault that waits for d and returns nil. If ctx ends earlier, the Fault returns
// ctx.Err().
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

// Hang returns a Fault that blocks until ctx is over and returns ctx.Err().
func Hang() Fault {
	return func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

// Panic returns a Fault that panics with v.
func Panic(v any) Fault { return func(context.Context) error { panic(v) } }

// Exit returns a Fault that calls runtime.Goexit.
func Exit() Fault {
	return func(context.Context) error {
		runtime.Goexit()
		return nil
	}
}

// Step is a method of a [Fake] or a [Conn] that can be made to fail.
type Step uint8

// The steps. Use is [Conn.Use]; the other steps are methods of [Fake].
const (
	Open Step = iota
	Check
	Reset
	Close
	Use
	steps
)

// Fake is an in-memory driver of [*Conn] with scripted faults. A Fake records misuse of its
// connections, see [Fake.Violations]. A Fake is also a [driver.Resetter], a [driver.Interrupter], a
// [driver.Inspector], a [driver.Classifier] and a [driver.Identifier]. To test a pool without these
// interfaces, embed the Fake as a driver.Driver in a struct. The zero Fake is ready to use. All
// methods may be called concurrently.
type Fake struct {
	mu         sync.Mutex
	faults     [steps]Fault
	left       [steps]int // number of calls still to meet the fault; negative: all
	dieAfter   int
	opened     int
	closed     int
	alive      int
	peak       int
	violations []string
}

// Conn is a connection of a [Fake]. Only [Fake.Open] makes a usable Conn. Two calls of Use or Block
// at the same time are a violation.
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

// Inject makes the next n calls of step meet the fault. A negative n means all calls until the next
// Inject. n = 0 or a nil fault removes the fault.
func (f *Fake) Inject(step Step, n int, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[step], f.left[step] = fault, n
}

// DieAfter makes every connection break after n uses: the next use fails. 0 means never.
func (f *Fake) DieAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dieAfter = n
}

// meet runs the fault injected into step, if any.
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

// Open makes a connection. Open returns the error of an injected fault. A ctx without a deadline is
// a violation.
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

// Check returns ErrBroken for a broken connection and ErrClosed for a closed connection.
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

// Close closes the connection. Close returns the error of an injected fault; the connection is
// closed nevertheless.
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

// Dirty reports whether the connection is soiled.
func (f *Fake) Dirty(c *Conn) bool { return c.soiled.Load() }

// Reset removes the state left by [Conn.Soil]. Reset returns ErrClosed for a closed connection.
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

// Interrupt breaks the connection. A [Conn.Block] in progress returns ErrBroken at once. A
// [Conn.Use] in progress returns ErrBroken after the injected fault, if the fault returns nil.
func (f *Fake) Interrupt(c *Conn) {
	if c.closed.Load() {
		f.violate(fmt.Sprintf("connection %d was interrupted after it had been closed", c.ID))
	}
	c.broken.Store(true)
	c.once.Do(func() { close(c.interrupted) })
}

// Inspect returns the number of the connection, with the key "conn".
func (f *Fake) Inspect(_ context.Context, c *Conn) (map[string]string, error) {
	return map[string]string{"conn": fmt.Sprint(c.ID)}, nil
}

// Classify classifies the errors of this package and of contexts. Any other error has
// [driver.FaultElsewhere].
func (f *Fake) Classify(err error) driver.Class {
	switch {
	case errors.Is(err, ErrBroken), errors.Is(err, context.DeadlineExceeded):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true}
	case errors.Is(err, context.Canceled): // this client cancels nothing by itself
		return driver.Class{Fault: driver.FaultCaller, Broken: true}
	case errors.Is(err, ErrRefused):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Code: "REFUSED"}
	case errors.Is(err, ErrDenied):
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatNever, Code: "DENIED"}
	case errors.Is(err, ErrReply):
		return driver.Class{Code: "REPLY"}
	case errors.Is(err, ErrMiss):
		return driver.Class{Miss: true}
	case errors.Is(err, ErrClosed):
		return driver.Class{Fault: driver.FaultLocal, Broken: true}
	}
	return driver.Class{Fault: driver.FaultElsewhere}
}

// Identity returns the system "fake", the address "memory" and the namespace "0".
func (f *Fake) Identity() driver.Identity {
	return driver.Identity{System: "fake", Address: "memory", Namespace: "0"}
}

// Counts returns the number of connections opened so far, closed so far and alive now, and the
// highest number alive at a time.
func (f *Fake) Counts() (opened, closed, alive, peak int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opened, f.closed, f.alive, f.peak
}

// Violations returns the recorded violations: an Open without a deadline; two calls for the same
// connection at the same time; a use, check, reset or interrupt after the close; a second close; a
// close during a use.
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

// enter marks c as busy until the caller resets busy. enter records a violation if c is closed or
// already busy. If c is closed, enter returns ErrClosed.
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

// Use stands for a command. Use meets the injected fault and returns the error of the fault. Use
// returns ErrBroken if the connection is broken, and ErrClosed if the connection is closed. Like
// many clients, Use does not watch ctx by itself; only a fault does. The connection breaks if the
// fault returns ErrBroken, or returns an error when ctx is over.
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

// Block is a command without an answer. Block watches no context. Only [Fake.Interrupt] makes Block
// return, with ErrBroken.
func (c *Conn) Block() error {
	if err := c.enter("Block"); err != nil {
		return err
	}
	defer c.busy.Store(false)
	<-c.interrupted
	return ErrBroken
}

// Soil leaves state for the next borrower, unless the connection is reset.
func (c *Conn) Soil() { c.soiled.Store(true) }

// Soiled reports whether the connection has state left by Soil.
func (c *Conn) Soiled() bool { return c.soiled.Load() }

// Break makes the connection fail from now on, as after a loss of the server.
func (c *Conn) Break() { c.broken.Store(true) }
