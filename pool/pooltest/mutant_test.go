package pooltest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/settings"
)

// mutants are layers that each break a rule. The suite must find all of them.
var mutants = map[string]func() pool.Middleware{
	"swallows errors": wrap(func(ctx context.Context, c *pool.Call, next pool.Handler) error {
		_ = next(ctx, c)
		return nil
	}),
	"hides causes": wrap(func(ctx context.Context, c *pool.Call, next pool.Handler) error {
		if err := next(ctx, c); err != nil {
			return fmt.Errorf("failed: %v", err) // the mistake
		}
		return nil
	}),
	"swallows panics": wrap(func(ctx context.Context, c *pool.Call, next pool.Handler) error {
		defer func() { _ = recover() }()
		return next(ctx, c)
	}),
	"cancels at the grant": wrap(func(ctx context.Context, c *pool.Call, next pool.Handler) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return next(ctx, c)
	}),
	"replaces the context": wrap(func(_ context.Context, c *pool.Call, next pool.Handler) error {
		return next(context.Background(), c)
	}),
	"calls next twice": wrap(func(ctx context.Context, c *pool.Call, next pool.Handler) error {
		_ = next(ctx, c)
		return next(ctx, c)
	}),
	"keeps the Call": func() pool.Middleware {
		var last atomic.Pointer[pool.Call]
		return pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				if old := last.Swap(c); old != nil && old != c {
					old.Op()
				}
				return next(ctx, c)
			}
		})
	},
	"leaks a goroutine's use": wrap(func(ctx context.Context, c *pool.Call, next pool.Handler) error {
		done := make(chan error, 1)
		go func() { done <- next(ctx, c) }()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err() // while next may still run
		}
	}),
	"keeps the place of a failed use": func() pool.Middleware {
		places := make(chan struct{}, 1000)
		return pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error {
				select {
				case places <- struct{}{}:
				default:
					return pooltest.ErrDenied
				}
				err := next(ctx, c)
				if err == nil {
					<-places
				}
				return err
			}
		})
	},
	"has a Tuning that is nil": func() pool.Middleware { return tuned{} },
	"keeps a change of settings to itself": func() pool.Middleware {
		live, err := settings.New(&tunedSpec, tunedConfig{}, settings.Hooks[tunedConfig]{})
		if err != nil {
			panic(err)
		}
		return tuned{live.Tuning()}
	},
	"has a level that is in no state": func() pool.Middleware { return undecided{} },
	"cannot be attached again":        func() pool.Middleware { return &attachOnce{} },
}

func wrap(f func(ctx context.Context, c *pool.Call, next pool.Handler) error) func() pool.Middleware {
	return func() pool.Middleware {
		return pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
			return func(ctx context.Context, c *pool.Call) error { return f(ctx, c, next) }
		})
	}
}

// tuned is a layer with settings.
type tuned struct{ tuning *settings.Tuning }

type tunedConfig struct{ Strict bool }

var tunedSpec = settings.Spec[tunedConfig]{Layer: "tuned", Fields: []settings.Entry[tunedConfig]{
	settings.Bool(func(c *tunedConfig) *bool { return &c.Strict }, settings.Field{Go: "Strict"}),
}}

func (tuned) Wrap(next pool.Handler) pool.Handler { return next }

func (t tuned) Tuning() *settings.Tuning { return t.tuning }

type undecided struct{}

func (undecided) Wrap(next pool.Handler) pool.Handler { return next }

func (undecided) Levels() []pool.Level {
	return []pool.Level{{Layer: "cat", Name: "state", States: []string{"alive", "dead"}, Read: func() (float64, bool) { return 0.5, true }}}
}

type attachOnce struct{ attached atomic.Bool }

func (a *attachOnce) Wrap(next pool.Handler) pool.Handler { return next }

func (a *attachOnce) Attach(pool.PoolInfo) (func(), error) {
	if a.attached.Swap(true) {
		return nil, errors.New("attached already")
	}
	return nil, nil
}

const mutantEnv = "POOLTEST_MUTANT"

// TestMutant runs the suite on the mutant named by the environment, in a process started by
// TestSuiteFindsMutants.
func TestMutant(t *testing.T) {
	mutant, ok := mutants[os.Getenv(mutantEnv)]
	if !ok {
		t.Skip("only run by TestSuiteFindsMutants")
	}
	pooltest.RunMiddleware(t, func(testing.TB) pool.Middleware { return mutant() })
}

func TestSuiteFindsMutants(t *testing.T) {
	for name := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestMutant$", "-test.timeout=30s")
			cmd.Env = append(os.Environ(), mutantEnv+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Error("the suite passed")
			}
			if !strings.Contains(string(out), "FAIL") && !strings.Contains(string(out), "panic:") {
				t.Errorf("the process failed for another reason: %v\n%s", err, out)
			}
		})
	}
}
