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

// The largest value of each field of Config means no bound. The smallest value has its documented
// meaning, or New returns an error. In each case the pool serves uses, closes idle resources in
// time, and can be closed.
func TestConfigAtItsExtremes(t *testing.T) {
	typ := reflect.TypeFor[pool.Config]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Name == "Name" {
			continue
		}
		for _, extreme := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, -1, 1} {
			for _, live := range []bool{false, true} { // whether Configure sets the value
				t.Run(fmt.Sprintf("%s %d live %t", f.Name, extreme, live), func(t *testing.T) {
					cfg := pool.Config{MaxIdleTime: 10 * time.Second, KeepAlive: 7 * time.Second, LeakAfter: 5 * time.Second}
					if f.Name == "MinIdle" {
						cfg.MaxSize, cfg.OpenConcurrency = math.MaxInt, 8 // few resources in these minutes
					}
					reflect.ValueOf(&cfg).Elem().Field(i).SetInt(extreme)
					synctest.Test(t, func(t *testing.T) { testExtreme(t, cfg, live) })
				})
			}
		}
	}
}

func testExtreme(t *testing.T, cfg pool.Config, live bool) {
	d := &hooks{open: func(ctx context.Context) error { time.Sleep(time.Second); return nil }}
	if cfg.OpenTimeout != 1 && cfg.AcquireTimeout != 1 && cfg.MinIdle == 0 {
		d.open = nil
	}
	first := cfg
	if live {
		first = pool.Config{}
	}
	p, err := pool.New(d, first)
	if err == nil && live {
		if err = p.Configure(cfg); err != nil {
			closePoolOf(t, p)
		}
	}
	if err != nil {
		return // out of range, with an error
	}
	time.Sleep(time.Minute)
	for range 3 {
		l, err := p.Acquire(context.Background(), pool.Op{})
		if err != nil && cfg.AcquireTimeout != 1 && cfg.OpenTimeout != 1 {
			t.Fatal(err)
		}
		l.Release(nil)
		time.Sleep(time.Minute)
	}
	if s := p.Stat(); cfg.MaxIdleTime == 10*time.Second && s.Idle > cfg.MinIdle {
		t.Errorf("what is idle is not closed: %+v", s)
	}
	closePoolOf(t, p)
}

// With the largest MaxWaiters any number of borrowers may wait.
func TestMostWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := pool.New(&hooks{}, pool.Config{MaxSize: 1, MaxWaiters: math.MaxInt})
		if err != nil {
			t.Fatal(err)
		}
		l, err := p.Acquire(context.Background(), pool.Op{})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			go func() {
				l, err := p.Acquire(context.Background(), pool.Op{})
				if err != nil {
					t.Error(err)
				}
				l.Release(nil)
			}()
		}
		synctest.Wait()
		if n := p.Stat().Waiters; n != 100 {
			t.Errorf("%d wait, want 100", n)
		}
		l.Release(nil)
		synctest.Wait()
		closePoolOf(t, p)
	})
}
