package timeout_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// Only what time brought about is translated.
func TestTranslation(t *testing.T) {
	ioTimeout := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	for _, tc := range []struct {
		err        error
		translated bool
	}{
		{context.DeadlineExceeded, true},
		{context.Canceled, true}, // what a client makes of a context that is over
		{ioTimeout, true},
		{fmt.Errorf("client: %w", ioTimeout), true},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, true},
		{quiet{context.DeadlineExceeded}, true},
		{net.ErrClosed, true}, // a client that closes its socket when the context is over
		{pooltest.ErrReply, false},
		{pooltest.ErrMiss, false},
		{pooltest.ErrDenied, false},
		{io.EOF, false},
	} {
		for _, late := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v, late %t", tc.err, late), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					seen := &recorder{}
					p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, attempt(t, limit(time.Second)))
					defer end()
					err := p.Do(context.Background(), pool.Op{}, func(context.Context, conn) error {
						if late {
							wait(time.Second)
						}
						return tc.err
					})
					want := tc.translated && late
					if got := errors.Is(err, timeout.ErrAttempt); got != want || !errors.Is(err, tc.err) {
						t.Errorf("got %v (translated %t), want translated %t", err, got, want)
					}
					if n := len(seen.take()); (n == 1) != want {
						t.Errorf("got %d events, want one only if it was translated", n)
					}
					if !want && !errors.Is(err, tc.err) {
						t.Errorf("got %v, want the very error", err)
					}
				})
			})
		}
	}
}

// quiet is an error that does not own up to its being a timeout.
type quiet struct{ error }

func (q quiet) Timeout() bool { return false }
func (q quiet) Unwrap() error { return q.error }

// The caller's own deadline and cancellation stay the caller's.
func TestCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen, between := &recorder{}, &judge{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, total(t, limit(time.Minute)), between, attempt(t, limit(time.Second)))
		defer end()

		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		err := p.Do(ctx, pool.Op{}, untilOver)
		if !errors.Is(err, context.DeadlineExceeded) || between.last.Fault != driver.FaultCaller {
			t.Errorf("deadline: got %v, class %+v, want the context's error, fault caller", err, between.last)
		}

		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(time.Millisecond, cancel)
		err = p.Do(ctx, pool.Op{}, untilOver)
		if !errors.Is(err, context.Canceled) || between.last.Fault != driver.FaultCaller {
			t.Errorf("cancel: got %v, class %+v, want the context's error, fault caller", err, between.last)
		}

		// A cancel that comes with the limit: the caller has lost interest, so it is named.
		ctx, cancel = context.WithCancel(context.Background())
		err = p.Do(ctx, pool.Op{}, func(context.Context, conn) error {
			wait(time.Second)
			cancel()
			return context.Canceled
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancel at the limit: got %v, want the context's error", err)
		}
		if events := seen.take(); events != nil {
			t.Errorf("got events %+v, want none", events)
		}
	})
}

// When both limits have passed by the time the use returns, the one that passed first is named.
func TestFirstIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &recorder{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, seen, total(t, limit(2*time.Second)), attempt(t, limit(time.Second)))
		defer end()
		err := p.Do(context.Background(), pool.Op{}, func(context.Context, conn) error {
			wait(time.Minute)
			return os.ErrDeadlineExceeded
		})
		if !errors.Is(err, timeout.ErrAttempt) || errors.Is(err, timeout.ErrTotal) {
			t.Errorf("got %v, want ErrAttempt alone", err)
		}
		if events := seen.take(); len(events) != 1 || events[0].Layer != "timeout.attempt" {
			t.Errorf("got events %+v, want that of the attempt", events)
		}
	})
}

// The errors of earlier attempts, kept by retry in its error, do not hide the total limit.
func TestEarlierAttempts(t *testing.T) {
	for _, refused := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			fake, seen := &pooltest.Fake{}, &recorder{}
			pause := time.Duration(0)
			if refused {
				fake.Inject(pooltest.Open, 1, pooltest.Fail(pooltest.ErrRefused))
				pause = time.Second
			}
			twice := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
				return func(ctx context.Context, c *pool.Call) error {
					first := next(ctx, c)
					wait(pause)
					c.SetAttempt(2)
					return errors.Join(next(ctx, c), first)
				}
			})
			p, end := newPool(t, fake, pool.Config{OpenBackoff: 1}, seen, total(t, limit(1500*time.Millisecond)), twice, attempt(t, limit(time.Second)))
			defer end()
			err := p.Do(context.Background(), pool.Op{}, untilOver)
			events := seen.take()
			if e := asError(t, err); e.Stage != timeout.StageTotal || events[len(events)-1].Layer != "timeout.total" {
				t.Errorf("refused %t: got %v, events %+v, want the total limit", refused, err, events)
			}
		})
	}
}

// A function that returns the context's cause is understood, too.
func TestReturnedCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, total(t, limit(time.Second)))
		defer end()
		err := p.Do(context.Background(), pool.Op{}, func(ctx context.Context, _ conn) error {
			<-ctx.Done()
			return context.Cause(ctx)
		})
		if e := asError(t, err); e.Stage != timeout.StageTotal || e.Err == nil {
			t.Errorf("got %+v, want stage total, wrapping what came back", e)
		}
	})
}

func TestErrorText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		p, end := newPool(t, fake, pool.Config{Name: "sessions"}, total(t, limit(1500*time.Millisecond)), attempt(t, limit(time.Second)))
		defer end()
		err := p.Do(context.Background(), pool.Op{}, untilOver)
		if got, want := err.Error(), `timeout: pool "sessions": the attempt took too long (1s): context deadline exceeded`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		fake.Inject(pooltest.Open, -1, pooltest.Hang())
		err = p.Do(context.Background(), pool.Op{}, untilOver)
		want := `timeout: the use took too long (1.5s) while it waited for a resource: pool "sessions": `
		if !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %q, want it to begin with %q", err, want)
		}
	})
}

// A client returns so late that the caller's own deadline has passed as well. The server is still
// at fault.
func TestLateBeyondTheCallersDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &judge{}
		p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, j, attempt(t, limit(20*time.Millisecond)))
		defer end()
		ctx, cancel := context.WithTimeout(context.Background(), 25*time.Millisecond)
		defer cancel()
		err := p.Do(ctx, pool.Op{}, func(ctx context.Context, _ conn) error {
			<-ctx.Done()
			time.Sleep(10 * time.Millisecond)
			return context.DeadlineExceeded
		})
		if !errors.Is(err, timeout.ErrAttempt) || j.last.Fault != driver.FaultServer {
			t.Errorf("%v: got %+v", err, j.last)
		}
	})
}
