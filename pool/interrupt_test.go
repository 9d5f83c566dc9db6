package pool_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// survivor is a resource that can be lent again after an interrupt and a reset.
type survivor struct {
	interrupted atomic.Bool
	stop        chan struct{} // capacity 1
	lost        atomic.Bool   // a reset fails
}

// wait blocks until the use is interrupted.
func (s *survivor) wait() error {
	<-s.stop
	return errInterrupted
}

var errInterrupted = errors.New("interrupted")

type survivors struct{ resets atomic.Int64 }

func (*survivors) Open(context.Context) (*survivor, error) {
	return &survivor{stop: make(chan struct{}, 1)}, nil
}
func (*survivors) Check(context.Context, *survivor) error { return nil }
func (*survivors) Close(context.Context, *survivor) error { return nil }
func (*survivors) Interrupt(s *survivor)                  { s.interrupted.Store(true); s.stop <- struct{}{} }
func (*survivors) Dirty(s *survivor) bool                 { return s.interrupted.Load() && !s.lost.Load() }
func (*survivors) Classify(error) driver.Class            { return driver.Class{} }

func (d *survivors) Reset(_ context.Context, s *survivor) error {
	d.resets.Add(1)
	select {
	case <-s.stop:
	default:
	}
	s.interrupted.Store(false)
	return nil
}

// If the driver reports a resource as dirty after an interrupt, the resource is reset and lent
// again. Any other interrupted resource is closed.
func TestInterruptThatIsSurvived(t *testing.T) {
	d := &survivors{}
	p, err := pool.New(d, pool.Config{MaxSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(background) }()
	block := func(lost, silent bool) error {
		ctx, cancel := context.WithCancel(background)
		return p.Do(ctx, op, func(_ context.Context, s *survivor) error {
			s.lost.Store(lost)
			cancel()
			if err := s.wait(); !silent {
				return err
			}
			return nil
		})
	}
	for _, silent := range []bool{false, true} {
		if err := block(false, silent); silent != (err == nil) || err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if err := p.Do(background, op, func(context.Context, *survivor) error { return nil }); err != nil {
		t.Error(err)
	}
	if s := p.Stat(); s.Opened != 1 || s.Closed.Total() != 0 || d.resets.Load() != 2 {
		t.Errorf("%d resets, %+v", d.resets.Load(), s)
	}
	_ = block(true, true)
	if err := p.Do(background, op, func(context.Context, *survivor) error { return nil }); err != nil {
		t.Error(err)
	}
	if s := p.Stat(); s.Opened != 2 || s.Closed[pool.CloseBroken] != 1 {
		t.Errorf("%+v", s)
	}
}

// An interrupt never hits a later user of the same resource. The same holds for a waiter whose
// context ends at the grant.
func TestInterruptThatIsSurvivedIsFenced(t *testing.T) {
	d := &survivors{}
	p, err := pool.New(d, pool.Config{MaxSize: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(background) }()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 500 {
				ctx, cancel := context.WithCancel(background)
				go cancel()
				_ = p.Do(ctx, op, func(context.Context, *survivor) error { return nil })
				err := p.Do(background, op, func(_ context.Context, s *survivor) error {
					if s.interrupted.Load() || len(s.stop) > 0 {
						return errors.New("an interrupt hit a later user")
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	for range 4 {
		all.Go(func() {
			for range 20 {
				ctx, cancel := context.WithCancel(background)
				_ = p.Do(ctx, op, func(_ context.Context, s *survivor) error {
					time.AfterFunc(time.Millisecond, cancel)
					return s.wait()
				})
			}
		})
	}
	all.Wait()
	if s := p.Stat(); s.Closed.Total() != 0 || s.Opened > 2 {
		t.Errorf("%+v", s)
	}
}
