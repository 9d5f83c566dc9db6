package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// The size of the storm. Configure moves MaxSize between a few resources and largestSize.
const (
	stormBorrowers = 1000
	stormSize      = 8
	largestSize    = 12
)

// stormPatience bounds the time in which the borrowers must return after the storm. A borrower that
// takes longer is lost.
const stormPatience = 2 * time.Minute

// stormDuration returns three seconds, or the value of POOLSTACK_STRESS.
func stormDuration(t *testing.T) time.Duration {
	text := os.Getenv("POOLSTACK_STRESS")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("POOLSTACK_STRESS is %q: must be a duration, such as 60s", text)
	}
	return d
}

// A thousand borrowers use eight resources. They cancel, panic, exit and return broken resources.
// Meanwhile dials fail and hang, checks fail, and the pool is paused, cleared, and made larger and
// smaller. No borrower is forgotten, and no resource is lost.
func TestStress(t *testing.T) {
	t.Run("bare", func(t *testing.T) {
		s := newStorm(t)
		s.blow()
		s.verify()
	})
	t.Run("with layers", func(t *testing.T) {
		s := newStorm(t)
		s.outer, s.inner = &pooltest.Spy{}, &pooltest.Spy{}
		s.blow(pool.Bracket(s.outer), pool.MiddlewareFunc(wild), pool.Bracket(deadlines{200 * time.Millisecond}),
			pool.MiddlewareFunc(twins), pool.Bracket(&passing[string]{"state"}), pool.Bracket(s.inner))
		s.verify()
	})
}

// storm is a pool in trouble.
type storm struct {
	t            *testing.T
	fake         *pooltest.Fake
	pool         *pool.Pool[conn]
	outer, inner *pooltest.Spy // with layers
	over         atomic.Bool

	complaints atomic.Int32

	calls    atomic.Int64 // the uses begun
	probes   atomic.Int64 // calls of Check, which acquire without the layers
	outcomes [outcomes]atomic.Int64
}

// An outcome is the way in which a use ended.
type outcome int

const (
	outSuccess outcome = iota
	outFailed          // with an error of the borrower's function
	outTimedOut
	outCancelled
	outExhausted
	outPaused
	outNotOpened
	outPanicked
	outExited
	outcomes
)

var outcomeNames = [outcomes]string{
	"success", "failed", "timed out", "cancelled", "exhausted", "paused", "not opened", "panicked", "exited",
}

var (
	errStorm = errors.New("the borrower's own error")
	errWild  = errors.New("a layer fails after the grant")
)

func newStorm(t *testing.T) *storm { return &storm{t: t, fake: &pooltest.Fake{}} }

// complainf fails the test, and prints only the first complaints.
func (s *storm) complainf(format string, args ...any) {
	const enough = 20
	if s.complaints.Add(1) <= enough {
		s.t.Errorf(format, args...)
	}
}

// blow runs the storm from start to end.
func (s *storm) blow(layers ...pool.Middleware) {
	var err error
	if s.pool, err = pool.New(s.fake, stormConfig(stormSize), layers...); err != nil {
		s.t.Fatal(err)
	}
	var borrowers, others sync.WaitGroup
	for range stormBorrowers {
		borrowers.Go(func() {
			for !s.over.Load() {
				s.borrow()
			}
		})
	}
	calm := make(chan struct{})
	others.Go(func() { s.trouble(calm) })
	others.Go(func() { s.watch(calm) })
	s.rage()

	back := make(chan struct{})
	go func() {
		borrowers.Wait()
		close(back)
	}()
	select {
	case <-back:
	case <-time.After(stormPatience):
		stacks := make([]byte, 1<<20)
		s.t.Fatalf("borrowers are lost: %+v\n%s", s.pool.Stat(), stacks[:runtime.Stack(stacks, true)])
	}
	close(calm)
	others.Wait()
}

// rage waits for the duration of the storm, and until every outcome has occurred.
func (s *storm) rage() {
	least := time.After(stormDuration(s.t))
	longest := time.After(stormDuration(s.t) + stormPatience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	<-least
	for s.unseen() != "" {
		select {
		case <-tick.C:
		case <-longest:
			s.complainf("no use ended as %q: that was no storm", s.unseen())
			s.over.Store(true)
			return
		}
	}
	s.over.Store(true)
}

// unseen returns the name of an outcome that has not occurred, or "".
func (s *storm) unseen() string {
	for o := range outcomes {
		if s.outcomes[o].Load() == 0 {
			return outcomeNames[o]
		}
	}
	return ""
}

// whim is the effect of the layers on a use, as wanted by the borrower.
type whim int

const (
	whimNone whim = iota
	whimFail
	whimPanic
	whimExit
	whimTwins
	whims
)

type whimKey struct{}

func whimOf(ctx context.Context) whim {
	w, _ := ctx.Value(whimKey{}).(whim)
	return w
}

// wild is a layer that fails if the borrower wants a failure.
func wild(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		err := next(ctx, c)
		if err != nil {
			return err
		}
		switch whimOf(ctx) {
		case whimFail:
			return errWild
		case whimPanic:
			panic(errWild)
		case whimExit:
			runtime.Goexit()
		}
		return nil
	}
}

// twins is a layer that makes two concurrent attempts and takes the first success, if the borrower
// wants twins.
func twins(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		if whimOf(ctx) != whimTwins {
			return next(ctx, c)
		}
		forks := [2]*pool.Call{c.Fork(), c.Fork()}
		if forks[0] == nil {
			return next(ctx, c)
		}
		var errs [2]error
		var wg sync.WaitGroup
		for i, f := range forks {
			wg.Go(func() { errs[i] = next(ctx, f) })
		}
		wg.Wait()
		winner := 0
		if errs[0] != nil {
			winner = 1
		}
		forks[1-winner].Drop()
		if errs[winner] != nil {
			forks[winner].Drop()
			return errs[winner]
		}
		c.Adopt(forks[winner])
		return nil
	}
}

// borrow makes a use of the pool, in a goroutine of its own if the use ends by Goexit.
func (s *storm) borrow() {
	w := whim(rand.IntN(4 * int(whims))) // most uses have no whim
	if w >= whims {
		w = whimNone
	}
	ctx, cancel := s.context(context.WithValue(background, whimKey{}, w))
	defer cancel()
	manner := rand.IntN(len(manners))
	s.calls.Add(1)
	if w != whimExit && !manners[manner].exits {
		s.count(s.caught(ctx, manners[manner].use))
		return
	}
	result := outExited
	done := make(chan struct{})
	go func() {
		defer close(done)
		result = s.caught(ctx, manners[manner].use)
	}()
	<-done
	s.count(result)
}

// count counts the outcome of a use. After a refusal at once, the borrower waits a little.
// Otherwise such borrowers would take the processors from the borrowers with a resource.
func (s *storm) count(o outcome) {
	s.outcomes[o].Add(1)
	if o == outExhausted || o == outPaused {
		<-time.After(rand.N(10 * time.Millisecond))
	}
}

// context is sometimes cancelled, before or during the use, and sometimes has a deadline.
func (s *storm) context(ctx context.Context) (context.Context, context.CancelFunc) {
	switch rand.IntN(25) { // most contexts do not end, so releases to waiters occur
	case 0:
		ctx, cancel := context.WithCancel(ctx)
		cancel() // the context has ended on arrival
		return ctx, cancel
	case 1:
		ctx, cancel := context.WithCancel(ctx)
		go cancel()
		return ctx, cancel
	case 2:
		ctx, cancel := context.WithCancel(ctx)
		stop := time.AfterFunc(rand.N(20*time.Millisecond), cancel)
		return ctx, func() { stop.Stop(); cancel() }
	case 3:
		return context.WithTimeout(ctx, rand.N(20*time.Millisecond))
	case 4:
		ctx, d := pool.WithDeadline(ctx, time.Now().Add(rand.N(20*time.Millisecond)), errStorm)
		return ctx, d.Cancel
	}
	return ctx, func() {}
}

// caught runs a use and returns the way in which the use ended.
func (s *storm) caught(ctx context.Context, use func(*storm, context.Context) error) (o outcome) {
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); !ok || !errors.Is(err, errStorm) && !errors.Is(err, errWild) {
				s.complainf("a panic that nobody meant: %v", v)
			}
			o = outPanicked
		}
	}()
	return s.tell(ctx, use(s, ctx))
}

// tell returns the outcome for an error of a use, and complains of an error that contradicts the
// facts.
func (s *storm) tell(ctx context.Context, err error) outcome {
	if err == nil {
		return outSuccess
	}
	var refusal *pool.Error
	if !errors.As(err, &refusal) {
		if !oneOf(err, errStorm, errWild, pooltest.ErrBroken, pooltest.ErrReply, context.Canceled, context.DeadlineExceeded) {
			s.complainf("an error that nobody knows: %v", err)
		}
		return outFailed
	}
	if refusal.Error() == "" || refusal.Class().Type == "" || refusal.Occupancy.Max < 1 || refusal.Occupancy.Max > largestSize {
		s.complainf("an error that does not say enough: %#v", refusal)
	}
	switch refusal.Reason {
	case pool.ErrAcquireTimeout:
		if !errors.Is(err, context.DeadlineExceeded) {
			s.complainf("a timeout that is no context.DeadlineExceeded: %v", err)
		}
		return outTimedOut
	case pool.ErrAcquireCanceled:
		if ctx.Err() == nil || !errors.Is(err, context.Canceled) || refusal.Class().Fault != driver.FaultCaller {
			s.complainf("a cancellation that is none of the caller's: %v, context %v", err, ctx.Err())
		}
		return outCancelled
	case pool.ErrExhausted:
		return outExhausted
	case pool.ErrPaused:
		return outPaused
	case pool.ErrOpen:
		if refusal.Cause == nil || refusal.Class().Fault != driver.FaultServer {
			s.complainf("a failed dial without a cause, or not laid at the server: %v", err)
		}
		return outNotOpened
	}
	s.complainf("a refusal for a reason that cannot be: %v", err)
	return outFailed
}

func oneOf(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

var storming = pool.Op{Name: "storm", Idempotent: true}

// manners are the ways in which borrowers use a resource.
var manners = []struct {
	use   func(s *storm, ctx context.Context) error
	exits bool
}{
	{use: func(s *storm, ctx context.Context) error { return s.pool.Do(ctx, storming, use) }},
	{use: (*storm).get},
	{use: (*storm).lease},
	{use: (*storm).lease},
	{use: (*storm).tryLease},
	{use: (*storm).block},
	{use: (*storm).probe},
	{use: func(s *storm, ctx context.Context) error {
		return s.pool.Do(ctx, storming, func(ctx context.Context, c conn) error { return errors.Join(c.Use(ctx), errStorm) })
	}},
	{use: func(s *storm, ctx context.Context) error {
		return s.pool.Do(ctx, storming, func(ctx context.Context, c conn) error { return errors.Join(c.Use(ctx), pooltest.ErrBroken) })
	}},
	{use: func(s *storm, ctx context.Context) error {
		return s.pool.Do(ctx, storming, func(context.Context, conn) error { panic(errStorm) })
	}},
	{exits: true, use: func(s *storm, ctx context.Context) error {
		return s.pool.Do(ctx, storming, func(context.Context, conn) error { runtime.Goexit(); return nil })
	}},
}

// get leaves state behind, and checks its own result.
func (s *storm) get(ctx context.Context) error {
	want := rand.Int()
	got, err := pool.Get(ctx, s.pool, storming, func(ctx context.Context, c conn) (int, error) {
		if c.Soiled() {
			s.complainf("connection %d still has what an earlier borrower left", c.ID)
		}
		c.Soil()
		return want, c.Use(ctx)
	})
	if err == nil && got != want {
		s.complainf("Get returned %d, want %d", got, want)
	}
	return err
}

// lease ends a lease from two goroutines at once. One of the two may discard the resource.
func (s *storm) lease(ctx context.Context) error {
	l, err := s.pool.Acquire(ctx, storming)
	if err != nil {
		return err
	}
	return s.release(l)
}

func (s *storm) tryLease(ctx context.Context) error {
	l, err := s.pool.TryAcquire(ctx, storming)
	if err != nil {
		return err
	}
	return s.release(l)
}

func (s *storm) release(l pool.Lease[conn]) error {
	c, ok := l.Value()
	if !ok {
		s.complainf("a lease is over before it was released")
		return nil
	}
	err := c.Use(l.Context())
	end := pool.Lease[conn].Release
	if rand.IntN(4) == 0 {
		end = pool.Lease[conn].Discard
	}
	var accepted atomic.Int32
	var other sync.WaitGroup
	attempt := func() {
		if end(l, err) {
			accepted.Add(1)
		}
	}
	other.Go(attempt)
	attempt()
	other.Wait()
	if n := accepted.Load(); n != 1 {
		s.complainf("a lease was ended %d times", n)
	}
	if _, ok := l.Value(); ok {
		s.complainf("a lease that is over has a value")
	}
	return err
}

// block waits until it is interrupted.
func (s *storm) block(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rand.N(2*time.Millisecond))
	defer cancel()
	err := s.pool.Do(ctx, storming, func(_ context.Context, c conn) error { return c.Block() })
	if err == nil {
		s.complainf("a use that waits for ever has succeeded")
	}
	return err
}

// probe calls Check.
func (s *storm) probe(ctx context.Context) error {
	var check sync.WaitGroup
	check.Go(func() { // the driver's Check may end the goroutine
		s.probes.Add(1)
		if h := s.pool.Check(ctx); h.Status == pool.StatusDown && h.Err == nil {
			s.complainf("down without an error: %+v", h)
		}
	})
	check.Wait()
	return s.pool.Do(ctx, storming, use)
}

// trouble disturbs the pool until calm is closed, and then repairs everything.
func (s *storm) trouble(calm <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.pool.Resume() // a pause lasts for a single tick
			troubles[rand.IntN(len(troubles))](s)
		case <-calm:
			for _, step := range []pooltest.Step{pooltest.Open, pooltest.Check, pooltest.Reset, pooltest.Close, pooltest.Use} {
				s.fake.Inject(step, 0, nil)
			}
			s.fake.DieAfter(0)
			s.pool.Resume()
			s.configure(stormConfig(stormSize))
			return
		}
	}
}

func (s *storm) configure(cfg pool.Config) {
	if err := s.pool.Configure(cfg); err != nil {
		s.complainf("Configure: %v", err)
	}
}

var faults = []pooltest.Fault{
	pooltest.Fail(pooltest.ErrRefused), pooltest.Fail(pooltest.ErrBroken), pooltest.Fail(errStorm), pooltest.Hang(),
	pooltest.Slow(time.Millisecond), pooltest.Panic("driver"), pooltest.Exit(),
}

var troubles = []func(s *storm){
	func(s *storm) { s.inject(pooltest.Open, 4) },
	func(s *storm) { s.fake.Inject(pooltest.Open, 1+rand.IntN(4), pooltest.Fail(pooltest.ErrRefused)) },
	func(s *storm) { s.inject(pooltest.Check, 4) },
	func(s *storm) { s.inject(pooltest.Reset, 4) },
	func(s *storm) { s.inject(pooltest.Close, 4) },
	func(s *storm) { s.fake.Inject(pooltest.Use, 1+rand.IntN(4), pooltest.Fail(pooltest.ErrBroken)) },
	func(s *storm) {
		s.fake.Inject(pooltest.Use, 1+rand.IntN(4), pooltest.Slow(rand.N(10*time.Millisecond)))
	},
	func(s *storm) { s.fake.DieAfter(rand.IntN(50)) },
	func(s *storm) { s.fake.DieAfter(0) },
	func(s *storm) { s.pool.Clear() },
	func(s *storm) { s.pool.CloseExpired() },
	func(s *storm) { s.pool.Pause(errStorm) },
	func(s *storm) { s.configure(stormConfig(largestSize)) },
	func(s *storm) { s.configure(stormConfig(1 + rand.IntN(largestSize))) },
	func(s *storm) {
		ctx, cancel := contextWithTimeout(5 * time.Millisecond)
		defer cancel()
		_ = s.pool.Warm(ctx, 1)
	},
}

func (s *storm) inject(step pooltest.Step, n int) {
	s.fake.Inject(step, 1+rand.IntN(n), faults[rand.IntN(len(faults))])
}

// stormConfig returns random settings except MaxSize. The timeouts are short, so a hung dial does
// not end the storm.
func stormConfig(size int) pool.Config {
	pick := func(ds ...time.Duration) time.Duration { return ds[rand.IntN(len(ds))] }
	return pool.Config{
		MaxSize: size, MinIdle: rand.IntN(min(size, 4)), MaxWaiters: []int{0, 0, 0, 0, 0, 500, -1}[rand.IntN(7)],
		AcquireTimeout: pick(0, 0, 0, 500*time.Millisecond, 50*time.Millisecond),
		OpenTimeout:    20 * time.Millisecond, OpenConcurrency: 1 + rand.IntN(8), OpenBackoff: pick(time.Millisecond, 10*time.Millisecond),
		MaxLifetime: pick(0, 0, 10*time.Millisecond, 100*time.Millisecond), MaxIdleTime: pick(0, 10*time.Millisecond),
		CheckAfter: pick(0, 0, -1, 1, 20*time.Millisecond), CheckTimeout: 20 * time.Millisecond,
		KeepAlive: pick(0, 10*time.Millisecond), LeakAfter: pick(0, 10*time.Millisecond),
	}
}

// watch checks the counters of the pool during the storm.
func (s *storm) watch(calm <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for last := s.pool.Stat(); ; {
		select {
		case <-tick.C:
		case <-calm:
			return
		}
		st := s.pool.Stat()
		if n := st.Idle + st.InUse + st.Opening + st.Checking + st.Closing; n > largestSize ||
			min(st.Idle, st.InUse, st.Opening, st.Checking, st.Closing, st.Waiters) < 0 || st.Waiters > 2*stormBorrowers {
			s.complainf("figures that cannot be: %+v", st)
		}
		if st.Opened < last.Opened || st.Closed.Total() < last.Closed.Total() || st.Closed.Total() > st.Opened {
			s.complainf("counters that cannot be: %+v, then %+v", last, st)
		}
		if alive := st.Opened - st.Closed.Total(); alive != uint64(st.Idle+st.InUse+st.Checking+st.Closing) {
			s.complainf("%d are alive by the counters, others by the gauges: %+v", alive, st)
		}
		last = st
	}
}

// verify checks the pool and the driver after the return of all borrowers.
func (s *storm) verify() {
	t := s.t
	st := s.pool.Stat()
	var told int64
	summary := ""
	for o := range outcomes {
		n := s.outcomes[o].Load()
		told += n
		summary += fmt.Sprintf(", %d %s", n, outcomeNames[o])
	}
	t.Logf("%d uses%s", s.calls.Load(), summary)
	t.Logf("%+v", st)
	if told != s.calls.Load() {
		t.Errorf("%d uses, of which %d have ended", s.calls.Load(), told)
	}
	if st.InUse != 0 || st.Waiters != 0 {
		t.Errorf("%d are still lent, %d still wait", st.InUse, st.Waiters)
	}
	acquisitions := uint64(s.calls.Load() + s.probes.Load())
	if s.inner != nil {
		begins, ends := s.inner.Counts()
		if begins != ends {
			t.Errorf("the innermost layer saw %d begins and %d ends", begins, ends)
		}
		if begins, ends := s.outer.Counts(); int64(begins) != s.calls.Load() || ends != begins {
			t.Errorf("the outermost layer saw %d begins and %d ends of %d uses", begins, ends, s.calls.Load())
		}
		acquisitions = uint64(begins) + uint64(s.probes.Load())
	}
	// A Check acquires twice if the first idle resource is dead.
	sum := st.Acquires + st.Cancelled + st.TimedOut + st.Refused + st.Failed
	if sum < acquisitions || sum > acquisitions+uint64(s.probes.Load()) {
		t.Errorf("%d acquisitions, but %d have got something, or were cancelled, timed out, refused or failed", acquisitions, sum)
	}
	s.recovers()
	s.close()
}

// recovers checks that the pool works normally again.
func (s *storm) recovers() {
	ctx, cancel := contextWithTimeout(stormPatience)
	defer cancel()
	cfg := pool.Config{MaxSize: stormSize, AcquireTimeout: -1, OpenBackoff: 10 * time.Millisecond}
	s.configure(cfg)
	s.lastDials(ctx)
	var leases []pool.Lease[conn]
	for range stormSize {
		l, err := s.pool.Acquire(ctx, storming)
		if err != nil {
			s.t.Errorf("after the storm: %v", err)
			break
		}
		leases = append(leases, l)
	}
	if _, err := s.pool.TryAcquire(ctx, storming); !errors.Is(err, pool.ErrExhausted) {
		s.t.Errorf("one more than there are: %v", err)
	}
	for _, l := range leases {
		if c, ok := l.Value(); !ok || c.Use(l.Context()) != nil {
			s.t.Error("a connection does not work after the storm")
		}
		l.Release(nil)
	}
}

// lastDials waits until no dial of the storm is in progress. A waiter rightly gets the failure of
// such a dial if nothing else can serve the waiter.
func (s *storm) lastDials(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.pool.Stat().Opening > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("a dial of the storm's has not ended: %+v", s.pool.Stat())
		}
	}
}

func (s *storm) close() {
	t := s.t
	closePool(t, s.pool)
	st := s.pool.Stat()
	opened, closed, alive, peak := s.fake.Counts()
	if uint64(opened) != st.Opened || uint64(closed) != st.Closed.Total() || alive != 0 || opened != closed {
		t.Errorf("the driver has opened %d and closed %d; the pool says %d and %d", opened, closed, st.Opened, st.Closed.Total())
	}
	if peak > largestSize {
		t.Errorf("%d connections were alive at once, want at most %d", peak, largestSize)
	}
	if n := st.Idle + st.InUse + st.Opening + st.Checking + st.Closing + st.Waiters; n != 0 {
		t.Errorf("the closed pool is not empty: %+v", st)
	}
	for _, v := range s.fake.Violations() {
		t.Error(v)
	}
}
