package breaker

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// past is a use of a random schedule, as the reference judge knows it.
type past struct {
	began, granted, ended time.Time
	outcome               error
}

// verdict is the reference judge. It goes through the finished uses in order, and looks at all of
// them again each time.
func verdict(cfg Config, uses []past) (openedAt time.Time) {
	slices.SortFunc(uses, func(a, b past) int { return a.ended.Compare(b.ended) })
	for i := range uses {
		if uses[i].outcome == nil {
			continue
		}
		start := i
		for start > 0 && uses[start-1].outcome != nil {
			start--
		}
		first := uses[start].ended
		run, ratioFailed, ok := 0, 0, 0
		echo := func(u past, first time.Time) bool {
			if u.granted.After(u.began) {
				return u.granted.Before(first)
			}
			return u.began.Before(first)
		}
		begin := 0 // of the run that u belongs to
		counts := false
		var latest time.Time // when the latest failure that counts ended
		for j := 0; j <= i; j++ {
			u := uses[j]
			if u.outcome == nil {
				ok++
				begin = j + 1
				continue
			}
			before := uses[begin].ended
			if u.outcome == cutOff {
				before = latest
			}
			evidence := j == begin || !echo(u, before)
			if evidence {
				latest = u.ended
			}
			if evidence && begin == start {
				run++
			}
			counts = evidence || u.outcome == fail
			if counts {
				ratioFailed++
			}
		}
		if !counts {
			continue
		}
		if n := ok + ratioFailed; cfg.FailureRatio > 0 && n >= cfg.MinCalls && float64(ratioFailed) >= cfg.FailureRatio*float64(n) {
			return uses[i].ended
		}
		if cfg.ConsecutiveFailures > 0 && run >= cfg.ConsecutiveFailures {
			return uses[i].ended
		}
		if cfg.ConsecutiveFailures == 0 && run >= 5 && uses[i].ended.Sub(first) >= 300*time.Millisecond {
			others := ratioFailed - run
			p, chance := float64(others+1)/float64(ok+others+16), 1.0
			for range run {
				chance *= p
			}
			if chance <= 1e-6 {
				return uses[i].ended
			}
		}
	}
	return openedAt
}

// Under random schedules the breaker opens when the reference judge says so, to the nanosecond.
func TestEvidenceAgreesWithAReferenceJudge(t *testing.T) {
	opened := 0
	for seed := range uint64(2000) {
		bubble(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			cfg := Config{FailureRatio: -1}
			if rnd.IntN(2) == 0 {
				cfg.FailureRatio, cfg.MinCalls = 0.5+rnd.Float64()/2, 10+rnd.IntN(20)
			}
			if rnd.IntN(3) == 0 {
				cfg.ConsecutiveFailures = 1 + rnd.IntN(8)
			}
			if rnd.IntN(4) == 0 {
				cfg.ConsecutiveFailures = -1
			}
			r := newRigOn(t, cfg, pool.Config{MaxSize: 1 + rnd.IntN(8)})
			if err := r.pool.Warm(context.Background(), r.pool.Effective().MaxSize); err != nil {
				t.Fatal(err)
			}
			var mu sync.Mutex
			var uses []past
			var wg sync.WaitGroup
			sick := rnd.Float64() // what share of the calls fails while the server is ill
			for range 1 + rnd.IntN(12) {
				own := rand.New(rand.NewPCG(rnd.Uint64(), 3))
				wg.Go(func() {
					for range 25 {
						time.Sleep(time.Duration(own.Int64N(int64(40 * time.Millisecond))))
						if r.State() != StateClosed {
							return
						}
						outcome := error(nil)
						if ill := time.Now().UnixMilli()/300%2 == 0; ill && own.Float64() < sick {
							outcome = []error{fail, cutOff}[own.IntN(2)]
						}
						u := past{began: time.Now(), outcome: outcome}
						err := r.pool.Do(context.Background(), get, func(context.Context, *conn) error {
							u.granted = time.Now()
							time.Sleep(time.Duration(own.Int64N(int64(60 * time.Millisecond))))
							return outcome
						})
						u.ended = time.Now()
						if errors.Is(err, ErrOpen) {
							return
						}
						mu.Lock()
						uses = append(uses, u)
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			want, got := verdict(r.Effective(), uses), r.Snapshot().Trip.At
			if !got.Equal(want) {
				t.Errorf("seed %d, %+v: it opened at %v, want %v; %v", seed, cfg, got, want, r.Snapshot().Trip)
			}
			if !got.IsZero() {
				opened++
			}
		})
	}
	if opened < 300 || opened > 1900 {
		t.Errorf("%d of 2000 schedules open: they show little", opened)
	}
}
