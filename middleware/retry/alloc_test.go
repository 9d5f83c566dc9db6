//go:build !race

package retry_test

import (
	"context"
	"testing"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func succeed(context.Context, conn) error { return nil }
func answer(context.Context, conn) error  { return pooltest.ErrReply }
func deny(context.Context, conn) error    { return pooltest.ErrDenied }

// A success and an answer make no allocation. A failure makes a single allocation: the mark of the
// use ([pool.UseError]).
func TestAllocs(t *testing.T) {
	p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, newRetry(t, retry.Config{}))
	defer end()
	for name, fn := range map[string]func(context.Context, conn) error{"success": succeed, "answer": answer, "denied": deny} {
		want := 0.0
		if name == "denied" {
			want = 1
		}
		if n := testing.AllocsPerRun(200, func() { _ = p.Do(context.Background(), idempotent, fn) }); n != want {
			t.Errorf("%s: %v allocations, want %v", name, n, want)
		}
	}
	if n := testing.AllocsPerRun(200, func() {
		if l, err := p.Acquire(context.Background(), once); err == nil {
			l.Release(nil)
		}
	}); n != 0 {
		t.Errorf("Acquire: %v allocations, want 0", n)
	}
}
