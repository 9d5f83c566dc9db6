package settings_test

import (
	"errors"
	"time"

	"github.com/earnorm/poolstack/pool/settings"
)

// config is the Config of a layer for tests. The rule across fields: Most is at least Least.
type config struct {
	Least, Most time.Duration
	Count       int
	Ratio       float64
	Pause       time.Duration
	Loud        bool
	Fixed       int
	Word        string
	Password    settings.Secret
	Call        func() // has no text
}

var spec = settings.Spec[config]{Layer: "test.layer", Fields: []settings.Entry[config]{
	settings.Duration(func(c *config) *time.Duration { return &c.Least }, settings.Field{Go: "Least", Min: "1ms", Help: "The least time."}),
	settings.Duration(func(c *config) *time.Duration { return &c.Most }, settings.Field{Go: "Most", Min: "1ms", Max: "1h"}),
	settings.Int(func(c *config) *int { return &c.Count }, settings.Field{
		Go: "Count", Unit: "calls", Max: "1000", ZeroText: "automatic", Off: "nothing is counted", Effect: "the count starts at 0",
	}),
	settings.Float(func(c *config) *float64 { return &c.Ratio }, settings.Field{Go: "Ratio", Max: "1", Below: true, Off: "never"}),
	settings.Duration(func(c *config) *time.Duration { return &c.Pause }, settings.Field{Go: "Pause", Off: "no pause", OffIsZero: true}),
	settings.Bool(func(c *config) *bool { return &c.Loud }, settings.Field{Go: "Loud"}),
	settings.Int(func(c *config) *int { return &c.Fixed }, settings.Field{Go: "Fixed", Name: "made_with", Fixed: true}),
	settings.String(func(c *config) *string { return &c.Word }, settings.Field{Go: "Word"}),
	settings.SecretString(func(c *config) *settings.Secret { return &c.Password }, settings.Field{Go: "Password"}),
}}

func (c config) filled() config {
	if c.Least == 0 {
		c.Least = 10 * time.Millisecond
	}
	if c.Most == 0 {
		c.Most = max(time.Second, c.Least)
	}
	if c.Ratio == 0 {
		c.Ratio = 0.5
	}
	return c
}

func (c config) Validate() error {
	d := c.filled()
	return spec.Validate(c, settings.Rule{Field: "Most", OK: d.Most >= d.Least, Allowed: "at least Least, which is " + d.Least.String()})
}

// layer is a layer for tests, with a record of what the hooks got.
type layer struct {
	*settings.Live[config]

	applied  []config // guarded by the lock of the Live
	reported chan settings.Result
}

func newLayer(declared config) *layer {
	l := &layer{reported: make(chan settings.Result, 10_000)}
	var err error
	l.Live, err = settings.New(&spec, declared, settings.Hooks[config]{
		Fill:   config.filled,
		Apply:  func(c config) { l.applied = append(l.applied, c) },
		Report: func(r settings.Result) { l.reported <- r },
	})
	if err != nil {
		panic(err)
	}
	return l
}

// apply declares values for a source at the present revision.
func (l *layer) apply(source settings.Source, id string, values map[string]string) (settings.Result, error) {
	for {
		r, err := l.Tuning().Apply(settings.Request{Source: source, ID: id, Values: values, Revision: l.Tuning().Read().Revision})
		if !errors.Is(err, settings.ErrStale) {
			return r, err
		}
	}
}

// values returns a map: name, value, name, value.
func values(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}
