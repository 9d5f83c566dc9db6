package retry_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// An operation that always fails does not spend the budget of the other operations. After a success
// the operation is retried again.
func TestRetriesInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := &counter{}
		layer := newRetry(t, retry.Config{})
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 50}, layer, attempts)
		defer end()
		bad, good := pool.Op{Name: "find", Target: "broken"}, pool.Op{Name: "find", Target: "well"}
		var wg sync.WaitGroup
		var lost, badUses, goodUses atomic.Int64
		for i := range 1200 {
			wg.Go(func() {
				badUses.Add(1)
				_ = p.Do(context.Background(), bad, failing(pooltest.ErrRefused))
			})
			wg.Go(func() {
				goodUses.Add(1)
				outcome := failing(nil)
				if i%5 == 0 {
					outcome = failing(pooltest.ErrRefused, pooltest.ErrRefused, nil)
				}
				if p.Do(context.Background(), good, outcome) != nil {
					lost.Add(1)
				}
			})
			time.Sleep(30 * time.Millisecond)
		}
		wg.Wait()
		// A few at first: the burst is spent, and the operation has not been in vain for a second yet.
		if lost.Load() > goodUses.Load()/200 {
			t.Errorf("%d of %d good uses had no retry", lost.Load(), goodUses.Load())
		}
		if n := int64(len(attempts.take())) - goodUses.Load() - 2*goodUses.Load()/5; n > badUses.Load()*3/2 || n < badUses.Load()*21/20 {
			t.Errorf("%d attempts in %d bad uses", n, badUses.Load())
		}

		if err := p.Do(context.Background(), bad, failing(nil)); err != nil {
			t.Fatal(err)
		}
		if err := p.Do(context.Background(), bad, failing(pooltest.ErrRefused, nil)); err != nil {
			t.Errorf("an operation that is well again had no retry: %v", err)
		}
	})
}

// A short outage takes nobody's retries away, nor does a layer without a budget.
func TestRetriesInVainForAMoment(t *testing.T) {
	for name, test := range map[string]struct {
		cfg   retry.Config
		lasts time.Duration
	}{"short": {retry.Config{}, 700 * time.Millisecond}, "without a budget": {retry.Config{Budget: -1}, 5 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, end := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 50}, newRetry(t, test.cfg))
				defer end()
				for begin := time.Now(); time.Since(begin) < test.lasts; {
					var failed *retry.Error
					if err := p.Do(context.Background(), idempotent, failing(pooltest.ErrRefused)); !errors.As(err, &failed) || failed.Attempts != 4 {
						t.Fatalf("got %v, want 4 attempts", err)
					}
				}
				if err := p.Do(context.Background(), idempotent, failing(pooltest.ErrRefused, nil)); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
