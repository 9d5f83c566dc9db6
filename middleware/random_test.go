package middleware_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

// rWatch counts events and attempts.
type rWatch struct {
	mu      sync.Mutex
	kinds   map[pool.EventKind]int
	moves   []rMove
	further int
	start   time.Time
}

// rMove is a change of the breaker's state.
type rMove struct {
	at               time.Duration
	from, to, reason string
}

func (w *rWatch) Wrap(next pool.Handler) pool.Handler { return next }

func (w *rWatch) Observe(_ context.Context, e pool.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kinds[e.Kind]++
	switch e.Kind {
	case pool.EventStateChanged:
		w.moves = append(w.moves, rMove{time.Since(w.start), e.From, e.To, e.Reason})
	}
}

type rCounter struct{ w *rWatch }

func (k rCounter) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		if c.Attempt() > 1 {
			k.w.mu.Lock()
			k.w.further++
			k.w.mu.Unlock()
		}
		return next(ctx, c)
	}
}

// rRun is a plan in progress, and its invariants: no use outlasts its bound, no use waits while a
// place is free, and the counts add up.
type rRun struct {
	plan           *rPlan
	start          time.Time
	s, inner, dead *simServer
	p, ip, down    *pool.Pool[*simConn]
	uses           []*simUse
	stack          *middleware.Stack
	w              *rWatch
	t              *testing.T
}

func (r *rRun) failf(format string, args ...any) {
	r.t.Errorf("seed %d: %s", r.plan.seed, fmt.Sprintf(format, args...))
}

func (r *rRun) now() time.Duration { return time.Since(r.start) }

func rndRun(t *testing.T, plan *rPlan) {
	r := &rRun{t: t, plan: plan}
	synctest.Test(t, func(t *testing.T) {
		r.start = time.Now()
		r.s, r.inner, r.dead = plan.server(), plan.server(), plan.server()
		r.dead.busy = 1
		r.w = &rWatch{kinds: map[pool.EventKind]int{}, start: time.Now()}
		r.stack = standard(t, quiet())
		layers := append(append([]pool.Middleware{r.w}, r.stack.Layers()...), rCounter{r.w})
		r.p = rndPool(t, r.s, pool.Config{Name: "outer", MaxSize: plan.size, MinIdle: plan.minIdle}, layers)
		r.ip = rndPool(t, r.inner, pool.Config{Name: "inner", MaxSize: 50}, nil)
		r.down = rndPool(t, r.dead, pool.Config{Name: "down", MaxSize: 50}, nil)
		go plan.follow(r.s)
		stop := make(chan struct{})
		var monitors, callers sync.WaitGroup
		monitors.Go(func() { r.monitor(stop) })
		for i, u := range plan.uses {
			time.Sleep(u.at - r.now())
			op := pool.Op{Name: []string{"GET", "SET", "MGET"}[i%3], Idempotent: u.idempotent}
			r.uses = append(r.uses, &simUse{simOp: &simOp{op: op}})
			use := r.uses[i]
			callers.Go(func() { r.use(i, u, use) })
		}
		callers.Wait()
		close(stop)
		monitors.Wait()
		for _, p := range []*pool.Pool[*simConn]{r.p, r.ip, r.down} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := p.Close(ctx); err != nil {
				r.failf("Close: %v", err)
			}
			cancel()
		}
		if n := r.s.held; n != 0 {
			r.failf("%d connections after Close", n)
		}
		r.books()
	})
}

func rndPool(t *testing.T, s *simServer, cfg pool.Config, layers []pool.Middleware) *pool.Pool[*simConn] {
	p, err := pool.New(simDriver{s}, cfg, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (r *rRun) use(i int, u rUse, use *simUse) {
	ctx, cancel := context.WithCancel(context.Background())
	if u.deadline > 0 {
		ctx, cancel = context.WithTimeout(context.Background(), u.deadline)
	}
	defer cancel()
	if u.cancel > 0 {
		defer time.AfterFunc(u.cancel, cancel).Stop()
	}
	began := time.Now()
	op := use.op
	call := func(ctx context.Context, c *simConn) error { return r.s.call(ctx, c, use) }
	var err error
	switch u.kind {
	case rDo:
		err = r.p.Do(ctx, op, call)
	case rGet:
		_, err = pool.Get(ctx, r.p, op, func(ctx context.Context, c *simConn) (int, error) { return 1, call(ctx, c) })
	case rLease:
		var l pool.Lease[*simConn]
		if l, err = r.p.Acquire(ctx, op); err == nil {
			c, _ := l.Value()
			err = l.Finish(call(l.Context(), c))
		}
	case rNested, rDeadInner:
		inner, server := r.ip, r.inner
		if u.kind == rDeadInner {
			inner, server = r.down, r.dead
		}
		err = r.p.Do(ctx, op, func(ctx context.Context, c *simConn) error {
			if err := inner.Do(ctx, op, func(ctx context.Context, c *simConn) error { return server.call(ctx, c, &simUse{simOp: simGet}) }); err != nil {
				return fmt.Errorf("inner: %w", err)
			}
			return call(ctx, c)
		})
	case rMissed, rOwn:
		err = r.p.Do(ctx, op, func(ctx context.Context, c *simConn) error {
			if u.kind == rOwn && i%2 == 0 {
				return errROwn
			}
			if err := call(ctx, c); err != nil {
				return err
			}
			if u.kind == rOwn {
				return errROwn
			}
			return errSimMiss
		})
	case rCancel:
		err = r.p.Do(ctx, op, func(ctx context.Context, _ *simConn) error {
			<-ctx.Done()
			return ctx.Err()
		})
	}
	took := time.Since(began)
	limit := u.deadline
	if limit == 0 {
		limit = 10 * time.Second
	}
	if u.kind == rCancel {
		limit = u.cancel
	}
	if took > limit+20*ms {
		r.failf("use %d kind %d at %v took %v, limit %v: %v", i, u.kind, u.at, took, limit, err)
	}
}

func (r *rRun) monitor(stop chan struct{}) {
	tick := time.NewTicker(10 * ms)
	defer tick.Stop()
	var last pool.Stat
	var stuck, up time.Time
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		st := r.p.Stat()
		if st.Acquires < last.Acquires || st.Waited < last.Waited || st.Cancelled < last.Cancelled || st.TimedOut < last.TimedOut ||
			st.Refused < last.Refused || st.Failed < last.Failed || st.TotalWait < last.TotalWait || st.Opened < last.Opened ||
			st.OpenFailures < last.OpenFailures || st.CheckFailures < last.CheckFailures || st.Closed.Total() < last.Closed.Total() {
			r.failf("at %v a counter went back: %+v after %+v", r.now(), st, last)
		}
		last = st
		total := st.Idle + st.InUse + st.Opening + st.Checking + st.Closing
		if total > st.Max {
			r.failf("at %v %d resources of %d", r.now(), total, st.Max)
		}
		ph := r.plan.at(r.now())
		if ph.mode == rUp || ph.mode == rErrors {
			if up.IsZero() {
				up = time.Now()
			}
		} else {
			up = time.Time{}
		}
		if st.Waiters == 0 || (total >= st.Max || st.Opening >= 4) && st.Idle == 0 || up.IsZero() || time.Since(up) < 600*ms {
			stuck = time.Time{}
		} else if stuck.IsZero() {
			stuck = time.Now()
		} else if d := time.Since(stuck); d > 1100*ms+r.plan.dial {
			r.failf("at %v %d wait for %v: %+v", r.now(), st.Waiters, d, st)
			stuck = time.Time{}
		}
		if b := r.stack.Retry.Budget(); b < 0 || b > 100.0001 {
			r.failf("at %v budget %v", r.now(), b)
		}
		n := r.stack.Breaker.Snapshot().Counts
		if n.Successes < 0 || n.Failures < 0 || n.Consecutive < 0 || n.Successes > int64(st.Acquires) {
			r.failf("at %v counts %+v", r.now(), n)
		}
	}
}

// books checks what must add up at the end.
func (r *rRun) books() {
	st := r.p.Stat()
	if st.Waiters+st.InUse+st.Idle+st.Opening+st.Checking+st.Closing != 0 || st.Opened != st.Closed.Total() {
		r.failf("at the end %+v", st)
	}
	k := r.w.kinds
	if k[pool.EventAcquired] != k[pool.EventReleased] {
		r.failf("acquired %d released %d, Stat %+v", k[pool.EventAcquired], k[pool.EventReleased], st)
	}
	if uint64(k[pool.EventAcquired]) != st.Acquires || uint64(k[pool.EventAcquireFailed]) != st.Cancelled+st.TimedOut+st.Refused+st.Failed {
		r.failf("acquired %d failed %d, Stat %+v", k[pool.EventAcquired], k[pool.EventAcquireFailed], st)
	}
	if k[pool.EventRetry] != r.w.further {
		r.failf("%d retry events, %d further attempts", k[pool.EventRetry], r.w.further)
	}
	if uint64(k[pool.EventOpened]) != st.Opened || uint64(k[pool.EventClosed]) != st.Closed.Total() ||
		uint64(k[pool.EventOpenFailed]) != st.OpenFailures {
		r.failf("events %v, Stat %+v", k, st)
	}
	snap := r.stack.Breaker.Snapshot()
	balance, opened := map[string]int{"closed": 1}, 0
	for _, m := range r.w.moves {
		switch m.from + ">" + m.to {
		case "closed>open", "open>half-open", "half-open>open", "half-open>closed":
		default:
			r.failf("illegal move %+v", m)
		}
		balance[m.from]--
		balance[m.to]++
		if m.to == "open" {
			opened++
		}
	}
	if balance[snap.State.String()] != 1 || balance["closed"]+balance["open"]+balance["half-open"] != 1 {
		r.failf("moves do not lead to %v: %+v", snap.State, r.w.moves)
	}
	if snap.Opened != uint64(opened) || snap.Refused != uint64(k[pool.EventRejected]) {
		r.failf("snapshot says opened %d refused %d, events %d %d", snap.Opened, snap.Refused, opened, k[pool.EventRejected])
	}
	for i, u := range r.plan.uses {
		if n := r.uses[i].carried; n > 1 && !u.idempotent {
			r.failf("use %d kind %d at %v, not idempotent, was carried out %d times", i, u.kind, u.at, n)
		}
	}
	for _, ph := range r.plan.phases {
		if ph.mode != rQuiet {
			continue
		}
		_, longest := r.plan.bounds()
		for _, m := range r.w.moves {
			if m.at > ph.from+longest+2*time.Second && m.at < ph.to && (m.to == "closed" || m.to == "open") {
				r.failf("without evidence in %v: %+v", ph, m)
			}
		}
	}
}

// Random callers meet a random server, by a plan that the seed decides. POOLSTACK_SEEDS is how many
// plans are tried.
func TestRandom(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("POOLSTACK_SEEDS"))
	if err != nil {
		n = 15
	}
	for seed := range n {
		rndRun(t, rndPlan(uint64(seed)))
	}
}
