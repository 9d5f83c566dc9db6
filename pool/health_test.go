package pool_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// An idle resource that has died alone is no evidence about the server: Check tries another
// resource.
func TestCheckOutlivesADeadIdleResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &mortal{}
		p, err := pool.New(d, pool.Config{MaxSize: 3})
		if err != nil {
			t.Fatal(err)
		}
		defer closePoolOf(t, p)
		if err := p.Warm(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		d.dead.Store(3)
		if h := p.Check(t.Context()); h.Status != pool.StatusOK {
			t.Errorf("%+v", h)
		}
		d.dead.Store(1000)
		if h := p.Check(t.Context()); h.Status != pool.StatusDown {
			t.Errorf("a dead server: %+v", h)
		}
	})
}

// mortal is a driver whose first resources can die.
type mortal struct {
	hooks
	dead atomic.Int64 // all resources up to this one
}

func (d *mortal) Check(_ context.Context, res int) error {
	if int64(res) <= d.dead.Load() {
		return io.EOF
	}
	return nil
}
