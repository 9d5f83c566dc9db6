package pool_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// frenzy is a pool used in every way by a few borrowers, sometimes one after the other, sometimes
// concurrently.
type frenzy struct {
	t    *testing.T
	fake *pooltest.Fake
	pool *pool.Pool[conn]
	over atomic.Bool

	lent, ended atomic.Uint64 // leases and uses with a connection
	denied      atomic.Uint64 // leases and uses without a connection
	probes      atomic.Uint64 // calls of Check
	refused     atomic.Uint64 // uses refused by a layer after the grant
	releasers   sync.WaitGroup
}

// Two or three borrowers cancel, panic, exit, and release twice and late. Meanwhile the pool is
// checked, warmed, cleared, paused and configured. Each acquisition is counted once, a connection
// has at most one borrower at a time, and no connection is lost.
func TestEveryWayAtOnce(t *testing.T) {
	for name, layers := range map[string][]pool.Middleware{
		"no layers": nil,
		"layers":    {pool.Bracket(&pooltest.Spy{}), pool.MiddlewareFunc(fickle), pool.Bracket(&pooltest.Spy{})},
	} {
		t.Run(name, func(t *testing.T) { runFrenzy(t, layers) })
	}
}

var errFickle = errors.New("refused after all")

// fickle is a layer that sometimes refuses a two-step use after the grant, and calls next twice.
func fickle(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		err := next(ctx, c)
		if err != nil || !c.TwoStep() {
			return err
		}
		switch rand.IntN(20) {
		case 0:
			return errFickle
		case 1:
			if err := next(ctx, c); !errors.Is(err, pool.ErrGranted) {
				return err
			}
		}
		return nil
	}
}

func runFrenzy(t *testing.T, layers []pool.Middleware) {
	t.Helper()
	const borrowers, most = 3, 3
	f := &frenzy{t: t, fake: &pooltest.Fake{}}
	var err error
	if f.pool, err = pool.New(bareDriver{f.fake, f.fake}, pool.Config{MaxSize: 2, MinIdle: 1}, layers...); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range borrowers {
		all.Go(f.borrow)
	}
	all.Go(func() { f.meddle(most) })
	time.Sleep(stormDuration(t))
	f.over.Store(true)
	back := make(chan struct{})
	go func() { all.Wait(); f.releasers.Wait(); close(back) }()
	select {
	case <-back:
	case <-time.After(stormPatience):
		t.Fatalf("borrowers are lost: %+v", f.pool.Stat())
	}
	s := f.pool.Stat()
	if s.Acquires+s.Cancelled+s.TimedOut+s.Refused+s.Failed != f.lent.Load()+f.denied.Load()+f.probes.Load()+f.refused.Load() {
		t.Errorf("%d lent, %d denied, %d probes, %d refused: %+v", f.lent.Load(), f.denied.Load(), f.probes.Load(), f.refused.Load(), s)
	}
	if f.lent.Load() != f.ended.Load() || s.InUse != 0 || s.Waiters != 0 {
		t.Errorf("%d lent, %d ended: %+v", f.lent.Load(), f.ended.Load(), s)
	}
	closePool(t, f.pool)
	for _, v := range f.fake.Violations() {
		t.Error(v)
	}
	if _, _, alive, peak := f.fake.Counts(); alive != 0 || peak > most {
		t.Errorf("%d connections are alive, %d were", alive, peak)
	}
}

// borrow uses the pool in bursts.
func (f *frenzy) borrow() {
	ways := []func(context.Context){f.lease, f.lease, f.lease, f.try, f.do, f.do, f.abort}
	for !f.over.Load() {
		way := ways[rand.IntN(len(ways))]
		for range rand.IntN(60) {
			ctx, cancel := someContext()
			way(ctx)
			cancel()
		}
		if rand.IntN(4) == 0 {
			time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
		}
	}
}

// someContext returns a context that mostly has not ended.
func someContext() (ctx, func()) {
	if rand.IntN(20) == 0 {
		c, d := pool.WithDeadline(background, time.Now().Add(time.Duration(rand.IntN(2000))*time.Microsecond), nil)
		return c, d.Cancel
	}
	c, cancel := context.WithCancel(background)
	switch rand.IntN(20) {
	case 0:
		cancel()
	case 1:
		time.AfterFunc(time.Duration(rand.IntN(20))*time.Microsecond, cancel)
	}
	return c, cancel
}

func (f *frenzy) got(err error) bool {
	var refusal *pool.Error
	switch {
	case err == nil:
		f.lent.Add(1)
	case errors.Is(err, errFickle):
		f.refused.Add(1)
	case errors.As(err, &refusal):
		f.denied.Add(1)
	default:
		f.t.Error(err)
	}
	return err == nil
}

// use fails the test if another use of c is in progress.
func (f *frenzy) use(c conn) {
	if err := c.Use(background); err != nil {
		f.t.Error(err)
	}
}

func (f *frenzy) lease(ctx context.Context) {
	l, err := f.pool.Acquire(ctx, op)
	if !f.got(err) {
		return
	}
	c, ok := l.Value()
	if !ok {
		f.t.Error("the lease is over from the beginning")
	}
	f.use(c)
	if rand.IntN(10) == 0 {
		f.releasers.Go(func() { f.end(l) })
	}
	f.end(l)
	if _, ok := l.Value(); ok {
		f.t.Error("a lease that is over has a value")
	}
}

func (f *frenzy) end(l pool.Lease[conn]) {
	var ended bool
	switch rand.IntN(30) {
	case 0:
		ended = l.Discard(nil)
	case 1:
		ended = l.Release(pooltest.ErrBroken)
	case 2, 3:
		ended = l.Release(pooltest.ErrReply)
	default:
		ended = l.Release(nil)
	}
	if ended {
		f.ended.Add(1)
	}
}

func (f *frenzy) try(ctx context.Context) {
	l, err := f.pool.TryAcquire(ctx, op)
	if f.got(err) {
		c, _ := l.Value()
		f.use(c)
		f.end(l)
	}
}

func (f *frenzy) do(ctx context.Context) {
	id, err := pool.Get(ctx, f.pool, op, func(_ context.Context, c conn) (int, error) {
		f.use(c)
		if rand.IntN(30) == 0 {
			f.pool.Stat() // the snapshot is taken during a use
		}
		return c.ID, nil
	})
	if f.got(err) {
		f.ended.Add(1)
		if id == 0 {
			f.t.Error("no result")
		}
	}
}

// abort ends a use by a panic or by runtime.Goexit.
func (f *frenzy) abort(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		f.got(f.pool.Do(ctx, op, func(_ context.Context, c conn) error {
			f.lent.Add(1)
			f.ended.Add(1)
			f.use(c)
			if rand.IntN(2) == 0 {
				runtime.Goexit()
			}
			panic("boom")
		}))
	}()
	<-done
}

// meddle calls the other methods of the pool.
func (f *frenzy) meddle(most int) {
	deeds := []func(context.Context){
		func(context.Context) { f.pool.Clear() },
		func(context.Context) { f.configure(1 + rand.IntN(most)) },
		func(context.Context) { f.pool.CloseExpired() },
		func(context.Context) { f.pool.Pause(nil); f.pool.Resume() },
		func(ctx context.Context) { _ = f.pool.Warm(ctx, 1) },
		func(ctx context.Context) { f.probes.Add(1); f.pool.Check(ctx) },
		f.look, f.look,
	}
	for !f.over.Load() {
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		ctx, cancel := contextWithTimeout(time.Millisecond)
		deeds[rand.IntN(len(deeds))](ctx)
		cancel()
	}
}

func (f *frenzy) configure(size int) {
	cfg := pool.Config{MaxSize: size, MinIdle: rand.IntN(size + 1), MaxLifetime: 50 * time.Millisecond}
	cfg.CheckAfter = []time.Duration{0, 1, -1, 20 * time.Millisecond}[rand.IntN(4)]
	cfg.KeepAlive = time.Duration(rand.IntN(2)) * 15 * time.Millisecond
	cfg.LeakAfter = time.Duration(rand.IntN(2)) * time.Millisecond
	if err := f.pool.Configure(cfg); err != nil {
		f.t.Error(err)
	}
}

func (f *frenzy) look(context.Context) {
	for range 20 {
		if err := pool.CheckBooks(f.pool); err != nil {
			f.t.Error(err)
		}
		runtime.Gosched()
	}
	if s := f.pool.Stat(); s.InUse < 0 || s.Idle < 0 {
		f.t.Errorf("the books are wrong: %+v", s)
	}
}
