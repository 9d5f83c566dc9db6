package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// A consumer of a queue has to do each piece of work and can wait: its retries are not budgeted.
func ExampleQueue() {
	stack, err := middleware.Standard(middleware.Queue())
	fmt.Println(stack.Retry.Effective().MaxAttempts, stack.Retry.Effective().Budget, err)
	// Output: 12 -1 <nil>
}

// quota is a layer of the application: it refuses uses beyond a quota.
type quota struct{ left int }

func (q *quota) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "quota", Role: pool.RoleAdmit}
}

func (q *quota) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		if q.left--; q.left < 0 {
			return errors.New("the quota is used up")
		}
		return next(ctx, c)
	}
}

// A layer of the application is put into the standard stack: outside of retry, so a use counts once
// whatever its attempts.
func ExampleStack_Insert() {
	stack, err := middleware.Standard(middleware.Options{Without: []string{middleware.KindTracing, middleware.KindMetrics}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(stack.Insert(middleware.KindRetry, &quota{left: 100}))
	fmt.Println(stack.Insert("retries", &quota{left: 100}))

	p, err := pool.New(&pooltest.Fake{}, pool.Config{}, stack.Layers()...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close(context.Background())
	for _, l := range p.Layers() {
		fmt.Println(l.Layer)
	}
	// Output:
	// <nil>
	// middleware: no layer of the stack is of the kind "retries": must be among logging, timeout.total, quota, retry, breaker, timeout.attempt
	// logging
	// timeout.total
	// quota
	// retry
	// breaker
	// timeout.attempt
}

// A chain made by hand, with one check of errors.
func ExampleBuilder() {
	var b middleware.Builder
	b.Add(timeout.NewTotal(timeout.Config{Limit: time.Second}))
	b.Add(&quota{left: 100}, nil)
	b.Add(retry.New(retry.Config{MaxAttempts: -1}))
	b.Add(breaker.New(breaker.Config{Probes: -2}))
	layers, err := b.Layers()
	fmt.Println(len(layers))
	fmt.Println(err)
	// Output:
	// 0
	// middleware: layer 3 (*retry.Retry): retry: MaxAttempts is -1: must be 0 (default 4) or more
	// middleware: layer 4 (*breaker.Breaker): breaker: Probes is -2: must be 0 (default 1) or more
}
