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
//	lent      seq is odd, Pool.inUse           lend         back, returnUnused
//	checking  Pool.checking                    spawnProof   proved
//	closing   Pool.closing                     retire       retired
//
// A resource is in Pool.all from opened to retired. All moves are made under the lock.
type resource[T any] struct {
	p *Pool[T]
	v T

	use       atomic.Pointer[leaseUse[T]] // the present lease's, if there are layers
	seq       uint64                      // odd while lent; a lease is over when it has moved on
	slot      int                         // index in Pool.all
	gen       uint64                      // Pool.gen when opening began
	trust     uint64                      // Pool.suspicion when it was last known to work
	uses      uint64
	jitter    float64 // the share of MaxLifetime that it forgoes
	untouched bool    // not lent since it was opened or passed a check

	// Times on the pool's clock.
	opened  time.Duration
	expires time.Duration // 0 means never
	used    time.Duration // when it last came back
	proven  time.Duration // when it last came back, or passed a check
	since   time.Duration // when the present lease began, to within a step of the clock
	lentAt  time.Duration // the same, exactly, if anybody wants to hear of its release

	// Of the present lease.
	watch       context.Context // what its end interrupts
	unwatch     func() bool     // once the maintainer has seen to that
	ctx         context.Context // the innermost, if anybody wants to hear of its release
	doom        CloseReason     // it is to be closed whatever the outcome
	interrupted chan struct{}   // closed when the interrupt that has begun is over
	stack       []uintptr       // the borrower's
	leaked      bool            // reported already
	told        account         // what the witness, if there is one, has seen
	doubt       bool            // it is to be checked before it is lent again
	failed      bool            // by an error that is no answer: how long it took says nothing
}

func (r *resource[T]) lent() bool { return r.seq&1 == 1 }

// forgetUse lets go of the record of the lease that is over. The record may refer to other
// resources among its ends, and those to records: closed resources would stay in memory.
func (r *resource[T]) forgetUse() {
	if r.use.Load() != nil {
		r.use.Store(nil)
	}
}

// jitterShare is how much of MaxLifetime the draw of a resource can take away.
const jitterShare = 0.1

// fire is the innermost end of a two-step use: it gives the resource back.
func (r *resource[T]) fire(c *Call, err error) {
	c.holds = false
	r.p.give(c.caller, c, r, err)
}

// add makes a resource of what the driver opened. It is called under the lock.
func (p *Pool[T]) add(v T, gen uint64) *resource[T] {
	now := p.elapsed()
	r := &resource[T]{p: p, v: v, gen: gen, trust: p.suspicion, slot: len(p.all), opened: now, used: now, proven: now}
	r.untouched = true
	r.jitter = rand.Float64() * jitterShare
	r.setLifetime(p.cfg.MaxLifetime)
	p.all = append(p.all, r)
	return r
}

// setLifetime works out when r has reached its lifetime. It is called under the lock.
func (r *resource[T]) setLifetime(lifetime time.Duration) {
	r.expires = 0
	if lifetime > 0 {
		r.expires = plus(r.opened, lifetime-time.Duration(float64(lifetime)*r.jitter))
	}
}

// doomAs has r closed for the reason given, unless there is one already.
func (r *resource[T]) doomAs(reason CloseReason) {
	if r.doom == closeNot {
		r.doom = reason
	}
}

// recordStack keeps the borrower's stack, for the report of a leak.
func (r *resource[T]) recordStack() {
	var stack [32]uintptr
	n := runtime.Callers(3, stack[:])
	r.p.mu.Lock()
	r.stack = append(r.stack[:0], stack[:n]...)
	r.p.mu.Unlock()
}

// formatStack is runtime/debug.Stack for recorded program counters.
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

// protect calls one of the driver's methods and makes an error of a panic or a Goexit. In the
// latter case the goroutine ends all the same, so whoever calls protect must do in a deferred
// function what has to be done in any case.
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

// sound returns err, or another error in place of an err whose methods panic, as those of a nil
// pointer do: the pool and the layers ask an error in goroutines of their own, where a panic ends
// the process.
func sound(whose, method string, err error) (checked error) {
	defer func() {
		if cause := recover(); cause != nil {
			checked = fmt.Errorf("pool: %s %s returned an error whose methods panic, a %T: %v", whose, method, err, cause)
		}
	}()
	_, _, _ = err.Error(), errors.Is(err, errExited), errtree.IsTimeout(err)
	return err
}
