package logging

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// Every number of Config at its extremes: with numbers accepted by Validate, the first of alike
// lines is written, and no more lines than events.
func TestConfigAtItsExtremes(t *testing.T) {
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.Type.ConvertibleTo(reflect.TypeFor[int64]()) {
			continue
		}
		for _, extreme := range []int64{math.MinInt64, -1, 1, math.MaxInt64 - 1, math.MaxInt64} {
			t.Run(fmt.Sprintf("%s %d", f.Name, extreme), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := &log{t: t}
					cfg := Config{Logger: w.logger(slog.LevelInfo)}
					reflect.ValueOf(&cfg).Elem().Field(i).SetInt(extreme)
					layer, err := New(cfg)
					if (err != nil) != (extreme < 0) || err != nil && !strings.Contains(err.Error(), f.Name) {
						t.Fatalf("got %v", err)
					}
					if err != nil {
						return
					}
					p, err := pool.New(&pooltest.Fake{}, pool.Config{}, layer)
					if err != nil {
						t.Fatal(err)
					}
					for range 3 {
						_ = p.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error { return pooltest.ErrDenied })
						time.Sleep(time.Second)
					}
					_ = p.Close(context.Background())
					if n := len(w.take()); n < 1 || n > 3 {
						t.Errorf("%d lines of three failures", n)
					}
				})
			})
		}
	}
}
