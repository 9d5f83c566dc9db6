package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// Every number of Config at its extremes: what Validate accepts serves a use that takes no time,
// unless the limit allows none or the caller has less left than MinLeft. What Validate does not
// accept is named.
func TestConfigAtItsExtremes(t *testing.T) {
	typ := reflect.TypeFor[timeout.Config]()
	for name, build := range map[string]func(timeout.Config) (*timeout.Timeout, error){
		"total": timeout.NewTotal, "attempt": timeout.NewAttempt,
	} {
		for i := range typ.NumField() {
			f := typ.Field(i)
			for _, extreme := range []int64{math.MinInt64, -1, 1, math.MaxInt64 - 1, math.MaxInt64} {
				t.Run(fmt.Sprintf("%s %s %d", name, f.Name, extreme), func(t *testing.T) {
					var cfg timeout.Config
					if f.Name == "MinLeft" {
						cfg.Limit = -1
					}
					reflect.ValueOf(&cfg).Elem().Field(i).SetInt(extreme)
					layer, err := build(cfg)
					if (err != nil) != (cfg.MinLeft < 0) || err != nil && !strings.Contains(err.Error(), f.Name) {
						t.Fatalf("got %v", err)
					}
					if err == nil {
						synctest.Test(t, func(t *testing.T) { testExtreme(t, cfg, layer) })
					}
				})
			}
		}
	}
}

func testExtreme(t *testing.T, cfg timeout.Config, layer *timeout.Timeout) {
	p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, layer)
	defer end()
	for _, op := range []pool.Op{{}, {Limit: math.MinInt64}, {Limit: math.MaxInt64}} {
		for _, left := range []time.Duration{0, time.Second, math.MaxInt64} { // 0: no deadline
			ctx, cancel := context.Background(), func() {}
			if left > 0 {
				ctx, cancel = context.WithDeadline(ctx, time.Now().Add(left))
			}
			err := p.Do(ctx, op, func(ctx context.Context, _ *pooltest.Conn) error {
				if d, ok := ctx.Deadline(); ok && left < math.MaxInt64 && time.Until(d) > math.MaxInt64-time.Hour {
					t.Errorf("a client that adds to the time left, %v, ends before it begins", time.Until(d))
				}
				return nil
			})
			if err != nil && cfg.Limit != 1 && (!errors.Is(err, timeout.ErrNoTime) || left == 0 || left >= cfg.MinLeft) {
				t.Errorf("Op.Limit %d, %v left: %v", op.Limit, left, err)
			}
			l, err := p.Acquire(ctx, op)
			if err != nil && cfg.Limit != 1 && (!errors.Is(err, timeout.ErrNoTime) || left == 0 || left >= cfg.MinLeft) {
				t.Errorf("Op.Limit %d, %v left, in two steps: %v", op.Limit, left, err)
			}
			l.Release(nil)
			cancel()
		}
	}
}
