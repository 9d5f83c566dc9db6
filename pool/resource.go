package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/earnorm/poolstack/pool/internal/errtree"
)

// resource is a resource of the pool and its history. The pool's lock guards the fields. Exception:
// the fields of the present lease belong to the holder of the lease.
//
// The states of a resource, and the functions that move a resource from state to state:
//
//	state     recorded in                      entered by   left by
//	dialing   Pool.opening (no resource yet)   spawnDial    opened
//	idle      Pool.idle                        shelve       ready, popIdle, reap, keepAlive, makeRoom
//	lent      Pool.inUse; seq odd until claim  lend         back, returnUnused
//	checking  Pool.checking                    spawnProof   proved
//	closing   Pool.closing                     retire       retired
//
// A resource is in Pool.all from opened to retired. All moves are made under the lock.
type resource[T any] struct {
	p *Pool[T]
	v T

	use       atomic.Pointer[leaseUse[T]] // of the present lease, if there are layers
	seq       uint64                      // odd during a lease; a lease with an older number is over
	slot      int                         // the index in Pool.all
	gen       uint64                      // Pool.gen at the start of the dial
	trust     uint64                      // Pool.suspicion at the latest proof of a working resource
	uses      uint64                      // the number of leases
	jitter    float64                     // the reduction of MaxLifetime, as a share
	untouched bool                        // not lent since the dial or the latest check

	// Times on the pool's clock.
	opened  time.Duration // the end of the dial
	expires time.Duration // 0 means never
	used    time.Duration // the end of the latest lease, or of the dial
	proven  time.Duration // the end of the latest lease, check without error, or dial
	since   time.Duration // the start of the present lease, to within a step of the clock
	lentAt  time.Duration // the exact start of the lease, if an observer wants the release

	// The present lease.
	watch       context.Context // the end of this context interrupts the use
	unwatch     func() bool     // set while the maintainer watches the context
	ctx         context.Context // the innermost context, if an observer wants the release
	doom        CloseReason     // the reason to close the resource after the lease, or closeNot
	interrupted chan struct{}   // set by an interrupt, closed at the end of the interrupt
	stack       []uintptr       // the stack of the borrower
	leaked      bool            // the leak has been reported, or the lease is no leak
	told        account         // the testimony of the witness, if the driver is a Witness
	doubt       bool            // the resource needs a check before the next lease
	failed      bool            // the outcome of the use has a fault, see learn
}

// lent reports whether a lease is active. lent is false as soon as the lease has been claimed.
func (r *resource[T]) lent() bool { return r.seq&1 == 1 }

// forgetUse removes the record of a lease that is over. The ends in the record may refer to other
// resources, and these resources to other records. The chain would keep closed resources in memory.
func (r *resource[T]) forgetUse() {
	if r.use.Load() != nil {
		r.use.Store(nil)
	}
}

// jitterShare is the largest reduction of MaxLifetime for a resource, as a share.
const jitterShare = 0.1

// fire is the innermost end of a two-step use: fire returns the resource to the pool.
func (r *resource[T]) fire(c *Call, err error) {
	c.holds = false
	r.p.give(c.caller, c, r, err)
}

// add makes a resource of the value opened by the driver. The caller holds the lock.
func (p *Pool[T]) add(v T, gen uint64) *resource[T] {
	now := p.elapsed()
	r := &resource[T]{p: p, v: v, gen: gen, trust: p.suspicion, slot: len(p.all), opened: now, used: now, proven: now}
	r.untouched = true
	r.jitter = rand.Float64() * jitterShare
	r.setLifetime(p.cfg.MaxLifetime)
	p.all = append(p.all, r)
	return r
}

// setLifetime sets the end of the lifetime of r. The caller holds the lock.
func (r *resource[T]) setLifetime(lifetime time.Duration) {
	r.expires = 0
	if lifetime > 0 {
		r.expires = plus(r.opened, lifetime-time.Duration(float64(lifetime)*r.jitter))
	}
}

// doomAs marks r to be closed for the given reason. An earlier reason stays.
func (r *resource[T]) doomAs(reason CloseReason) {
	if r.doom == closeNot {
		r.doom = reason
	}
}

// recordStack records the stack of the borrower for a leak report.
func (r *resource[T]) recordStack() {
	var stack [32]uintptr
	n := runtime.Callers(3, stack[:])
	r.p.mu.Lock()
	r.stack = append(r.stack[:0], stack[:n]...)
	r.p.mu.Unlock()
}

// formatStack returns the text of debug.Stack for recorded program counters.
func formatStack(pcs []uintptr) string {
	if len(pcs) == 0 {
		return "" // lent before Config.LeakAfter was set
	}
	var b []byte
	frames := runtime.CallersFrames(pcs)
	for {
		f, more := frames.Next()
		b = fmt.Appendf(b, "%s\n\t%s:%d\n", f.Function, f.File, f.Line)
		if !more {
			return string(b)
		}
	}
}

// protect calls a method of the driver, and returns an error for a panic. After runtime.Goexit in
// the method, the goroutine still ends. So a caller of protect does all necessary work in a
// deferred function.
func protect(method string, f func() error) error { return contained("the driver's", method, f) }

// contain is protect for a method of a layer.
func contain(layer any, method string, f func() error) error {
	return contained(fmt.Sprintf("the layer %T's", layer), method, f)
}

func contained(whose, method string, f func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if cause := recover(); cause != nil {
			err = fmt.Errorf("pool: %s %s panicked: %v", whose, method, cause)
		}
	}()
	if err = f(); err != nil {
		err = sound(whose, method, err)
	}
	returned = true
	return err
}

// sound returns err. If a method of err panics, like a method of a nil pointer, sound returns
// another error. The pool and the layers call methods of an error in their own goroutines, and a
// panic in such a goroutine ends the process.
func sound(whose, method string, err error) (checked error) {
	defer func() {
		if cause := recover(); cause != nil {
			checked = fmt.Errorf("pool: %s %s returned an error whose methods panic, a %T: %v", whose, method, err, cause)
		}
	}()
	_, _, _ = err.Error(), errors.Is(err, errExited), errtree.IsTimeout(err)
	return err
}
