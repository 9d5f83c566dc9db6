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

// survivor is a resource that goes on after an interrupt, once it has been reset.
type survivor struct {
	interrupted atomic.Bool
	stop        chan struct{} // of capacity 1
	lost        atomic.Bool   // no reset can bring it back
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

// A resource that its driver calls dirty after an interrupt is reset and lent again, the others are
// closed.
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

// An interrupt that is survived never meets a later user either, nor does one of a waiter whose
// context ended when it was served.
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
