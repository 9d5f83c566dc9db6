package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/middleware/metrics"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/middleware/timeout"
	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/settings"
)

// tunable is a layer with settings of type C, or a pool.
type tunable[C any] interface {
	settings.Tunable
	Config() C
	Effective() C
	Configure(cfg C) error
}

// conformance is the part of a Config that the list of fields cannot tell.
type conformance[C any] struct {
	without []string // the fields that have no text
	// base sets other fields such that only the bounds of the named field count.
	base func(c *C, field string)
}

// conform checks that the Config, the method Validate and the face of settings tell the same.
func conform[C interface{ Validate() error }, L tunable[C]](t *testing.T, name string, construct func(C) (L, error), c conformance[C]) {
	t.Helper()
	fresh := func(t *testing.T, cfg C) L {
		t.Helper()
		l, err := construct(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Run(name, func(t *testing.T) {
		var zero C
		fields := fresh(t, zero).Tuning().Fields()
		var listed []string
		for _, f := range fields {
			listed = append(listed, f.Go)
			if f.Help == "" || f.Allowed == "" || f.Default == "" {
				t.Errorf("%s has no help, or no default, or allows nothing: %+v", f.Go, f)
			}
		}
		var exported []string
		for field := range reflect.TypeFor[C]().Fields() {
			if !slices.Contains(c.without, field.Name) {
				exported = append(exported, field.Name)
			}
		}
		if !slices.Equal(listed, exported) {
			t.Fatalf("the list has %q, the Config %q", listed, exported)
		}
		for _, f := range fields {
			t.Run(f.Go, func(t *testing.T) {
				base := zero
				if c.base != nil {
					c.base(&base, f.Go)
				}
				valid := 0
				for _, v := range candidates(f) {
					if checkValue(t, f, fresh(t, base), base, v) {
						valid++
					}
				}
				if valid < 2 {
					t.Errorf("%d candidates are valid", valid)
				}
				checkEdges(t, f, base)
			})
		}
	})
}

// candidates returns the values at and beside the bounds of f, and a few others.
func candidates(f settings.Field) (all []reflect.Value) {
	bound := func(text string) reflect.Value { return valueOf(f, text) }
	switch f.Type {
	case settings.TypeBool:
		return []reflect.Value{reflect.ValueOf(false), reflect.ValueOf(true)}
	case settings.TypeString:
		return []reflect.Value{reflect.ValueOf(""), reflect.ValueOf("x")}
	}
	for _, text := range []string{f.Min, f.Max} {
		if text != "" {
			all = append(all, step(bound(text), -1), bound(text), step(bound(text), 1))
		}
	}
	switch f.Type {
	case settings.TypeDuration:
		for _, d := range []time.Duration{-time.Hour, -1, 0, 1, 999_999, time.Second, 2 * time.Minute, math.MaxInt64} {
			all = append(all, reflect.ValueOf(d))
		}
	case settings.TypeInt:
		for _, n := range []int{math.MinInt, -1, 0, 1, 7, math.MaxInt} {
			all = append(all, reflect.ValueOf(n))
		}
	case settings.TypeFloat:
		for _, x := range []float64{math.Inf(-1), -1, 0, math.SmallestNonzeroFloat64, 0.25, 1.5, math.MaxFloat64, math.Inf(1), math.NaN()} {
			all = append(all, reflect.ValueOf(x))
		}
	}
	return all
}

func valueOf(f settings.Field, text string) reflect.Value {
	var v any
	var err error
	switch f.Type {
	case settings.TypeDuration:
		v, err = time.ParseDuration(text)
	case settings.TypeInt:
		v, err = strconv.Atoi(text)
	default:
		v, err = strconv.ParseFloat(text, 64)
	}
	if err != nil {
		panic(err)
	}
	return reflect.ValueOf(v)
}

// step returns the value next to v.
func step(v reflect.Value, direction int) reflect.Value {
	if v.CanFloat() {
		return reflect.ValueOf(math.Nextafter(v.Float(), math.Inf(direction)))
	}
	return reflect.ValueOf(v.Int() + int64(direction)).Convert(v.Type())
}

// with returns base with another value of a field.
func with[C any](base C, field string, v reflect.Value) C {
	reflect.ValueOf(&base).Elem().FieldByName(field).Set(v)
	return base
}

// checkValue declares a value in Go and as a text: both are valid or refused, and both mean the
// same.
func checkValue[C interface{ Validate() error }](t *testing.T, f settings.Field, l tunable[C], base C, v reflect.Value) (valid bool) {
	t.Helper()
	typed := with(base, f.Go, v)
	text := fmt.Sprint(v.Interface())
	errOfText := apply(l.Tuning(), settings.Trial, "c", f.Name, text)
	inForce := l.Tuning().Read().Effective[f.Name]
	if errOfEnd := apply(l.Tuning(), settings.Trial, "c"); errOfEnd != nil {
		t.Errorf("%s: the end: %v", text, errOfEnd)
	}
	err := typed.Validate()
	if f.Fixed && fmt.Sprint(reflect.ValueOf(base).FieldByName(f.Go)) != text {
		if errOfText == nil || l.Configure(typed) == nil {
			t.Errorf("%s: a fixed value has changed", text)
		}
		return true
	}
	if (err == nil) != (errOfText == nil) {
		t.Errorf("%s: Validate says %v, Tuning says %v", text, err, errOfText)
	}
	if err != nil {
		for _, e := range settings.FieldErrors(errors.Join(err, errOfText)) {
			if e.Field != f.Name || e.Allowed == "" {
				t.Errorf("%s: %+v", text, e)
			}
		}
		return false
	}
	// Reading, changing a field and writing back.
	cfg := with(l.Config(), f.Go, v)
	if err := l.Configure(cfg); err != nil {
		t.Errorf("Configure with %s: %v", text, err)
	}
	if got := l.Config(); fmt.Sprint(got) != fmt.Sprint(cfg) {
		t.Errorf("declared is %+v, want %+v", got, cfg)
	}
	if got := l.Tuning().Read().Effective[f.Name]; got != inForce {
		t.Errorf("%s is in force as %s by Configure, as %s by a text", text, got, inForce)
	}
	// The text in force is a text that may be declared, and stays the same.
	if err := apply(l.Tuning(), settings.Trial, "c", f.Name, inForce); err != nil {
		t.Errorf("%s: %v", inForce, err)
	}
	if got := l.Tuning().Read().Effective[f.Name]; got != inForce {
		t.Errorf("%s has become %s", inForce, got)
	}
	if f.Off == "" && inForce == "off" {
		t.Errorf("%s is off, and the description does not say so", text)
	}
	return true
}

// checkEdges checks that each bound is exactly the edge, and that off is a value.
func checkEdges[C interface{ Validate() error }](t *testing.T, f settings.Field, base C) {
	t.Helper()
	valid := func(v reflect.Value) bool { return with(base, f.Go, v).Validate() == nil }
	negativeOff := f.Off != "" && !f.OffIsZero
	if f.Min != "" {
		least := valueOf(f, f.Min)
		below := step(least, -1)
		isOff := negativeOff && least.IsZero()
		if !valid(least) || valid(below) && !isOff {
			t.Errorf("the least value is not %s", f.Min)
		}
	}
	if f.Max != "" {
		most := valueOf(f, f.Max)
		if f.Below {
			most = step(most, -1)
		}
		if !valid(most) || valid(step(most, 1)) {
			t.Errorf("the greatest value is not %s", f.Max)
		}
	}
	if f.Type != settings.TypeBool && negativeOff != valid(reflect.ValueOf(-1).Convert(reflect.TypeOf(base).Field(indexOf(base, f.Go)).Type)) {
		t.Errorf("Off is %q", f.Off)
	}
}

func indexOf(cfg any, field string) int {
	f, _ := reflect.TypeOf(cfg).FieldByName(field)
	return f.Index[0]
}

// apply declares values for a source at the present revision.
func apply(t *settings.Tuning, source settings.Source, id string, pairs ...string) error {
	r := settings.Request{Source: source, ID: id, Actor: "ann", Reason: "a test", Values: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		r.Values[pairs[i]] = pairs[i+1]
	}
	for {
		r.Revision = t.Read().Revision
		if _, err := t.Apply(r); !errors.Is(err, settings.ErrStale) {
			return err
		}
	}
}

func TestSettingsConform(t *testing.T) {
	var pools []*pool.Pool[*pooltest.Conn]
	conform(t, "pool", func(cfg pool.Config) (*pool.Pool[*pooltest.Conn], error) {
		p, err := pool.New(&pooltest.Fake{}, cfg)
		if err == nil {
			p.Pause(nil) // a paused pool opens nothing, whatever MinIdle is
			pools = append(pools, p)
		}
		return p, err
	}, conformance[pool.Config]{without: []string{"Name"}, base: func(c *pool.Config, field string) {
		c.Name = "orders" + strconv.Itoa(len(pools))
		if field == "MinIdle" {
			c.MaxSize = math.MaxInt
		}
	}})
	for _, p := range pools {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	conform(t, "breaker", breaker.New, conformance[breaker.Config]{without: []string{"Name"}, base: func(c *breaker.Config, field string) {
		switch field {
		case "Window":
			c.Buckets = 1
		case "Buckets":
			c.Window = time.Minute
		case "OpenMax":
			c.OpenFor = time.Millisecond
		}
	}})
	conform(t, "retry", retry.New, conformance[retry.Config]{})
	conform(t, "timeout.total", timeout.NewTotal, conformance[timeout.Config]{base: unlimited})
	conform(t, "timeout.attempt", timeout.NewAttempt, conformance[timeout.Config]{base: unlimited})
	conform(t, "tracing", tracing.New, conformance[tracing.Config]{
		without: []string{"TracerProvider", "Filter"}, base: func(c *tracing.Config, field string) { c.Commands = field == "CommandText" },
	})
	conform(t, "metrics", metrics.New, conformance[metrics.Config]{without: []string{"MeterProvider"}})
	conform(t, "logging", logging.New, conformance[logging.Config]{without: []string{"Logger"}})
}

func unlimited(c *timeout.Config, field string) {
	if field == "MinLeft" {
		c.Limit = -1
	}
}

// heard is a layer that keeps the changes of settings and the warnings.
type heard struct {
	mu                   sync.Mutex
	configured, warnings []pool.Event
}

func (h *heard) Wrap(next pool.Handler) pool.Handler { return next }
func (h *heard) Observe(_ context.Context, e pool.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e.Kind {
	case pool.EventConfigured:
		h.configured = append(h.configured, e)
	case pool.EventWarning:
		h.warnings = append(h.warnings, e)
	}
}

func (h *heard) take() (configured, warnings []pool.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	configured, warnings, h.configured, h.warnings = h.configured, h.warnings, nil, nil
	return configured, warnings
}

func tuned(t *testing.T) (*middleware.Stack, *pool.Pool[*pooltest.Conn], *heard) {
	t.Helper()
	s, err := middleware.Standard(middleware.Options{Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	h := &heard{}
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "tuned"}, append(s.Layers(), h)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	h.take()
	return s, p, h
}

// The pool finds the faces of all layers. Each change by any source makes a single event with the
// change, and the description has the texts in force.
func TestStackIsTunable(t *testing.T) {
	_, p, h := tuned(t)
	var kinds []string
	for _, tuning := range p.Tunings() {
		kinds = append(kinds, tuning.Layer())
		for source := settings.File; source <= settings.Force; source++ {
			f := tuning.Fields()[0]
			err := apply(tuning, source, source.String(), f.Name, map[string]string{settings.TypeDuration: "2s", settings.TypeInt: "7"}[f.Type])
			configured, _ := h.take()
			if err != nil || len(configured) != 1 || configured[0].Layer != tuning.Layer() || configured[0].Settings.ID != source.String() ||
				configured[0].Settings.Actor != "ann" || configured[0].Settings.Revision != tuning.Read().Revision {
				t.Errorf("%s, %v: %v, events %+v", tuning.Layer(), source, err, configured)
			}
		}
	}
	if want := append([]string{"pool"}, middleware.Kinds()...); !slices.Equal(kinds, want) {
		t.Errorf("the pool finds %q, want %q", kinds, want)
	}
	for i, l := range p.Layers() {
		delete(l.Settings, "filter") // a function
		if want := p.Tunings()[i+1].Read().Effective; !reflect.DeepEqual(l.Settings, want) {
			t.Errorf("%s is described by %v, want %v", l.Layer, l.Settings, want)
		}
	}
}

// The example of the design: a file, a fleet, a trial, and the end of the trial.
func TestTrialOverFileAndFleet(t *testing.T) {
	s, p, h := tuned(t)
	i := slices.IndexFunc(p.Tunings(), func(t *settings.Tuning) bool { return t.Layer() == middleware.KindBreaker })
	b := p.Tunings()[i]
	inForce := func(openFor time.Duration, consecutive int) {
		t.Helper()
		if got := s.Breaker.Effective(); got.OpenFor != openFor || got.ConsecutiveFailures != consecutive || s.Breaker.Snapshot().Config != got {
			t.Errorf("in force are %v and %d, want %v and %d", got.OpenFor, got.ConsecutiveFailures, openFor, consecutive)
		}
	}
	do := func(source settings.Source, id string, pairs ...string) {
		t.Helper()
		if err := apply(b, source, id, pairs...); err != nil {
			t.Fatal(err)
		}
	}
	do(settings.File, "pools.yaml", "open_for", "2s")
	do(settings.Fleet, "81", "consecutive_failures", "8")
	do(settings.Trial, "c-12", "open_for", "1s")
	inForce(time.Second, 8)
	h.take()
	do(settings.File, "pools.yaml", "open_for", "3s")
	inForce(time.Second, 8)
	_, warnings := h.take()
	const held = `a declared value has no effect: open_for is held by trial "c-12" at 1s`
	if len(warnings) != 1 || warnings[0].Layer != "breaker" || warnings[0].Reason != held {
		t.Errorf("warnings %+v", warnings)
	}
	do(settings.Trial, "c-12") // 14:15
	inForce(3*time.Second, 8)

	err := apply(b, settings.Fleet, "82", "open_max", "2s")
	const want = `breaker: fleet "82" does not go with file "pools.yaml": ` +
		"breaker: open_max is 2s: must be 0 (default 800ms) or at least open_for, which is 3s"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	inForce(3*time.Second, 8)
}

// A longer OpenFor than OpenMax's default was refused, because Config had filled in the default.
// The same held for retry and timeout.
func TestAFieldNobodySetIsNoObstacle(t *testing.T) {
	s, _, _ := tuned(t)
	b := s.Breaker.Config()
	b.OpenFor = 2 * time.Minute
	if err := s.Breaker.Configure(b); err != nil || s.Breaker.Effective().OpenMax != 2*time.Minute {
		t.Errorf("%v, %+v", err, s.Breaker.Effective())
	}
	r := s.Retry.Config()
	r.InitialDelay = 2 * time.Second
	if err := s.Retry.Configure(r); err != nil || s.Retry.Effective().MaxDelay != 2*time.Second {
		t.Errorf("%v, %+v", err, s.Retry.Effective())
	}
	l := s.Attempt.Config()
	l.Limit = 5 * time.Second
	if err := s.Attempt.Configure(l); err != nil {
		t.Error(err)
	}
	l.MinLeft = 4 * time.Second
	if err := s.Attempt.Configure(l); err != nil {
		t.Error(err)
	}
}

// Off is said in the same way by all layers.
func TestOffIsSaidInOneWay(t *testing.T) {
	_, p, _ := tuned(t)
	for _, tuning := range p.Tunings() {
		for _, f := range tuning.Fields() {
			err := apply(tuning, settings.Trial, "", f.Name, "off")
			if (err == nil) != (f.Off != "") || err == nil && tuning.Read().Effective[f.Name] != "off" {
				t.Errorf("%s.%s: %v, %v", tuning.Layer(), f.Name, err, tuning.Read().Effective[f.Name])
			}
			if strings.Contains(f.Default, " ") {
				t.Errorf("%s.%s has the default %q", tuning.Layer(), f.Name, f.Default)
			}
		}
		if err := apply(tuning, settings.Trial, ""); err != nil {
			t.Error(err)
		}
	}
}

// strange is a provider whose values cannot be compared.
type strange struct {
	trace.TracerProvider

	_ func()
}

// Providers and loggers cannot change; the value in use and nil change nothing.
func TestProvidersAreFixed(t *testing.T) {
	s, _, h := tuned(t)
	refused := func(err error, field string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), field+" is another ") || !strings.HasSuffix(err.Error(), "it cannot be changed") {
			t.Errorf("got %v", err)
		}
	}
	refused(s.Tracing.Configure(tracing.Config{TracerProvider: tracenoop.NewTracerProvider()}), "tracing: TracerProvider")
	refused(s.Metrics.Configure(metrics.Config{MeterProvider: metricnoop.NewMeterProvider()}), "metrics: MeterProvider")
	refused(s.Logging.Configure(logging.Config{Logger: slog.New(slog.DiscardHandler)}), "logging: Logger")
	if configured, _ := h.take(); len(configured) != 0 {
		t.Errorf("events %+v", configured)
	}
	for _, err := range []error{
		s.Tracing.Configure(s.Tracing.Effective()), s.Metrics.Configure(s.Metrics.Effective()), s.Logging.Configure(s.Logging.Effective()),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	l, err := tracing.New(tracing.Config{TracerProvider: strange{TracerProvider: tracenoop.NewTracerProvider()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Configure(l.Config()); err != nil {
		t.Error(err)
	}
}
