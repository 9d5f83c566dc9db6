package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// PerOperation is a layer that bounds the uses in progress of each operation. So a slow operation
// cannot take all connections from the quick operations. A PerOperation may serve several pools.
type PerOperation struct {
	limit  int
	places sync.Map // from Op.Name to a chan struct{}, which holds a value for each use in progress
}

// NewPerOperation returns a layer that admits up to limit uses of each operation at a time.
func NewPerOperation(limit int) (*PerOperation, error) {
	if limit < 1 {
		return nil, fmt.Errorf("limit is %d: must be 1 or more", limit)
	}
	return &PerOperation{limit: limit}, nil
}

// Begin takes a place for the use, or refuses the use. The pool passes the second result to End.
func (l *PerOperation) Begin(ctx context.Context, c *pool.Call) (context.Context, chan struct{}, error) {
	name := c.Op().Name
	value, ok := l.places.Load(name)
	if !ok {
		value, _ = l.places.LoadOrStore(name, make(chan struct{}, l.limit))
	}
	places, _ := value.(chan struct{})
	select {
	case places <- struct{}{}:
		return ctx, places, nil
	default:
		err := FullError(name)
		c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: "per_operation", Reason: "operation_full", Err: err})
		return ctx, nil, err
	}
}

// End frees the place. End runs once after each Begin without an error: after a success, an error
// or a panic. In a two-step use, End runs at Release.
func (*PerOperation) End(_ context.Context, _ *pool.Call, places chan struct{}, _ error) { <-places }

// Describe names the layer, its role among the layers, its settings and its events.
func (l *PerOperation) Describe() pool.LayerInfo {
	return pool.LayerInfo{
		Layer: "per_operation", Role: pool.RoleAdmit, Settings: map[string]string{"limit": strconv.Itoa(l.limit)},
		Events: []pool.Event{{Kind: pool.EventRejected, Reason: "operation_full"}},
	}
}

// FullError is the error of a refused use: the name of its operation.
type FullError string

func (e FullError) Error() string { return "too many uses in progress of " + string(e) }

// Class says that this process has refused the use. No breaker counts the refusal, and no retry
// repeats the use.
func (FullError) Class() driver.Class {
	return driver.Class{Fault: driver.FaultLocal, Type: "operation_full"}
}
