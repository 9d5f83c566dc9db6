package pool_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/settings"
)

// apply declares values for a source at the present revision.
func apply(t *settings.Tuning, source settings.Source, id string, pairs ...string) (settings.Result, error) {
	r := settings.Request{Source: source, ID: id, Actor: "ann", Reason: "a test", Values: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		r.Values[pairs[i]] = pairs[i+1]
	}
	for {
		r.Revision = t.Read().Revision
		result, err := t.Apply(r)
		if !errors.Is(err, settings.ErrStale) {
			return result, err
		}
	}
}

// split returns the events of changed settings and the warnings.
func split(r *recorder) (configured, warnings []pool.Event) {
	for _, e := range r.drain() {
		switch e.Kind {
		case pool.EventConfigured:
			configured = append(configured, e)
		case pool.EventWarning:
			warnings = append(warnings, e)
		}
	}
	return configured, warnings
}

// The pool's own settings follow a source at run time, and each change makes a single event.
func TestTuningOfThePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		events := newRecorder()
		p := newPool(t, &pooltest.Fake{}, pool.Config{Name: "orders", MaxSize: 1}, events)
		lease := acquire(t, p)
		got := make(chan error, 1)
		go func() { got <- p.Do(background, op, use) }()
		synctest.Wait()
		r, err := apply(p.Tuning(), settings.Fleet, "82", "max_size", "2", "keep_alive", "1m")
		if err != nil || fmt.Sprint(r.Changes) != "[{max_size 1 2} {keep_alive off 1m0s}]" {
			t.Errorf("%+v, %v", r, err)
		}
		if err := <-got; err != nil { // the waiter gets the second resource at once
			t.Error(err)
		}
		lease.Release(nil)
		if c, e := p.Config(), p.Effective(); c != (pool.Config{Name: "orders", MaxSize: 1}) || e.MaxSize != 2 || e.KeepAlive != time.Minute {
			t.Errorf("declared %+v, in force %+v", c, e)
		}
		if err := p.Configure(pool.Config{MaxSize: 5, MinIdle: 1}); err != nil {
			t.Fatal(err)
		}
		if c := p.Effective(); c.MaxSize != 2 || c.MinIdle != 1 {
			t.Errorf("in force %+v", c)
		}
		if err := p.Configure(pool.Config{MinIdle: 3}); err == nil ||
			err.Error() != `pool: code does not go with fleet "82": pool: MinIdle is 3: must be between 0 and MaxSize, which is 2` {
			t.Error(err)
		}
		configured, told := split(events)
		if len(configured) != 2 {
			t.Fatalf("2 changes make the events %+v", configured)
		}
		if s := configured[0].Settings; s.Source != settings.Fleet || s.ID != "82" || s.Actor != "ann" || s.Reason != "a test" || s.Revision != 2 ||
			fmt.Sprint(s.Changes) != fmt.Sprint(r.Changes) {
			t.Errorf("the event holds %+v", s)
		}
		if s := configured[1].Settings; s.Source != settings.Code || s.Revision != 3 || fmt.Sprint(s.Changes) != "[{min_idle 0 1}]" {
			t.Errorf("the event of Configure holds %+v", s)
		}
		var warnings []string
		for _, e := range told {
			warnings = append(warnings, e.Layer+": "+e.Reason)
		}
		if !slices.Equal(warnings, []string{`pool: a declared value has no effect: max_size is held by fleet "82" at 2`}) {
			t.Errorf("warnings %q", warnings)
		}
	})
}

// The driver's size is a default: a source may declare another size, and the default returns.
func TestTuningKnowsTheSizeOfTheDriver(t *testing.T) {
	p, err := pool.New(sizedDriver{&pooltest.Fake{}, 64}, pool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer closePool(t, p)
	if f := p.Tuning().Fields()[0]; f.Name != "max_size" || f.Default != "64" {
		t.Errorf("%+v", f)
	}
	if _, err := apply(p.Tuning(), settings.Trial, "c", "max_size", "3"); err != nil || p.Stat().Max != 3 {
		t.Errorf("%v, size %d", err, p.Stat().Max)
	}
	if _, err := apply(p.Tuning(), settings.Trial, "c", "min_idle", "64"); err != nil || p.Stat().Max != 64 {
		t.Errorf("%v, size %d", err, p.Stat().Max)
	}
	if p.Config().MaxSize != 0 {
		t.Errorf("declared is %+v", p.Config())
	}
}

// tuned is a layer with settings.
type tuned struct {
	pool.Attached
	*settings.Live[pool.Config]

	kind string
}

func newTuned(kind string) *tuned {
	l := &tuned{kind: kind}
	spec := settings.Spec[pool.Config]{Layer: kind, Fields: []settings.Entry[pool.Config]{
		settings.Int(func(c *pool.Config) *int { return &c.MaxSize }, settings.Field{Go: "MaxSize"}),
	}}
	l.Live, _ = settings.New(&spec, pool.Config{}, settings.Hooks[pool.Config]{
		Validate: func(c pool.Config) error { return spec.Validate(c) },
		Report:   func(r settings.Result) { l.Emit(pool.Event{Kind: pool.EventConfigured, Layer: kind, Settings: &r}) },
	})
	return l
}

func (l *tuned) Wrap(next pool.Handler) pool.Handler               { return next }
func (l *tuned) Attach(p pool.PoolInfo) (detach func(), err error) { return l.Add(p), nil }

// The pool's own settings come first, then those of the layers, also inside a Composite.
func TestTunings(t *testing.T) {
	events := newRecorder()
	p := newPool(t, &pooltest.Fake{}, pool.Config{},
		newTuned("a"), pool.Chain(pool.Chain(newTuned("b")), events), newTuned("c"))
	var info pool.PoolInfo = p
	var got []string
	for _, tuning := range info.Tunings() {
		got = append(got, tuning.Layer())
	}
	if want := []string{"pool", "a", "b", "c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := apply(info.Tunings()[2], settings.Force, "", "max_size", "7"); err != nil {
		t.Error(err)
	}
	if _, err := apply(info.Tunings()[2], settings.File, "f", "max_size", "8"); err != nil {
		t.Error(err)
	}
	configured, warnings := split(events)
	if len(configured) != 2 || configured[0].Layer != "b" || configured[1].Settings.ID != "f" {
		t.Errorf("events %+v", configured)
	}
	if len(warnings) != 1 || warnings[0].Layer != "b" || warnings[0].Reason != "a declared value has no effect: max_size is held by force at 7" {
		t.Errorf("warnings %+v", warnings)
	}
}

// Concurrent Configure and Apply, also by an observer of a change, each make a single event, and
// leave the merge of the values declared last.
func TestConcurrentTuning(t *testing.T) {
	events := newRecorder()
	var once atomic.Bool
	var p *pool.Pool[conn]
	again := observerFunc(func(_ context.Context, e pool.Event) {
		if e.Kind == pool.EventConfigured && once.CompareAndSwap(false, true) {
			_, _ = apply(p.Tuning(), settings.Trial, "c", "min_idle", "1")
		}
	})
	p = newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 4}, events, again)
	const each = 50
	var wg sync.WaitGroup
	for _, source := range []settings.Source{settings.Code, settings.File, settings.Fleet, settings.Force} {
		wg.Go(func() {
			for n := range each {
				size := 1 + n%9
				if n == each-1 {
					size = int(source) + 3
				}
				if source == settings.Code {
					_ = p.Configure(pool.Config{MaxSize: size, OpenTimeout: time.Duration(size) * time.Second})
				} else if _, err := apply(p.Tuning(), source, "", "max_size", fmt.Sprint(size)); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range each {
				if err := p.Do(background, op, use); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	e := p.Effective()
	if e.MaxSize != 7 || e.MinIdle != 1 || e.OpenTimeout != 3*time.Second || p.Stat().Max != 7 || p.Stat().MinIdle != 1 {
		t.Errorf("in force is %+v, %+v", e, p.Stat())
	}
	seen := map[uint64]bool{}
	configured := events.only(pool.EventConfigured)
	for _, e := range configured {
		seen[e.Settings.Revision] = true
	}
	if want := 4*each + 1; len(seen) != want || len(configured) != want || p.Tuning().Read().Revision != uint64(want)+1 {
		t.Errorf("%d events with %d revisions, want %d", len(configured), len(seen), want)
	}
}
