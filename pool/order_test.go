package pool_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// described is a layer that does nothing but describe itself.
type described struct{ info pool.LayerInfo }

func (l described) Wrap(next pool.Handler) pool.Handler { return next }
func (l described) Describe() pool.LayerInfo            { return l.info }

// The layers that the order rules are about, by the names used in TestOrder.
var orderKinds = map[string]pool.LayerInfo{
	"other":    {Kind: "other"},
	"tracing":  {Kind: "tracing", Role: pool.RoleObserve},
	"metrics":  {Kind: "metrics", Role: pool.RoleObserve},
	"fallback": {Kind: "fallback", Role: pool.RoleFallback},
	"total":    {Kind: "timeout.total", Role: pool.RoleTotal},
	"rate":     {Kind: "ratelimit", Role: pool.RoleAdmit},
	"retry":    {Kind: "retry", Role: pool.RoleRepeat, Multiplier: 3},
	"hedge":    {Kind: "hedge", Role: pool.RoleRepeat, Multiplier: 2},
	"hedge4":   {Kind: "hedge", Role: pool.RoleRepeat, Multiplier: 4},
	"breaker":  {Kind: "breaker", Role: pool.RoleJudge},
	"limit":    {Kind: "limit", Role: pool.RoleJudge},
	"attempt":  {Kind: "timeout.attempt", Role: pool.RoleAttempt},
	"chaos":    {Kind: "chaos", Role: pool.RoleDisturb},
}

const (
	noAttempt = "retry without a timeout for each attempt: one attempt can use up all the time"
	noTotal   = "retry without a timeout for the whole use: attempts and pauses add up"
)

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		order    string   // from the outside in
		refused  []string // parts of the error; nil when the order is accepted
		warnings []string
	}{
		{"", nil, nil},
		{"tracing > metrics > total > retry > breaker > attempt", nil, nil},
		{"tracing > metrics > fallback > total > rate > retry > hedge > breaker > limit > attempt > chaos", nil, nil},
		{"other > tracing > other > total > other > retry > other > breaker > other > attempt > other", nil, nil},
		{"tracing > tracing > metrics", nil, nil}, // observers only look on: two of a kind do no harm
		{"other > other", nil, nil},

		{"total > retry > retry > attempt", []string{`two layers of kind "retry"`, "their effects multiply; use one"}, nil},
		{"breaker > breaker", []string{`two layers of kind "breaker"`}, nil},
		{"total > attempt > retry", []string{
			"timeout.attempt is outside of retry", "it would bound all attempts together", "put it inside"}, nil},
		{"retry > total > attempt", []string{
			"timeout.total is inside of retry", "it would bound each attempt, not the whole use", "put it outside"}, nil},
		{"attempt > retry > total", []string{"timeout.attempt is outside of retry", "timeout.total is inside of retry"}, nil},
		{"breaker > retry > breaker > total", []string{`two layers of kind "breaker"`, "timeout.total is inside of retry"}, nil},

		{"retry", nil, []string{noAttempt, noTotal}},
		{"total > retry > breaker", nil, []string{noAttempt}},
		{"retry > breaker > attempt", nil, []string{noTotal}},
		{"total > breaker > retry > attempt", nil, []string{"breaker is outside of retry: recommended is the other way round"}},
		{"retry > tracing > attempt", nil, []string{noTotal, "retry is outside of tracing: recommended is the other way round"}},
		{"total > fallback", nil, []string{"timeout.total is outside of fallback: recommended is the other way round"}},
		{"chaos > other > breaker", nil, []string{"chaos is outside of breaker: recommended is the other way round"}},
		{"total > retry > hedge > breaker > attempt", nil, nil},
		{"total > retry > hedge4 > breaker > attempt", nil, []string{"the layers together make up to 12 attempts of one use"}},
	} {
		var layers []pool.Middleware
		var want []string
		for kind := range strings.FieldsSeq(strings.ReplaceAll(c.order, ">", "")) {
			info, ok := orderKinds[kind]
			if !ok {
				t.Fatalf("there is no %q", kind)
			}
			layers = append(layers, described{info})
			want = append(want, info.Kind)
		}
		heard := newRecorder()
		p, err := pool.New(&pooltest.Fake{}, pool.Config{}, append(layers, heard)...)
		if err != nil {
			for _, part := range c.refused {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q is refused with %q, which does not say %q", c.order, err, part)
				}
			}
			if c.refused == nil {
				t.Errorf("%q is refused: %v", c.order, err)
			}
			continue
		}
		if c.refused != nil {
			t.Errorf("%q is accepted", c.order)
		}
		var warnings, got []string
		for _, e := range heard.only(pool.EventWarning) {
			warnings = append(warnings, e.Reason)
		}
		if !slices.Equal(warnings, c.warnings) {
			t.Errorf("%q: warnings\n%q, want\n%q", c.order, warnings, c.warnings)
		}
		for _, l := range p.Layers() {
			got = append(got, l.Kind)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: Layers says %q, want %q", c.order, got, want)
		}
		closePool(t, p)
	}
}

// Layers in a Chain are judged where they stand.
func TestOrderInsideChains(t *testing.T) {
	layer := func(kind string) pool.Middleware { return described{orderKinds[kind]} }
	_, err := pool.New(&pooltest.Fake{}, pool.Config{},
		pool.Chain(layer("total"), pool.Chain(layer("attempt"))), pool.Chain(layer("retry")))
	if err == nil || !strings.Contains(err.Error(), "timeout.attempt is outside of retry") {
		t.Errorf("got %v", err)
	}
}

func TestLayersIsACopy(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, described{orderKinds["breaker"]})
	p.Layers()[0].Kind = "changed"
	if got := p.Layers()[0].Kind; got != "breaker" {
		t.Errorf("a caller has changed the pool's own description to %q", got)
	}
}

// attentive is a layer that wants to know its pool before it hears anything of it.
type attentive struct {
	attached atomic.Bool
	early    atomic.Int32
}

func (a *attentive) Wrap(next pool.Handler) pool.Handler { return next }
func (a *attentive) Attach(pool.PoolInfo) (func(), error) {
	a.attached.Store(true)
	return nil, nil
}

func (a *attentive) Observe(context.Context, pool.Event) {
	if !a.attached.Load() {
		a.early.Add(1)
	}
}

func TestAttachBeforeTheFirstEvent(t *testing.T) {
	a := &attentive{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{MinIdle: 4}, described{orderKinds["retry"]}, a) // which New warns of
	if err := p.Warm(background, 4); err != nil {
		t.Fatal(err)
	}
	if n := a.early.Load(); n > 0 {
		t.Errorf("%d events came before Attach", n)
	}
}
