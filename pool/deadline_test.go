package pool_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

var errLate = errors.New("late")

// A lazy context gives the answers of a context made by context.WithDeadlineCause, in whatever
// order the methods are called.
func TestDeadlineIsLikeTheRealOne(t *testing.T) {
	asks := map[string]func(context.Context) any{
		"Err":   func(c context.Context) any { return c.Err() },
		"Cause": func(c context.Context) any { return context.Cause(c) },
		"Done": func(c context.Context) any {
			select {
			case <-c.Done():
				return true
			default:
				return false
			}
		},
		"Value": func(c context.Context) any { return c.Value(diaryKey{"k"}) },
		"child": func(c context.Context) any {
			child, cancel := context.WithCancel(c)
			defer cancel()
			return [2]error{child.Err(), context.Cause(child)}
		},
	}
	ends := map[string]func(cancelParent, cancel func()){
		"not at all":        func(func(), func()) {},
		"by its deadline":   func(func(), func()) { time.Sleep(2 * time.Second) },
		"by Cancel":         func(_, cancel func()) { cancel() },
		"by the parent":     func(parent, _ func()) { parent() },
		"late, by Cancel":   func(_, cancel func()) { time.Sleep(2 * time.Second); cancel() },
		"by both":           func(parent, cancel func()) { cancel(); parent() },
		"by parent, Cancel": func(parent, cancel func()) { parent(); cancel() },
	}
	for how, end := range ends {
		for first, ask := range asks {
			for second, askAgain := range asks {
				synctest.Test(t, func(t *testing.T) {
					root, cancelRoot := context.WithCancelCause(context.WithValue(background, diaryKey{"k"}, "v"))
					defer cancelRoot(nil)
					deadline := time.Now().Add(time.Second)
					lazy, d := pool.WithDeadline(root, deadline, errLate)
					genuine, cancel := context.WithDeadlineCause(root, deadline, errLate)
					defer cancel()
					end(func() { cancelRoot(errors.New("the parent's cause")) }, func() { d.Cancel(); cancel() })
					synctest.Wait()
					// If both the deadline and Cancel have ended the context, the real context reports the first
					// end. The lazy context may report the other end.
					if got, want := ask(lazy), ask(genuine); got != want && how != "late, by Cancel" && how != "by both" {
						t.Errorf("ended %s, %s: got %v, want %v", how, first, got, want)
					}
					if got, want := askAgain(lazy), askAgain(genuine); got != want && how != "late, by Cancel" && how != "by both" {
						t.Errorf("ended %s, %s after %s: got %v, want %v", how, second, first, got, want)
					}
				})
			}
		}
	}
}

func TestDeadlineWakesThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, d := pool.WithDeadline(background, time.Now().Add(time.Second), errLate)
		defer d.Cancel()
		start := time.Now()
		<-ctx.Done()
		if time.Since(start) != time.Second || !errors.Is(context.Cause(ctx), errLate) || !d.Passed() {
			t.Errorf("after %v: %v", time.Since(start), context.Cause(ctx))
		}
		ctx, d = pool.WithDeadline(background, time.Now().Add(time.Hour), errLate)
		time.AfterFunc(time.Second, d.Cancel)
		<-ctx.Done()
		if !errors.Is(ctx.Err(), context.Canceled) || d.Passed() {
			t.Errorf("cancelled: %v", ctx.Err())
		}
	})
}

func TestNearerDeadlineOfTheParent(t *testing.T) {
	parent, cancel := context.WithTimeout(background, time.Minute)
	defer cancel()
	ctx, d := pool.WithDeadline(parent, time.Now().Add(time.Hour), errLate)
	if ctx != parent || d != nil {
		t.Error("a deadline that is not needed was made")
	}
	d.Cancel() // harmless
	if d.Passed() || parent.Err() != nil {
		t.Error("the parent was touched")
	}
}

func TestDeadlineIsConcurrent(t *testing.T) {
	for range 200 {
		ctx, d := pool.WithDeadline(background, time.Now().Add(100*time.Microsecond), errLate)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { <-ctx.Done(); _ = context.Cause(ctx) })
			wg.Go(func() { _ = ctx.Err(); _ = ctx.Value(diaryKey{}) })
		}
		wg.Go(d.Cancel)
		wg.Wait()
		if ctx.Err() == nil {
			t.Fatal("not over")
		}
	}
}

// Interrupt makes a client return that does not observe its context. The pool closes the resource.
func TestInterrupt(t *testing.T) {
	fake := &pooltest.Fake{}
	p := newPool(t, fake, pool.Config{MaxSize: 1})
	ctx, cancel := context.WithCancel(background)
	err := p.Do(ctx, op, func(_ context.Context, c conn) error {
		cancel()
		return c.Block()
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, pooltest.ErrBroken) {
		t.Errorf("got %v, want context.Canceled and what the client said", err)
	}
	if err := p.Do(background, op, use); err != nil {
		t.Error(err)
	}
	if s := p.Stat(); s.Closed[pool.CloseBroken] != 1 {
		t.Errorf("closed %v", s.Closed)
	}
	// A lease is interrupted as well.
	ctx, cancel = context.WithCancel(background)
	l, err := p.Acquire(ctx, op)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := value(t, l).Block(); !errors.Is(err, pooltest.ErrBroken) {
		t.Errorf("Block: %v", err)
	}
	l.Release(nil)
	if s := p.Stat(); s.Idle != 0 {
		t.Error("an interrupted connection is idle, though its outcome was success")
	}
}

// A service cancels its uses and closes the pool, in either order. Each use in progress is
// interrupted, even in its first step of the clock.
func TestInterruptWhileClosing(t *testing.T) {
	for _, first := range []string{"cancel", "close"} {
		t.Run(first, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := newPool(t, fake, pool.Config{MaxSize: 1})
				acquire(t, p).Release(nil)
				time.Sleep(35 * time.Millisecond) // between two steps of the clock
				ctx, cancel := context.WithCancel(background)
				l, err := p.Acquire(ctx, op)
				if err != nil {
					t.Fatal(err)
				}
				c := value(t, l)
				go func() { l.Release(c.Block()) }()
				if first == "cancel" {
					cancel()
				} else {
					time.AfterFunc(100*time.Millisecond, cancel)
				}
				closing, stop := context.WithTimeout(background, 10*time.Second)
				defer stop()
				if err := p.Close(closing); err != nil {
					t.Error(err)
					fake.Interrupt(c)
				}
			})
		})
	}
}

// A late interrupt must not hit the next user of the resource.
func TestInterruptIsFenced(t *testing.T) {
	fake := &pooltest.Fake{}
	p := newPool(t, fake, pool.Config{MaxSize: 4})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				ctx, cancel := context.WithCancel(background)
				go cancel()
				_ = p.Do(ctx, op, func(context.Context, conn) error { return nil })
				// The context of this use is never cancelled, so the use must not meet a broken connection.
				if err := p.Do(background, op, use); err != nil {
					t.Errorf("an interrupt hit a later user: %v", err)
					return
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// A lease may begin while the clock of the pool is at rest, for example after a slow dial. The
// context of such a lease is watched, too.
func TestInterruptAfterSlowDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const dial, used, step = 3 * time.Second, 100 * time.Millisecond, 10 * time.Millisecond
		fake := &pooltest.Fake{}
		p := newPool(t, fake, pool.Config{MaxSize: 1, AcquireTimeout: time.Minute})
		fake.Inject(pooltest.Open, 1, pooltest.Slow(dial))
		ctx, cancel := context.WithCancel(background)
		time.AfterFunc(dial+used, cancel)
		start := time.Now()
		err := p.Do(ctx, op, func(_ context.Context, c conn) error { return c.Block() })
		if took := time.Since(start); !errors.Is(err, context.Canceled) || took > dial+used+step {
			t.Errorf("it took %v and returned %v, want at most %v", took, err, dial+used+step)
		}
	})
}
