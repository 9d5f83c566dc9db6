package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// The times of the model. The steps of a schedule are multiples of modelStep. Waits and idle times
// end between two steps, so no end coincides with a step.
const (
	modelStep    = 50 * time.Millisecond
	modelWait    = 40*modelStep + modelStep/2 // Config.AcquireTimeout
	modelIdle    = 60*modelStep + modelStep/2 // Config.MaxIdleTime
	modelWaiters = 3                          // Config.MaxWaiters
	unseen       = 0                          // the ID of a connection not seen by any borrower so far
)

// model is a simple model of a pool, with a driver without delays and faults.
type model struct {
	size    int
	idle    []modelConn // the last is lent first
	lent    []*borrower
	waiters []*borrower
	paused  bool
	seen    map[int]bool
	stat    pool.Stat // the counters
}

type modelConn struct {
	id   int
	used time.Duration
}

// borrower is a single acquisition, with the answer of the pool and the expectation of the model.
type borrower struct {
	since  time.Duration
	cancel context.CancelFunc

	lease pool.Lease[conn]
	err   error
	over  bool // the pool has answered

	wantOver bool
	wantErr  error
	wantID   int
	cleared  bool // the connection is closed at the release
	released bool
}

func (m *model) room() int { return m.size - len(m.idle) - len(m.lent) }

func (m *model) acquire(b *borrower, now time.Duration, nowait bool) {
	n := len(m.idle)
	switch {
	case m.paused:
		m.refuse(b, pool.ErrPaused, &m.stat.Refused)
	case n > 0: // then no borrower waits
		id := m.idle[n-1].id
		m.idle = m.idle[:n-1]
		m.grant(b, id)
	case nowait:
		m.refuse(b, pool.ErrExhausted, &m.stat.Refused)
		if len(m.waiters) == 0 && m.room() > 0 {
			m.open(now)
		}
	case m.room() > 0:
		m.stat.Opened++
		m.grant(b, unseen)
	case len(m.waiters) >= modelWaiters:
		m.refuse(b, pool.ErrExhausted, &m.stat.Refused)
	default:
		b.since = now
		m.waiters = append(m.waiters, b)
	}
}

func (m *model) open(now time.Duration) {
	m.stat.Opened++
	m.idle = append(m.idle, modelConn{unseen, now})
}

func (m *model) grant(b *borrower, id int) {
	b.wantOver, b.wantID = true, id
	m.stat.Acquires++
	m.lent = append(m.lent, b)
}

func (m *model) refuse(b *borrower, err error, counter *uint64) {
	b.wantOver, b.wantErr = true, err
	*counter++
}

// serve opens connections for the waiters, as far as MaxSize allows.
func (m *model) serve() {
	for len(m.waiters) > 0 && m.room() > 0 {
		m.stat.Opened++
		m.grant(m.first(), unseen)
	}
}

func (m *model) first() *borrower {
	b := m.waiters[0]
	m.waiters = m.waiters[1:]
	return b
}

func (m *model) release(b *borrower, now time.Duration, reason pool.CloseReason) {
	surplus := len(m.idle)+len(m.lent) > m.size
	m.lent = slices.DeleteFunc(m.lent, func(other *borrower) bool { return other == b })
	switch {
	case reason != 0:
		m.stat.Closed[reason]++
	case b.cleared:
		m.stat.Closed[pool.CloseCleared]++
	case surplus:
		m.stat.Closed[pool.CloseShrunk]++
	case len(m.waiters) > 0:
		m.grant(m.first(), b.wantID)
	default:
		m.idle = append(m.idle, modelConn{b.wantID, now})
	}
	m.serve()
}

func (m *model) clear() {
	m.stat.Closed[pool.CloseCleared] += uint64(len(m.idle))
	m.idle = nil
	for _, b := range m.lent {
		b.cleared = true
	}
	m.serve()
}

func (m *model) pause() {
	m.paused = true
	for len(m.waiters) > 0 {
		m.refuse(m.first(), pool.ErrPaused, &m.stat.Refused)
	}
}

func (m *model) resize(size int) {
	m.size = size
	for m.room() < 0 && len(m.idle) > 0 {
		m.idle = m.idle[1:]
		m.stat.Closed[pool.CloseShrunk]++
	}
	m.serve()
}

func (m *model) cancel(b *borrower) {
	m.waiters = slices.DeleteFunc(m.waiters, func(other *borrower) bool { return other == b })
	m.refuse(b, pool.ErrAcquireCanceled, &m.stat.Cancelled)
}

// pass ends the waits and idle times that have lasted too long.
func (m *model) pass(now time.Duration) {
	for len(m.waiters) > 0 && now-m.waiters[0].since > modelWait {
		m.refuse(m.first(), pool.ErrAcquireTimeout, &m.stat.TimedOut)
	}
	for len(m.idle) > 0 && now-m.idle[0].used > modelIdle {
		m.idle = m.idle[1:]
		m.stat.Closed[pool.CloseIdle]++
	}
}

// agrees compares a borrower with the expectation of the model, and tells the model the ID of a new
// connection.
func (m *model) agrees(b *borrower) error {
	if b.over != b.wantOver || !errors.Is(b.err, b.wantErr) || b.err != nil && b.wantErr == nil {
		return fmt.Errorf("answered %t with %v, want %t with %v", b.over, b.err, b.wantOver, b.wantErr)
	}
	if !b.over || b.err != nil || b.released {
		return nil
	}
	c, ok := b.lease.Value()
	switch {
	case !ok:
		return errors.New("the lease is over")
	case b.wantID == unseen && !m.seen[c.ID]:
		b.wantID = c.ID
		m.seen[c.ID] = true
	case b.wantID != c.ID:
		return fmt.Errorf("got connection %d, want %d (0: a new one)", c.ID, b.wantID)
	}
	return nil
}

// modelRun applies a random schedule to the pool and to the model.
type modelRun struct {
	*model
	*dice
	pool    *pool.Pool[conn]
	start   time.Time
	history []string
}

func (r *modelRun) now() time.Duration { return time.Since(r.start) }

func (r *modelRun) didf(format string, args ...any) {
	r.history = append(r.history, fmt.Sprintf("%v ", r.now())+fmt.Sprintf(format, args...))
}

func (r *modelRun) borrow(nowait bool) *borrower {
	ctx, cancel := context.WithCancel(background)
	b := &borrower{cancel: cancel}
	acquire := r.pool.Acquire
	if nowait {
		acquire = r.pool.TryAcquire
	}
	r.didf("acquire, nowait %t", nowait)
	r.acquire(b, r.now(), nowait)
	go func() {
		b.lease, b.err = acquire(ctx, op)
		b.over = true
	}()
	synctest.Wait()
	return b
}

func (r *modelRun) giveBack(b *borrower) {
	end, reason := func() bool { return b.lease.Release(nil) }, pool.CloseReason(0)
	switch r.roll(6) {
	case 0:
		end, reason = func() bool { return b.lease.Release(pooltest.ErrBroken) }, pool.CloseBroken
	case 1:
		end, reason = func() bool { return b.lease.Discard(nil) }, pool.CloseDiscard
	case 2:
		end = func() bool { return b.lease.Release(pooltest.ErrReply) }
	}
	r.didf("release %d, close reason %q", b.wantID, reason)
	r.release(b, r.now(), reason)
	b.released = true
	if !end() || b.lease.Release(nil) {
		r.didf("the lease does not end once")
	}
}

// step makes a random step, and returns the new borrowers.
func (r *modelRun) step() []*borrower {
	switch r.roll(14) {
	case 0, 1, 2, 3:
		return []*borrower{r.borrow(false)}
	case 4:
		return []*borrower{r.borrow(true)}
	case 5, 6, 7:
		if len(r.lent) > 0 {
			r.giveBack(r.lent[r.roll(len(r.lent))])
		}
	case 8: // a burst
		var all []*borrower
		for range 2 * r.size {
			b := r.borrow(false)
			all = append(all, b)
			if r.roll(2) == 0 && b.over && b.err == nil && r.agrees(b) == nil {
				r.giveBack(b)
				all = all[:len(all)-1]
			}
		}
		return all
	case 9:
		if len(r.waiters) > 0 {
			b := r.waiters[r.roll(len(r.waiters))]
			r.didf("cancel a waiter")
			r.cancel(b)
			b.cancel()
		}
	case 10:
		r.manage()
	default:
		r.didf("time passes")
		time.Sleep(time.Duration(r.roll(30)) * modelStep)
		r.pass(r.now())
	}
	return nil
}

// manage does the work of an operator.
func (r *modelRun) manage() {
	switch r.roll(5) {
	case 0:
		r.didf("clear")
		r.clear()
		r.pool.Clear()
	case 1:
		r.didf("pause")
		r.pause()
		r.pool.Pause(nil)
	case 2:
		r.didf("resume")
		r.paused = false
		r.pool.Resume()
	case 3:
		size := 1 + r.roll(5)
		r.didf("resize to %d", size)
		r.resize(size)
		if err := r.pool.Configure(modelConfig(size)); err != nil {
			r.didf("%v", err)
		}
	case 4:
		if r.paused {
			return
		}
		want := r.roll(r.size + 1)
		r.didf("warm up to %d", want)
		for len(r.idle)+len(r.lent) < want {
			r.open(r.now())
		}
		if err := r.pool.Warm(background, want); err != nil {
			r.didf("%v", err)
		}
	}
}

func modelConfig(size int) pool.Config {
	return pool.Config{MaxSize: size, MaxWaiters: modelWaiters, AcquireTimeout: modelWait, MaxIdleTime: modelIdle}
}

// differs compares the pool with the model.
func (r *modelRun) differs(borrowers []*borrower) error {
	var errs []error
	for i, b := range borrowers {
		if err := r.agrees(b); err != nil {
			errs = append(errs, fmt.Errorf("borrower %d: %w", i, err))
		}
	}
	want := r.stat
	want.Max, want.Idle, want.InUse, want.Waiters = r.size, len(r.idle), len(r.lent), len(r.waiters)
	got := r.pool.Stat()
	want.OldestLease, want.Waited, want.TotalWait = got.OldestLease, got.Waited, got.TotalWait
	if got != want {
		errs = append(errs, fmt.Errorf("Stat is  %+v\n    want %+v", got, want))
	}
	return errors.Join(append(errs, pool.CheckBooks(r.pool))...)
}

// Thousands of random schedules. Each borrower gets exactly the connection or the error predicted
// by a simple model of a pool. All counters agree after each step.
func TestPoolAgreesWithAModel(t *testing.T) {
	schedules := uint64(3000)
	if raceEnabled {
		schedules /= 10
	}
	for seed := range schedules {
		synctest.Test(t, func(t *testing.T) {
			r := &modelRun{dice: &dice{random: rand.New(rand.NewPCG(seed, 12))}, start: time.Now()}
			r.model = &model{size: 1 + r.roll(5), seen: map[int]bool{}}
			if err := r.play(t); err != nil {
				t.Errorf("seed %d: %v\n%s", seed, err, strings.Join(r.history, "\n"))
			}
		})
		if t.Failed() {
			return
		}
	}
}

func (r *modelRun) play(t *testing.T) error {
	fake := &pooltest.Fake{}
	var d driver.Driver[conn] = fake
	if r.roll(2) == 0 {
		d = bareDriver{fake, fake}
	}
	seen := newRecorder()
	layers := [][]pool.Middleware{nil, twoLayers(), append(twoLayers(), seen)}[r.roll(3)]
	r.pool = newPoolOver(t, fake, d, modelConfig(r.size), layers...)
	var borrowers []*borrower
	for range 40 {
		borrowers = append(borrowers, r.step()...)
		synctest.Wait()
		if err := r.differs(borrowers); err != nil {
			return err
		}
		borrowers = slices.DeleteFunc(borrowers, func(b *borrower) bool {
			return !slices.Contains(r.lent, b) && !slices.Contains(r.waiters, b)
		})
		time.Sleep(modelStep)
		r.pass(r.now())
	}
	for len(r.lent) > 0 {
		r.giveBack(r.lent[0])
		synctest.Wait()
		if err := r.differs(borrowers); err != nil {
			return err
		}
		time.Sleep(modelStep)
		r.pass(r.now())
	}
	if len(layers) > 2 {
		if n := len(seen.only(pool.EventAcquired)); uint64(n) != r.stat.Acquires {
			return fmt.Errorf("%d leases were observed, want %d", n, r.stat.Acquires)
		}
	}
	return nil
}
