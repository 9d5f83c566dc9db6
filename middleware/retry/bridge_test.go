package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A server that restarts refuses connections for a moment. A use with the default number of
// attempts lasts through this moment, as with a bare client that dials again. A number that is set
// holds.
func TestShortRestartIsBridged(t *testing.T) {
	for _, c := range []struct {
		away   time.Duration
		cfg    retry.Config
		served bool
	}{
		{100 * time.Millisecond, retry.Config{}, true},
		{250 * time.Millisecond, retry.Config{}, true},
		{400 * time.Millisecond, retry.Config{}, true},
		{400 * time.Millisecond, retry.Config{Budget: -1}, true},
		{time.Second, retry.Config{}, false},
		{400 * time.Millisecond, retry.Config{MaxAttempts: 4}, false},
		{250 * time.Millisecond, retry.Config{MaxAttempts: 1}, false},
	} {
		for range 20 { // the pauses are random
			synctest.Test(t, func(t *testing.T) {
				layer := newRetry(t, c.cfg)
				fake := &pooltest.Fake{}
				p, err := pool.New(fake, pool.Config{MaxSize: 2}, layer)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = p.Close(context.Background()) }()
				fake.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
				time.AfterFunc(c.away, func() { fake.Inject(pooltest.Open, 0, nil) })
				began, before := time.Now(), layer.Budget()
				err = p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return nil })
				took := time.Since(began)
				if (err == nil) != c.served || took > time.Second+500*time.Millisecond {
					t.Errorf("away for %v, %+v: ended after %v with %v", c.away, c.cfg, took, err)
				}
				if gave, ok := errors.AsType[*retry.Error](err); ok && gave.Reason != retry.ReasonAttempts {
					t.Errorf("the reason is %s", gave.Reason)
				}
				if spent := before - layer.Budget(); c.cfg.Budget == 0 && spent > 3 {
					t.Errorf("%v tokens spent, want at most 3", spent)
				}
			})
		}
	}
}

// Failures of an open connection have 4 attempts, however quick.
func TestOnlyFailedDialsAreBridged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := pool.New(&pooltest.Fake{}, pool.Config{MaxSize: 2}, newRetry(t, retry.Config{}))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = p.Close(context.Background()) }()
		attempts := 0
		_ = p.Do(context.Background(), pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error {
			attempts++
			return pooltest.ErrRefused
		})
		if attempts != 4 {
			t.Errorf("%d attempts, want 4", attempts)
		}
	})
}
