package redispool_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// The extreme values of every duration in Options. Commands work with each value accepted by
// Validate, and Validate names each other value. DB and Protocol are numbers of things, not bounds.
func TestOptionsAtTheirExtremes(t *testing.T) {
	typ := reflect.TypeFor[redispool.Options]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Type != reflect.TypeFor[time.Duration]() {
			continue
		}
		for _, extreme := range []int64{math.MinInt64, -1, 1, math.MaxInt64 - 1, math.MaxInt64} {
			t.Run(fmt.Sprintf("%s %d", f.Name, extreme), func(t *testing.T) {
				t.Parallel()
				o := redispool.Options{Address: need(t).addr}
				reflect.ValueOf(&o).Elem().Field(i).SetInt(extreme)
				d, err := redispool.NewDriver(o)
				if err != nil {
					if extreme > 0 || !strings.Contains(err.Error(), f.Name) {
						t.Errorf("got %v", err)
					}
					return
				}
				p, err := pool.New(d, pool.Config{})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = p.Close(context.Background()) }()
				err = p.Do(context.Background(), pool.Op{Name: "GET"}, func(ctx context.Context, c *redispool.Conn) error {
					_, err := c.BLPop(ctx, time.Second, "nothing "+t.Name()).Result()
					return err
				})
				if class := p.Classify(err); extreme != 1 && !class.Miss {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}
