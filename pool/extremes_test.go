package pool_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// Every number of a Config at its largest stands for "no bound": uses are served, and the pool can be closed. Fields without a bound from above
// but for their meaning (MinIdle) are left out.
func TestConfigAtItsExtremes(t *testing.T) {
	typ := reflect.TypeFor[pool.Config]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.Type.ConvertibleTo(reflect.TypeFor[int64]()) || f.Name == "MinIdle" {
			continue
		}
		for _, extreme := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MinInt64} {
			t.Run(fmt.Sprintf("%s %d", f.Name, extreme), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := pool.Config{MaxIdleTime: 10 * time.Second, KeepAlive: 7 * time.Second}
					reflect.ValueOf(&cfg).Elem().Field(i).SetInt(extreme)
					d := &hooks{}
					p, err := pool.New(d, cfg)
					if err != nil {
						return // out of range, and said so
					}
					time.Sleep(time.Hour)
					for range 3 {
						l, err := p.Acquire(context.Background(), pool.Op{})
						if err != nil {
							t.Fatal(err)
						}
						l.Release(nil)
						time.Sleep(time.Hour)
					}
					if s := p.Stat(); cfg.MaxIdleTime == 10*time.Second && s.Idle > 0 {
						t.Errorf("what is idle is not closed: %+v", s)
					}
					closePoolOf(t, p)
				})
			})
		}
	}
}
