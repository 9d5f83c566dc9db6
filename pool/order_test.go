package pool_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// described is a layer that only describes itself.
type described struct{ info pool.LayerInfo }

func (l described) Wrap(next pool.Handler) pool.Handler { return next }
func (l described) Describe() pool.LayerInfo            { return l.info }

// The layers of the order rules, by the names in TestOrder.
var orderKinds = map[string]pool.LayerInfo{
	"other":    {Layer: "other"},
	"tracing":  {Layer: "tracing", Role: pool.RoleObserve},
	"metrics":  {Layer: "metrics", Role: pool.RoleObserve},
	"fallback": {Layer: "fallback", Role: pool.RoleFallback},
	"total":    {Layer: "timeout.total", Role: pool.RoleTotal, Limit: 10 * time.Second},
	"rate":     {Layer: "ratelimit", Role: pool.RoleAdmit},
	"retry":    {Layer: "retry", Role: pool.RoleRetry, Multiplier: 3},
	"hedge":    {Layer: "hedge", Role: pool.RoleRetry, Multiplier: 2},
	"hedge4":   {Layer: "hedge", Role: pool.RoleRetry, Multiplier: 4},
	"breaker":  {Layer: "breaker", Role: pool.RoleJudge},
	"limit":    {Layer: "limit", Role: pool.RoleJudge},
	"attempt":  {Layer: "timeout.attempt", Role: pool.RoleAttempt, Limit: 3 * time.Second},
	"chaos":    {Layer: "chaos", Role: pool.RoleDisturb},
}

const (
	noAttempt = "retry without a timeout for each attempt: one attempt can use up all the time"
	noTotal   = "retry without a timeout for the whole use: attempts and pauses add up"
)

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		order    string   // from the outermost to the innermost
		refused  []string // parts of the error; nil when the order is accepted
		warnings []string
	}{
		{"", nil, nil},
		{"tracing > metrics > total > retry > breaker > attempt", nil, nil},
		{"tracing > metrics > fallback > total > rate > retry > hedge > breaker > limit > attempt > chaos", nil, nil},
		{"other > tracing > other > total > other > retry > other > breaker > other > attempt > other", nil, nil},
		{"tracing > tracing > metrics", nil, nil}, // observers may occur twice
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
		{"total > breaker > retry > attempt", nil, []string{"breaker is outside of retry: the recommended order is the reverse"}},
		{"retry > tracing > attempt", nil, []string{noTotal, "retry is outside of tracing: the recommended order is the reverse"}},
		{"total > fallback", nil, []string{"timeout.total is outside of fallback: the recommended order is the reverse"}},
		{"chaos > other > breaker", nil, []string{"chaos is outside of breaker: the recommended order is the reverse"}},
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
			want = append(want, info.Layer)
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
			got = append(got, l.Layer)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: Layers says %q, want %q", c.order, got, want)
		}
		closePool(t, p)
	}
}

// tunable is a layer of a third party whose settings change while the pool is in use.
type tunable struct {
	info atomic.Pointer[pool.LayerInfo]
	pool pool.Attached
}

func (l *tunable) Wrap(next pool.Handler) pool.Handler               { return next }
func (l *tunable) Describe() pool.LayerInfo                          { return *l.info.Load() }
func (l *tunable) Attach(p pool.PoolInfo) (detach func(), err error) { return l.pool.Add(p), nil }
func (l *tunable) configure(limit time.Duration, multiplier int) {
	info := l.Describe()
	info.Limit, info.Multiplier = limit, multiplier
	l.info.Store(&info)
	l.pool.Emit(pool.Event{Kind: pool.EventConfigured, Layer: info.Layer})
}

func tunableLayer(kind string, role pool.Role) *tunable {
	l := &tunable{}
	l.info.Store(&pool.LayerInfo{Layer: kind, Role: role})
	return l
}

// New, and every change of settings, warns of limits that contradict one another. A warning is
// repeated only if the limits were in order in the meantime.
func TestSurprisingLimits(t *testing.T) {
	type limits struct {
		acquire, total, attempt, probe time.Duration // 0 for a layer: no bound
		attempts                       int
	}
	const s = time.Second
	fit := limits{acquire: 2 * s, total: 10 * s, attempt: 3 * s, probe: 5 * s, attempts: 3}
	change := func(f func(l *limits)) limits { l := fit; f(&l); return l }
	table := []struct {
		limits
		want []string
	}{
		{fit, nil},
		{
			change(func(l *limits) { l.attempt, l.probe = 12*s, 12*s }),
			[]string{"their.attempt (12s) never expires: their.total (10s) is not longer, and leaves no time for another attempt"},
		},
		{
			change(func(l *limits) { l.total = 3 * s }),
			[]string{"their.attempt (3s) never expires: their.total (3s) is not longer, and leaves no time for another attempt"},
		},
		{
			change(func(l *limits) { l.acquire = 4 * s }),
			[]string{"AcquireTimeout (4s) is longer than their.attempt (3s): a use may wait for its resource for longer than it may then use it"},
		},
		{
			change(func(l *limits) { l.acquire = -1 }),
			[]string{"AcquireTimeout is off: a use may wait for its resource for longer than their.attempt (3s) lets it use the resource"},
		},
		{
			change(func(l *limits) { l.probe = 2 * s }),
			[]string{"their.judge gives a probe up after 2s, and their.attempt allows 3s: a slow probe counts as failed while it is under way"},
		},
		{change(func(l *limits) { l.attempts = 50 }), []string{"the layers together make up to 50 attempts of one use"}},
		{
			change(func(l *limits) { l.attempt = 0 }),
			[]string{"their.retry without a timeout for each attempt: one attempt can use up all the time"},
		},
		{
			change(func(l *limits) { l.total = 0 }),
			[]string{"their.retry without a timeout for the whole use: attempts and pauses add up"},
		},
		{change(func(l *limits) { l.probe = 0 }), nil},
		{
			change(func(l *limits) { l.acquire, l.attempt, l.probe = 13*s, 12*s, 11*s }),
			[]string{
				"their.attempt (12s) never expires: their.total (10s) is not longer, and leaves no time for another attempt",
				"AcquireTimeout (13s) is longer than their.attempt (12s): a use may wait for its resource for longer than it may then use it",
				"their.judge gives a probe up after 11s, and their.attempt allows 12s: a slow probe counts as failed while it is under way",
			},
		},
	}
	total, again := tunableLayer("their.total", pool.RoleTotal), tunableLayer("their.retry", pool.RoleRetry)
	judge, attempt := tunableLayer("their.judge", pool.RoleJudge), tunableLayer("their.attempt", pool.RoleAttempt)
	heard := newRecorder()
	layers := []pool.Middleware{heard, total, again, judge, attempt}
	configure := func(l limits) {
		total.configure(l.total, 0)
		again.configure(0, l.attempts)
		judge.configure(l.probe, 0)
		attempt.configure(l.attempt, 0)
	}
	for _, c := range table { // from New
		configure(c.limits)
		p := newPool(t, &pooltest.Fake{}, pool.Config{AcquireTimeout: c.acquire}, layers...)
		if got := takeWarnings(heard); !slices.Equal(got, c.want) {
			t.Errorf("New with %+v warns\n%q, want\n%q", c.limits, got, c.want)
		}
		closePool(t, p)
	}
	configure(fit)
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, layers...)
	set := func(l limits) []string {
		configure(l)
		if err := p.Configure(pool.Config{AcquireTimeout: l.acquire}); err != nil {
			t.Fatal(err)
		}
		return takeWarnings(heard)
	}
	for _, c := range table { // from Configure, each time at the change
		for range 2 {
			got := set(c.limits)
			for _, w := range c.want {
				if !slices.Contains(got, w) {
					t.Errorf("a change to %+v warns\n%q, want\n%q", c.limits, got, c.want)
				}
			}
			if got := set(c.limits); got != nil {
				t.Errorf("a change to %+v, which holds already, warns again: %q", c.limits, got)
			}
			set(fit)
		}
	}
}

func takeWarnings(r *recorder) (warnings []string) {
	for _, e := range r.only(pool.EventWarning) {
		warnings = append(warnings, e.Reason)
	}
	return warnings
}

// Layers in a Chain are judged in their place.
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
	p.Layers()[0].Layer = "changed"
	if got := p.Layers()[0].Layer; got != "breaker" {
		t.Errorf("a caller has changed the pool's own description to %q", got)
	}
}

// attentive is a layer that needs its pool before the first event.
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
	// New warns of this order.
	p := newPool(t, &pooltest.Fake{}, pool.Config{MinIdle: 4}, described{orderKinds["retry"]}, a)
	if err := p.Warm(background, 4); err != nil {
		t.Fatal(err)
	}
	if n := a.early.Load(); n > 0 {
		t.Errorf("%d events came before Attach", n)
	}
}

// Layers of a kind are told apart by their names. New refuses layers that cannot be told apart, and
// layers whose effects multiply whatever their names. The rules of the order use the kind.
func TestNamesOfLayers(t *testing.T) {
	layer := func(kind, name string, role pool.Role) pool.Middleware {
		return described{pool.LayerInfo{Layer: kind, Name: name, Role: role}}
	}
	breaker := func(name string) pool.Middleware { return layer("breaker", name, pool.RoleJudge) }
	total := func(name string) pool.Middleware { return layer("timeout.total", name, pool.RoleTotal) }
	again := func(name string) pool.Middleware { return layer("retry", name, pool.RoleRetry) }
	for name, c := range map[string]struct {
		layers []pool.Middleware
		want   string // "": accepted
	}{
		"one name":              {[]pool.Middleware{breaker(""), breaker("shards")}, ""},
		"two names":             {[]pool.Middleware{breaker("tenants"), breaker("shards")}, ""},
		"two fallbacks":         {[]pool.Middleware{layer("fallback", "stale", pool.RoleFallback), layer("fallback", "", pool.RoleFallback)}, ""},
		"observers":             {[]pool.Middleware{layer("metrics", "a", pool.RoleObserve), layer("metrics", "a", pool.RoleObserve)}, ""},
		"no names":              {[]pool.Middleware{breaker(""), breaker("")}, `two layers of kind "breaker" with the same name: use one, or give each`},
		"the same name":         {[]pool.Middleware{breaker("a"), breaker("a")}, `two layers of kind "breaker" with the same name`},
		"the kind as the name":  {[]pool.Middleware{breaker("breaker"), breaker("")}, `two layers of kind "breaker" with the same name`},
		"the name of another":   {[]pool.Middleware{breaker("a"), layer("share", "a", pool.RoleJudge)}, `a layer of kind "share" have the same name "a"`},
		"the kind of another":   {[]pool.Middleware{breaker(""), layer("share", "breaker", pool.RoleJudge)}, `have the same name "breaker"`},
		"retries":               {[]pool.Middleware{again("a"), again("b")}, `two layers of kind "retry": their effects multiply; use one`},
		"the name of the pool":  {[]pool.Middleware{breaker("pool")}, `the name of a layer of kind "breaker" is "pool"`},
		"order, whatever names": {[]pool.Middleware{again("a"), total("b")}, `timeout.total "b" is inside of retry "a"`},
	} {
		p, err := pool.New(&pooltest.Fake{}, pool.Config{}, append(c.layers, newListener())...)
		if err == nil {
			closePool(t, p)
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	heard := newRecorder()
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, breaker("shards"), total(""), heard)
	want := []string{`breaker "shards" is outside of timeout.total: the recommended order is the reverse`}
	if got := takeWarnings(heard); !slices.Equal(got, want) {
		t.Errorf("New warns\n%q, want\n%q", got, want)
	}
	if l := p.Layers()[0]; l.Layer != "breaker" || l.Name != "shards" {
		t.Errorf("Layers says %+v", l)
	}
}
