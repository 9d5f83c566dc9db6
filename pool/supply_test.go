package pool_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// hooks is a driver of functions.
type hooks struct {
	open, check func(ctx context.Context, id int) error
	opened      atomic.Int64
}

func (d *hooks) Open(ctx context.Context) (int, error) {
	if d.open != nil {
		if err := d.open(ctx, 0); err != nil {
			return 0, err
		}
	}
	return int(d.opened.Add(1)), nil
}

func (d *hooks) Check(ctx context.Context, id int) error {
	if d.check == nil {
		return nil
	}
	return d.check(ctx, id)
}

func (d *hooks) Close(context.Context, int) error { return nil }

func hooked(t *testing.T, d *hooks, cfg pool.Config) *pool.Pool[int] {
	t.Helper()
	p, err := pool.New(d, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func closePoolOf(t *testing.T, p *pool.Pool[int]) {
	t.Helper()
	ctx, c := context.WithTimeout(context.Background(), time.Minute)
	defer c()
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
}

func untilOver(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func one(t *testing.T, p *pool.Pool[int]) (pool.Lease[int], int) {
	t.Helper()
	l, err := p.Acquire(context.Background(), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	v, _ := l.Value()
	return l, v
}

func idleOnes(t *testing.T, p *pool.Pool[int], n int) {
	t.Helper()
	var ls []pool.Lease[int]
	for range n {
		l, _ := one(t, p)
		ls = append(ls, l)
	}
	for _, l := range ls {
		l.Release(nil)
	}
}

// Idle resources that are silently dead, new ones that open at once: how long do n borrowers wait that come at the same time, of a pool of size
// whose idle ones are dead up to dead, if the checks heed their context or not, and if checks were seen to be fast before or not.
func TestSupplyBound(t *testing.T) {
	for _, size := range []int{2, 3, 10, 50} {
		for _, idle := range []int{1, size / 2, size} {
			for _, n := range []int{1, 4, size} {
				for _, heeds := range []bool{true, false} {
					for _, known := range []bool{true, false} {
						name := fmt.Sprintf("size %d idle %d borrowers %d heeds %t known %t", size, idle, n, heeds, known)
						t.Run(name, func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) {
								var dead atomic.Int64
								stuck := make(chan struct{})
								d := &hooks{check: func(ctx context.Context, id int) error {
									if id > int(dead.Load()) {
										time.Sleep(time.Millisecond)
										return nil
									}
									if !heeds {
										<-stuck
										return errors.New("stuck")
									}
									return untilOver(ctx)
								}, open: func(context.Context, int) error { time.Sleep(2 * time.Millisecond); return nil }}
								p := hooked(t, d, pool.Config{MaxSize: size})
								idleOnes(t, p, idle)
								if known {
									time.Sleep(time.Minute)
									idleOnes(t, p, idle)
								}
								dead.Store(int64(idle))
								time.Sleep(time.Minute)
								var wg sync.WaitGroup
								var worst, failed atomic.Int64
								for range n {
									wg.Go(func() {
										at := time.Now()
										l, err := p.Acquire(context.Background(), pool.Op{})
										if err != nil {
											failed.Add(1)
										} else {
											l.Release(nil)
										}
										worst.Store(max(worst.Load(), int64(time.Since(at))))
									})
								}
								wg.Wait()
								s := p.Stat()
								t.Logf("worst %v, failed %d; opened %d", time.Duration(worst.Load()), failed.Load(), s.Opened)
								full := !heeds && idle == size && (n >= size || size == 2) // all places are taken by checks that never return
								if (failed.Load() > 0 || time.Duration(worst.Load()) > time.Second+50*time.Millisecond) && !full {
									t.Errorf("worst %v, failed %d: %+v", time.Duration(worst.Load()), failed.Load(), s)
								}
								close(stuck)
								closePoolOf(t, p)
							})
						})
					}
				}
			}
		}
	}
}

// Against a server that is gone: refused at once, or a black hole. How many dials in 10 s with 50 borrowers that come again and again?
func TestSupplyNoStorm(t *testing.T) {
	for _, how := range []string{"refused", "hung"} {
		for _, lease := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s lease %t", how, lease), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var gone atomic.Bool
					var dials, most, under atomic.Int64
					bad := func(ctx context.Context) error {
						if how == "hung" {
							return untilOver(ctx)
						}
						return errors.New("refused")
					}
					d := &hooks{open: func(ctx context.Context, _ int) error {
						if !gone.Load() {
							time.Sleep(time.Millisecond)
							return nil
						}
						dials.Add(1)
						most.Store(max(most.Load(), under.Add(1)))
						defer under.Add(-1)
						return bad(ctx)
					}, check: func(ctx context.Context, _ int) error {
						if gone.Load() {
							return bad(ctx)
						}
						return nil
					}}
					p := hooked(t, d, pool.Config{MaxSize: 20})
					idleOnes(t, p, 10)
					var l pool.Lease[int]
					if lease {
						l, _ = one(t, p)
					}
					gone.Store(true)
					time.Sleep(2 * time.Second)
					begin := time.Now()
					var wg sync.WaitGroup
					var told atomic.Int64
					var waited, worst atomic.Int64
					for range 50 {
						wg.Go(func() {
							for time.Since(begin) < 10*time.Second {
								at := time.Now()
								l, err := p.Acquire(context.Background(), pool.Op{})
								if err == nil {
									l.Release(nil)
									continue
								}
								told.Add(1)
								waited.Add(int64(time.Since(at)))
								worst.Store(max(worst.Load(), int64(time.Since(at))))
								time.Sleep(10 * time.Millisecond)
							}
						})
					}
					wg.Wait()
					t.Logf("%d dials, at most %d at once; %d told, after %v on the average, worst %v", dials.Load(), most.Load(), told.Load(),
						time.Duration(waited.Load()/max(told.Load(), 1)).Round(time.Millisecond), time.Duration(worst.Load()).Round(time.Millisecond))
					if dials.Load() > 60 || most.Load() > 4 {
						t.Errorf("a storm")
					}
					if lease {
						l.Release(nil)
					}
					closePoolOf(t, p)
				})
			})
		}
	}
}

// A server that becomes slow, by 2, 10 and 100 times, for checks and dials, but serves: how many connections does that cost?
func TestSupplyNoChurn(t *testing.T) {
	for _, times := range []int{1, 2, 10, 100, 400} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var slow atomic.Int64
				slow.Store(1)
				work := func(ctx context.Context, _ int) error {
					select {
					case <-time.After(time.Duration(slow.Load()) * 2 * time.Millisecond):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				d := &hooks{open: work, check: work}
				p := hooked(t, d, pool.Config{MaxSize: 20})
				idleOnes(t, p, 20)
				time.Sleep(5 * time.Second)
				idleOnes(t, p, 20)
				slow.Store(int64(times))
				failed := 0
				for range 100 { // bursts of 1 to 10, so seldom that all are checked
					time.Sleep(3 * time.Second)
					var wg sync.WaitGroup
					for range 5 {
						wg.Go(func() {
							l, err := p.Acquire(context.Background(), pool.Op{})
							if err != nil {
								failed++
								return
							}
							time.Sleep(time.Millisecond)
							l.Release(nil)
						})
					}
					wg.Wait()
				}
				s := p.Stat()
				t.Logf("%d times slower: opened %d, closed %v, failed %d", times, s.Opened, s.Closed, failed)
				if s.Opened > 24 || failed > 0 {
					t.Errorf("churn: %+v", s)
				}
				closePoolOf(t, p)
			})
		})
	}
}
