package breaker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// The name is in the description, in the levels, in the events and in the texts, and stays.
func TestName(t *testing.T) {
	for name, want := range map[string]struct{ label, title string }{
		"": {"breaker", "breaker"}, "shards": {"shards", `breaker "shards"`},
	} {
		bubble(t, func(t *testing.T) {
			heard := &events{}
			b := must(t, Config{Name: name, ConsecutiveFailures: 1, Jitter: -1, LookMax: -1})
			p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache"}, heard, b)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Close(t.Context()) }()
			if l := p.Layers()[0]; l.Layer != "breaker" || l.Name != name {
				t.Errorf("the description is %+v", l)
			}
			for _, l := range p.Levels() {
				if l.Layer != "breaker" || l.LayerName != name {
					t.Errorf("the level %s is of %q %q", l.Name, l.Layer, l.LayerName)
				}
			}
			if err := b.Configure(Config{ConsecutiveFailures: 1, Jitter: -1, LookMax: -1}); err != nil || b.Config().Name != name {
				t.Errorf("without a name in Configure: %v, and the name is %q", err, b.Config().Name)
			}
			err = b.Configure(Config{Name: "other"})
			if err == nil || !strings.Contains(err.Error(), `breaker: Name is "other": must be "`+name+`" or empty`) || b.Config().Name != name {
				t.Errorf("with another name in Configure: %v, and the name is %q", err, b.Config().Name)
			}
			_ = p.Do(t.Context(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrDenied })
			refusal := p.Do(t.Context(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return nil })
			if e, ok := errors.AsType[*OpenError](refusal); !ok || e.Name != name || !strings.HasPrefix(e.Error(), want.title+` of pool "cache" is open: `) {
				t.Errorf("the rejection is %v", refusal)
			}
			if h := p.Check(t.Context()); len(h.Reasons) != 1 || !strings.HasPrefix(h.Reasons[0], want.title+" open by ") {
				t.Errorf("the health is %+v", h)
			}
			kinds := []pool.EventKind{pool.EventConfigured, pool.EventStateChanged, pool.EventRejected}
			if got := heard.layersOf(kinds); !slices.Equal(got, []string{want.label, want.label, want.label}) {
				t.Errorf("the events %q are of %q, want %q", kinds, got, want.label)
			}
		})
	}
}

// events is a layer that keeps events.
type events struct {
	mu  sync.Mutex
	all []pool.Event
}

func (e *events) Wrap(next pool.Handler) pool.Handler { return next }

func (e *events) Observe(_ context.Context, event pool.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// layersOf returns the sources of the events of the kinds, in their order.
func (e *events) layersOf(kinds []pool.EventKind) (layers []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if slices.Contains(kinds, event.Kind) {
			layers = append(layers, event.Layer)
		}
	}
	return layers
}
