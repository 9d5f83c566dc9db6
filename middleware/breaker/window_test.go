package breaker

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// The window agrees with a plain list of outcomes, whatever the pauses between them.
func TestWindowAgreesWithAList(t *testing.T) {
	const step, buckets = 10 * time.Millisecond, 7
	type outcome struct {
		at time.Duration
		ok bool
	}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		w := newWindow(&Config{Window: buckets * step, Buckets: buckets}, &needs{window: time.Hour})
		list := make([]outcome, 0, 500)
		now, consecutive := time.Duration(0), int64(0)
		for range 500 {
			if rnd.IntN(50) == 0 {
				now += time.Duration(rnd.Int64N(int64(3 * buckets * step)))
			} else {
				now += time.Duration(rnd.Int64N(int64(step)))
			}
			o := outcome{now, rnd.IntN(3) > 0}
			list = append(list, o)
			consecutive++
			if o.ok {
				w.success(w.at(now), rnd.Uint32())
				consecutive = 0
			} else {
				w.failure(now, &failure{run: w.number.Load()})
			}
			want := Counts{Consecutive: consecutive}
			for _, o := range list {
				switch age := now/step - o.at/step; {
				case age >= buckets:
				case o.ok:
					want.Successes++
				default:
					want.Failures++
				}
			}
			if got := w.counts(now); got != want {
				t.Fatalf("seed %d: after %d outcomes, at %v: %v, want %v", seed, len(list), now, got, want)
			}
		}
	}
}

// No outcome is lost when many goroutines count at once while the buckets turn, as long as the
// window is not over.
func TestWindowCountsFromManyGoroutines(t *testing.T) {
	const workers, each, steps = 8, 2000, 100
	w := newWindow(&Config{Window: steps * time.Millisecond, Buckets: steps}, &needs{window: time.Hour})
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i := range workers {
		wg.Go(func() {
			for n := range each {
				at := time.Duration(n*steps/each) * time.Millisecond
				if (n+i)%4 == 0 {
					mu.Lock() // the breaker's
					w.failure(at, &failure{answered: true})
					mu.Unlock()
				} else {
					w.success(w.at(at), uint32(i))
				}
			}
		})
	}
	wg.Wait()
	got := w.counts((steps - 1) * time.Millisecond)
	if got.Successes != workers*each*3/4 || got.Failures != workers*each/4 {
		t.Errorf("the window holds %v, want %d and %d", got, workers*each*3/4, workers*each/4)
	}
}
