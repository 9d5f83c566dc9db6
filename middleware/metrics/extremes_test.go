package metrics

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// The only number of Config at its extremes: with a number accepted by Validate, operations are
// told apart or added up.
func TestConfigAtItsExtremes(t *testing.T) {
	for most, apart := range map[int]int{1: 1, 2: 2, math.MaxInt / 2: 20, math.MaxInt - 1: 20, math.MaxInt: 20} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			r := newRigOn(newReader(t), redis, Config{MaxOperations: most}, pool.Config{})
			for i := range 20 {
				op := pool.Op{Name: fmt.Sprint("OP", i)}
				_ = r.pool.Do(context.Background(), op, nothing)
				_ = r.pool.Do(context.Background(), op, func(context.Context, *pooltest.Conn) error { return errors.New("x") })
			}
			named := 0
			for _, l := range r.lines() {
				if strings.HasPrefix(l, "db.client.operation.duration ") && strings.Contains(l, "db.operation.name=OP") && !strings.Contains(l, "error.type") {
					named++
				}
			}
			if named < apart || named > 2*apart {
				t.Errorf("%d operations are told apart, want from %d to %d", named, apart, 2*apart)
			}
		})
	}
	for _, most := range []int{-1, math.MinInt} {
		if _, err := New(Config{MaxOperations: most}); err == nil || !strings.Contains(err.Error(), fmt.Sprint("MaxOperations is ", most)) {
			t.Errorf("%d: got %v", most, err)
		}
	}
}
