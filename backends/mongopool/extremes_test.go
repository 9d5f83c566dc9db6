package mongopool

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/earnorm/poolstack/pool"
)

// Every duration of Options, and every number of the pool's Config, at its extremes: the driver
// passes them on to its client. Values that Validate accepts serve commands. Values that Validate
// does not accept are named.
func TestOptionsAtTheirExtremes(t *testing.T) {
	for _, typ := range []reflect.Type{reflect.TypeFor[Options](), reflect.TypeFor[pool.Config]()} {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if !f.Type.ConvertibleTo(reflect.TypeFor[int64]()) {
				continue
			}
			for _, extreme := range []int64{math.MinInt64, -1, 1, math.MaxInt64 - 1, math.MaxInt64} {
				t.Run(fmt.Sprintf("%v.%s %d", typ, f.Name, extreme), func(t *testing.T) {
					o, cfg := Options{URI: newFake(t).uri()}, pool.Config{}
					if typ == reflect.TypeFor[Options]() {
						reflect.ValueOf(&o).Elem().Field(i).SetInt(extreme)
					} else {
						reflect.ValueOf(&cfg).Elem().Field(i).SetInt(extreme)
					}
					testExtreme(t, o, cfg, f.Name, extreme)
				})
			}
		}
	}
}

func testExtreme(t *testing.T, o Options, cfg pool.Config, field string, extreme int64) {
	d, err := NewDriver(o)
	var p *pool.Pool[*Conn]
	if err == nil {
		p, err = d.NewPool(cfg)
	}
	if err != nil {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("got %v", err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err = p.Do(ctx, pool.Op{Name: "ping"}, func(ctx context.Context, c *Conn) error {
		return c.Database().RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Err()
	})
	if err != nil && extreme != 1 {
		t.Errorf("got %v", err)
	}
	if err := p.Close(bounded(t)); err != nil {
		t.Error(err)
	}
}
