package metrics

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// stack are the real layers that have something to report, in the recommended order.
type stack struct {
	total, attempt *timeout.Timeout
	retry          *retry.Retry
	breaker        *breaker.Breaker
}

type stackConfig struct {
	total, attempt timeout.Config
	retry          retry.Config
	breaker        breaker.Config
}

func newStack(t testing.TB, cfg stackConfig) *stack {
	t.Helper()
	return &stack{
		total: made(timeout.NewTotal(cfg.total))(t), retry: made(retry.New(cfg.retry))(t),
		breaker: made(breaker.New(cfg.breaker))(t), attempt: made(timeout.NewAttempt(cfg.attempt))(t),
	}
}

func made[L any](l L, err error) func(t testing.TB) L {
	return func(t testing.TB) L {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
}

func (s *stack) layers() []pool.Middleware {
	return []pool.Middleware{s.total, s.retry, s.breaker, s.attempt}
}

// Each collection shows the breaker's current state, also if the breaker was not closed when its
// pool was made, and if no event reported the state.
func TestBreakerLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, stackConfig{breaker: breaker.Config{ConsecutiveFailures: 2, MinCalls: 100, Jitter: -1, ProbeSuccesses: 3}})
		state := func(r *rig, want string) {
			t.Helper()
			for _, name := range []string{"closed", "open", "half-open"} {
				value := "0"
				if name == want {
					value = "1"
				}
				r.want("poolstack.breaker.state poolstack.layer=breaker poolstack.state="+name, value)
			}
		}
		do := func(r *rig, err error) {
			_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return err })
		}
		r := newRig(t, redis, pool.Config{}, s.breaker)
		for range 3 {
			do(r, nil)
		}
		do(r, pooltest.ErrDenied)
		state(r, "closed")
		r.want("poolstack.breaker.failure_ratio poolstack.layer=breaker", "0.25")
		do(r, pooltest.ErrDenied)
		state(r, "open")
		r.want("poolstack.breaker.failure_ratio poolstack.layer=breaker", "0.4")
		r.want("poolstack.transitions poolstack.from=closed poolstack.layer=breaker poolstack.reason=consecutive_failures poolstack.to=open", "1")
		r.close()
		if r.has("poolstack.breaker.state poolstack.layer=breaker poolstack.state=open") != "" {
			t.Error("a closed pool's breaker is still in a state")
		}

		r = newRig(t, mongodb, pool.Config{}, s.breaker)
		state(r, "open")
		time.Sleep(6 * time.Second)
		do(r, nil) // a probe
		state(r, "half-open")
		do(r, nil)
		do(r, nil)
		state(r, "closed")
		r.want("poolstack.breaker.failure_ratio poolstack.layer=breaker", "0")

		r.want("poolstack.breaker.threshold poolstack.layer=breaker", fmt.Sprint(s.breaker.Effective().FailureRatio))
		configure(t, s.breaker, func(c *breaker.Config) { c.FailureRatio = 0.3 })
		r.want("poolstack.breaker.threshold poolstack.layer=breaker", "0.3")
		configure(t, s.breaker, func(c *breaker.Config) { c.FailureRatio = -1 })
		r.want("poolstack.breaker.threshold poolstack.layer=breaker", "")
	})
}

// Two breakers around a pool have series of their own: in the levels, the transitions and the
// rejections. A breaker without a name has the series of a pool with one breaker.
func TestTwoBreakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plain := made(breaker.New(breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1}))(t)
		shards := made(breaker.New(breaker.Config{Name: "shards", ConsecutiveFailures: 2, FailureRatio: 0.5, MinCalls: 100, LookMax: -1}))(t)
		r := newRig(t, redis, pool.Config{}, plain, shards)
		const (
			opening = "poolstack.transitions poolstack.from=closed poolstack.layer=shards poolstack.reason=consecutive_failures poolstack.to=open"
			same    = "poolstack.transitions poolstack.from=closed poolstack.layer=breaker poolstack.reason=consecutive_failures poolstack.to=open"
			refused = "poolstack.rejections poolstack.layer=shards poolstack.reason=breaker_open"
		)
		for _, series := range []string{opening, same, refused, "poolstack.rejections poolstack.layer=breaker poolstack.reason=breaker_open"} {
			r.want(series, "0") // from the beginning
		}
		for range 3 {
			_ = r.pool.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrDenied })
		}
		r.want("poolstack.breaker.state poolstack.layer=shards poolstack.state=open", "1")
		r.want("poolstack.breaker.state poolstack.layer=shards poolstack.state=closed", "0")
		r.want("poolstack.breaker.state poolstack.layer=breaker poolstack.state=open", "0")
		r.want("poolstack.breaker.state poolstack.layer=breaker poolstack.state=closed", "1")
		r.want("poolstack.breaker.threshold poolstack.layer=shards", "0.5")
		r.want("poolstack.breaker.failure_ratio poolstack.layer=shards", "1")
		r.want(opening, "1")
		r.want(same, "0")
		r.want(refused, "1")
	})
}

func configure[C any](t testing.TB, layer interface {
	Config() C
	Configure(cfg C) error
}, change func(*C),
) {
	t.Helper()
	cfg := layer.Config()
	change(&cfg)
	if err := layer.Configure(cfg); err != nil {
		t.Fatal(err)
	}
}

func TestRetryBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, stackConfig{retry: retry.Config{MaxAttempts: 3, BudgetBurst: 3, Budget: 0.25}})
		r := newRig(t, redis, pool.Config{}, s.retry)
		r.want("poolstack.retry.budget poolstack.layer=retry", "3")
		use := func(err error) {
			_ = r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error { return err })
		}
		use(pooltest.ErrRefused) // three attempts
		r.want("poolstack.retry.budget poolstack.layer=retry", "1")
		use(nil)
		r.want("poolstack.retry.budget poolstack.layer=retry", "1.25")
		use(pooltest.ErrRefused) // two attempts, as there is nothing left for a third
		r.want("poolstack.retry.budget poolstack.layer=retry", "0.25")
		r.want("poolstack.retry.give_ups poolstack.reason=budget", "1")
		configure(t, s.retry, func(c *retry.Config) { c.Budget = -1 })
		r.want("poolstack.retry.budget poolstack.layer=retry", "")
	})
}

// Uses with several attempts are counted by the number of attempts and by the outcome. An attempt
// refused by the breaker is none.
func TestRetriedUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, stackConfig{retry: retry.Config{MaxAttempts: 7}, breaker: breaker.Config{ConsecutiveFailures: -1, FailureRatio: -1}})
		r := newRig(t, redis, pool.Config{}, s.retry, s.breaker)
		use := func(failures int, then error) {
			n := 0
			_ = r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error {
				if n++; n <= failures {
					return pooltest.ErrRefused
				}
				return then
			})
		}
		const series = "poolstack.retry.uses poolstack.attempts=%s poolstack.outcome=%s"
		use(0, nil)
		use(1, nil)
		use(1, pooltest.ErrMiss)
		use(2, pooltest.ErrReply)
		use(3, nil)
		use(4, nil)
		use(99, nil)
		lease, err := r.pool.Acquire(context.Background(), get)
		if err != nil {
			t.Fatal(err)
		}
		lease.Release(nil)
		configure(t, s.breaker, func(c *breaker.Config) { c.ConsecutiveFailures = 1 })
		use(99, nil) // the breaker refuses the second attempt
		for attempts, want := range map[string][2]string{"2": {"2", "0"}, "3": {"0", "1"}, "4": {"1", "0"}, "more": {"1", "1"}} {
			r.want(fmt.Sprintf(series, attempts, "success"), want[0])
			r.want(fmt.Sprintf(series, attempts, "failure"), want[1])
		}
	})
}

// Only attempts that are made are counted: the pause before one may be cut short.
func TestPauseIsNoAttempt(t *testing.T) {
	const series = "poolstack.retry.attempts poolstack.reason=broken"
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, stackConfig{retry: retry.Config{InitialDelay: time.Second, Jitter: -1, MaxAttempts: 2}})
		r := newRig(t, redis, pool.Config{}, s.retry)
		use := func(ctx context.Context) {
			_ = r.pool.Do(ctx, get, func(context.Context, *pooltest.Conn) error { return pooltest.ErrBroken })
		}
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Millisecond, cancel)
		use(ctx)
		r.want(series, "0")
		r.want("poolstack.retry.give_ups poolstack.reason=canceled", "1")
		use(context.Background())
		r.want(series, "1")
	})
}

// A refusal by a breaker has the fault of the failure that opened the breaker. A refusal by this
// process itself, and an error of another pool, do not.
func TestWhoseFaultRefusalsAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStack(t, stackConfig{breaker: breaker.Config{ConsecutiveFailures: 1}})
		r := newRig(t, redis, pool.Config{MaxSize: 1, MaxWaiters: -1}, s.retry, s.breaker)
		use := func(err error) {
			_ = r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error { return err })
		}
		lease, err := r.pool.Acquire(context.Background(), get)
		if err != nil {
			t.Fatal(err)
		}
		use(nil) // the pool is full
		r.want("poolstack.failures poolstack.fault=local", "1")
		lease.Release(nil)
		use(errors.New("the function's own"))
		r.want("poolstack.failures poolstack.fault=elsewhere", "1")
		use(pooltest.ErrRefused) // opens the breaker, which refuses the second attempt
		r.want("poolstack.failures poolstack.fault=server", "1")
		r.want("poolstack.retry.give_ups poolstack.reason=refused", "1")
		for range 100 {
			use(nil)
		}
		r.want("poolstack.failures poolstack.fault=server", "101")
		r.want("poolstack.failures poolstack.fault=local", "1")
		r.want("poolstack.rejections poolstack.layer=breaker poolstack.reason=breaker_open", "101")
		r.want("poolstack.retry.attempts poolstack.reason=_OTHER", "0")
	})
}
