package middleware_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// foreign is a layer of a third party.
type foreign struct{ info pool.LayerInfo }

func (h *foreign) Wrap(next pool.Handler) pool.Handler { return next }
func (h *foreign) Describe() pool.LayerInfo            { return h.info }

func layerOf(kind string, role pool.Role) *foreign {
	return &foreign{pool.LayerInfo{Layer: kind, Role: role}}
}

// Inserted layers are in their place in the pool, and the handles stay the layers of the stack.
func TestInsert(t *testing.T) {
	fallback, limit, share := layerOf("fallback", pool.RoleFallback), layerOf("rate_limit", pool.RoleAdmit), layerOf("share", pool.RoleJudge)
	chaos := layerOf("chaos", pool.RoleDisturb)
	s := standard(t, quiet())
	breakerBefore, retryBefore := s.Breaker, s.Retry
	for _, err := range []error{
		s.Insert(middleware.KindTotal, fallback),
		s.Insert(middleware.KindRetry, pool.Chain(limit, pool.MiddlewareFunc(func(next pool.Handler) pool.Handler { return next }))),
		s.Insert("rate_limit", layerOf("x", pool.RoleOther), layerOf("y", pool.RoleOther)),
		s.Insert(middleware.KindBreaker, pool.Bracket(bracketed{share})),
		s.Append(chaos),
		s.Insert("share"), // nothing
	} {
		if err != nil {
			t.Error(err)
		}
	}
	p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, s.Layers()...)
	defer end()
	want := []string{
		"tracing", "metrics", "logging", "fallback", "timeout.total", "x", "y", "rate_limit", "retry", "share", "breaker",
		"timeout.attempt", "chaos",
	}
	if got := kinds(p.Layers()); !slices.Equal(got, want) {
		t.Errorf("the layers are\n%v, want\n%v", got, want)
	}
	for _, handle := range []pool.Middleware{s.Tracing, s.Metrics, s.Logging, s.Total, s.Retry, s.Breaker, s.Attempt} {
		if !slices.Contains(s.Layers(), handle) {
			t.Errorf("%T is not in the stack any more", handle)
		}
	}
	if s.Breaker != breakerBefore || s.Retry != retryBefore {
		t.Error("a handle is another layer after Insert")
	}
}

// bracketed is a Layer whose description is its own.
type bracketed struct{ *foreign }

func (bracketed) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}
func (bracketed) End(context.Context, *pool.Call, struct{}, error) {}

// A layer with a name is found by the name and by the kind, and an error lists the name.
func TestInsertByName(t *testing.T) {
	s := standard(t, quiet())
	shards, err := breaker.New(breaker.Config{Name: "shards"})
	for _, err := range []error{
		err,
		s.Insert(middleware.KindAttempt, shards),
		s.Insert("shards", layerOf("inner", pool.RoleOther)),
		s.Insert(middleware.KindBreaker, layerOf("outer", pool.RoleOther)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, s.Layers()...)
	defer end()
	want := []string{"tracing", "metrics", "logging", "timeout.total", "retry", "outer", "breaker", "inner", "breaker", "timeout.attempt"}
	if got := kinds(p.Layers()); !slices.Equal(got, want) {
		t.Errorf("the layers are\n%v, want\n%v", got, want)
	}
	if err := s.Insert("x"); err == nil || !strings.HasSuffix(err.Error(), "retry, outer, breaker, inner, shards, timeout.attempt") {
		t.Errorf("got %v", err)
	}
}

// What Insert and Append refuse, and how. The stack does not change.
func TestInsertRefuses(t *testing.T) {
	o := quiet()
	o.Without = []string{middleware.KindLogging}
	s := standard(t, o)
	if err := s.Insert(middleware.KindRetry, layerOf("rate_limit", pool.RoleAdmit)); err != nil {
		t.Fatal(err)
	}
	layers := s.Layers()
	var none *foreign
	for _, tc := range []struct {
		name string
		err  error
		want string
	}{
		{
			"unknown kind", s.Insert("brake", layerOf("x", pool.RoleOther)), `middleware: no layer of the stack is of the kind "brake": ` +
				`must be among tracing, metrics, timeout.total, rate_limit, retry, breaker, timeout.attempt`,
		},
		{
			"layer left out", s.Insert(middleware.KindLogging, layerOf("x", pool.RoleOther)),
			`middleware: no layer of the stack is of the kind "logging": must be among tracing,`,
		},
		{"nothing", s.Insert("retry", layerOf("x", pool.RoleOther), nil), "middleware: layer 2 of 2 to be inserted is nil: <nil>"},
		{"nil pointer", s.Append(none), "middleware: layer 1 of 1 to be inserted is nil: *middleware_test.foreign"},
	} {
		if tc.err == nil || !strings.HasPrefix(tc.err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, tc.err, tc.want)
		}
	}
	if !slices.Equal(s.Layers(), layers) {
		t.Errorf("after the errors the layers are %v, want %v", s.Layers(), layers)
	}
}

// The layers of a Builder are in the order of Add.
func TestBuilder(t *testing.T) {
	var b middleware.Builder
	if layers, err := b.Layers(); len(layers) != 0 || err != nil {
		t.Errorf("the empty Builder has %v, %v", layers, err)
	}
	b.Add(timeout.NewTotal(timeout.Config{}))
	b.Add(layerOf("rate_limit", pool.RoleAdmit), nil)
	b.Add(retry.New(retry.Config{}))
	b.Add(breaker.New(breaker.Config{}))
	b.Add(timeout.NewAttempt(timeout.Config{}))
	layers, err := b.Layers()
	if err != nil {
		t.Fatal(err)
	}
	p, end := newPool(t, &pooltest.Fake{}, pool.Config{}, layers...)
	defer end()
	if got, want := kinds(p.Layers()), []string{"timeout.total", "rate_limit", "retry", "breaker", "timeout.attempt"}; !slices.Equal(got, want) {
		t.Errorf("the layers are %v, want %v", got, want)
	}
	layers[0] = nil
	if again, err := b.Layers(); err != nil || again[0] == nil {
		t.Errorf("who changes what Layers returned changes the Builder: %v, %v", again, err)
	}
}

var errUnfit = errors.New("unfit")

// One error has the errors of all constructors. A nil pointer beside an error, or without an error,
// does no harm.
func TestBuilderErrors(t *testing.T) {
	var none *foreign
	var b middleware.Builder
	b.Add(retry.New(retry.Config{MaxAttempts: -3}))
	b.Add(breaker.New(breaker.Config{}))
	b.Add(nil, errUnfit)
	b.Add(timeout.NewAttempt(timeout.Config{MinLeft: -1}))
	b.Add(none, nil)
	b.Add(nil, nil)
	b.Add(pool.MiddlewareFunc(nil), nil)
	b.Add(layerOf("unfit", pool.RoleOther), errUnfit) // a layer beside an error
	layers, err := b.Layers()
	if layers != nil || !errors.Is(err, errUnfit) {
		t.Fatalf("got %v, %v", layers, err)
	}
	want := []string{
		"middleware: layer 1 (*retry.Retry): retry: MaxAttempts is -3: must be ",
		"middleware: layer 3: unfit",
		"middleware: layer 4 (*timeout.Timeout): timeout.attempt: MinLeft is -1ns: must be ",
		"middleware: layer 5 is nil: *middleware_test.foreign",
		"middleware: layer 6 is nil: <nil>",
		"middleware: layer 7 is nil: pool.MiddlewareFunc",
		"middleware: layer 8 (*middleware_test.foreign): unfit",
	}
	got := strings.Split(err.Error(), "\n")
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("the error is\n%v, want\n%s", err, strings.Join(want, "\n"))
	}
}
