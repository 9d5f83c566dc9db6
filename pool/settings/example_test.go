package settings_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/earnorm/poolstack/pool/settings"
)

// Limit is the Config of a layer.
type Limit struct {
	Max      int
	Patience time.Duration
	Share    float64
	Strict   bool
	Plan     string
	Token    settings.Secret
}

// limitSpec lists the fields of Limit.
var limitSpec = settings.Spec[Limit]{Layer: "limit", Fields: []settings.Entry[Limit]{
	settings.Int(func(c *Limit) *int { return &c.Max }, settings.Field{Go: "Max", Min: "1", Max: "100", Help: "The maximum number of uses."}),
	settings.Duration(func(c *Limit) *time.Duration { return &c.Patience }, settings.Field{Go: "Patience", Off: "no waiting"}),
	settings.Float(func(c *Limit) *float64 { return &c.Share }, settings.Field{Go: "Share", Max: "1"}),
	settings.Bool(func(c *Limit) *bool { return &c.Strict }, settings.Field{Go: "Strict"}),
	settings.String(func(c *Limit) *string { return &c.Plan }, settings.Field{Go: "Plan"}),
	settings.SecretString(func(c *Limit) *settings.Secret { return &c.Token }, settings.Field{Go: "Token"}),
}}

// fill is the hook Fill: the defaults.
func fill(c Limit) Limit {
	if c.Max == 0 {
		c.Max = 10
	}
	if c.Patience == 0 {
		c.Patience = time.Second
	}
	return c
}

func limit(c Limit) *settings.Live[Limit] {
	l, err := settings.New(&limitSpec, c, settings.Hooks[Limit]{Fill: fill})
	if err != nil {
		panic(err)
	}
	return l
}

func ExampleNew() {
	l, err := settings.New(&limitSpec, Limit{Patience: -1}, settings.Hooks[Limit]{
		Fill:   fill,
		Apply:  func(c Limit) { fmt.Println("in force from now on:", c.Max) },
		Report: func(r settings.Result) { fmt.Println("revision", r.Revision, r.Source, r.Changes) },
	})
	fmt.Println(l.Effective().Max, err)
	cfg := l.Config() // what was declared
	cfg.Max = 20
	fmt.Println(l.Configure(cfg))
	cfg.Max = 200
	fmt.Println(l.Configure(cfg))
	// Output:
	// 10 <nil>
	// in force from now on: 20
	// revision 2 code [{max 10 20}]
	// <nil>
	// limit: Max is 200: must be 0 (the default) or at least 1 and at most 100
}

func ExampleLive() {
	l := limit(Limit{Max: 20})
	fmt.Println(l.Config().Patience, l.Effective().Patience, l.Texts()["patience"])
	// Output: 0s 1s 1s
}

func ExampleTuning() {
	t := limit(Limit{Max: 20}).Tuning()
	request := settings.Request{
		Source: settings.Trial, ID: "c-12", Revision: t.Read().Revision, Actor: "ann", Reason: "the server has more room",
		Values: map[string]string{"max": "40", "patience": "off"},
	}
	preview, err := t.Preview(request)
	fmt.Println(preview.Changes, err)
	result, err := t.Apply(request)
	fmt.Println(t.Layer(), "revision", result.Revision, err)
	_, err = t.Apply(request) // the revision is old
	fmt.Println(errors.Is(err, settings.ErrStale))
	fmt.Println(t.Read().Effective["max"])

	request.Values, request.Revision = nil, t.Read().Revision // the end of the trial
	result, err = t.Apply(request)
	fmt.Println(result.Changes, err)
	// Output:
	// [{max 20 40} {patience 1s off}] <nil>
	// limit revision 2 <nil>
	// true
	// 40
	// [{max 40 20} {patience off 1s}] <nil>
}

func ExampleTuning_Fields() {
	for _, f := range limit(Limit{}).Tuning().Fields() {
		fmt.Printf("%s: %s, default %q, must be %s\n", f.Name, f.Type, f.Default, f.Allowed)
	}
	// Output:
	// max: int, default "10", must be 0 (the default) or at least 1 and at most 100
	// patience: duration, default "1s", must be off or at least 0
	// share: float, default "0", must be at least 0 and at most 1
	// strict: bool, default "false", must be true or false
	// plan: string, default "", must be a text
	// token: string, default "", must be a text other than (hidden)
}

// The Tunings of a pool are the faces of its Tunable layers.
func ExampleTunable() {
	var layer settings.Tunable = limit(Limit{})
	fmt.Println(layer.Tuning().Layer())
	// Output: limit
}

func ExampleResult() {
	l := limit(Limit{})
	apply := func(source settings.Source, id, value string) {
		r, err := l.Tuning().Apply(settings.Request{
			Source: source, ID: id, Values: map[string]string{"max": value}, Revision: l.Tuning().Read().Revision,
		})
		fmt.Println(r.Changes, r.Held, err)
	}
	apply(settings.Trial, "c-12", "40")
	apply(settings.File, "pools.yaml", "50")
	// Output:
	// [{max 10 40}] [] <nil>
	// [] [max is held by trial "c-12" at 40] <nil>
}

func ExampleState() {
	state := limit(Limit{Max: 20, Token: "hunter2"}).Tuning().Read()
	text, err := json.Marshal(state.Sources)
	fmt.Println(string(text), err)
	fmt.Println(state.Revision, state.Effective["max"], state.Effective["patience"])
	// Output:
	// [{"source":"code","values":{"max":"20","token":"(hidden)"}}] <nil>
	// 1 20 1s
}

func ExampleFieldErrors() {
	t := limit(Limit{}).Tuning()
	_, err := t.Apply(settings.Request{Source: settings.Fleet, Values: map[string]string{"max": "200", "patience": "long"}, Revision: 1})
	text, _ := json.MarshalIndent(settings.FieldErrors(err), "", "  ")
	fmt.Println(string(text))
	// Output:
	// [
	//   {
	//     "layer": "limit",
	//     "field": "max",
	//     "value": "200",
	//     "allowed": "0 (the default) or at least 1 and at most 100"
	//   },
	//   {
	//     "layer": "limit",
	//     "field": "patience",
	//     "value": "long",
	//     "allowed": "a duration such as 1.5s: off or at least 0"
	//   }
	// ]
}

// A method Validate checks the bounds of the list, and rules across fields.
func ExampleSpec_Validate() {
	validate := func(c Limit) error {
		return limitSpec.Validate(c, settings.Rule{Field: "Strict", OK: !c.Strict || c.Max > 0, Allowed: "false without a Max"})
	}
	fmt.Println(validate(Limit{Max: -1, Strict: true}))
	fmt.Println(validate(Limit{Max: 1, Strict: true}))
	// Output:
	// limit: Max is -1: must be 0 (the default) or at least 1 and at most 100
	// limit: Strict is true: must be false without a Max
	// <nil>
}

// A provider, a logger or a name cannot change while the layer lives.
func ExampleUnchanged() {
	type provider struct{ name string }
	used := &provider{"a"}
	fmt.Println(settings.Unchanged("limit", "Provider", nil, used), settings.Unchanged("limit", "Provider", used, used))
	fmt.Println(settings.Unchanged("limit", "Provider", &provider{"b"}, used))
	// Output:
	// <nil> <nil>
	// limit: Provider is another *settings_test.provider: must be the same as before or nil, it cannot be changed
}

func ExampleSecret() {
	token := settings.Secret("hunter2")
	fmt.Println(token, len(string(token)))
	// Output: (hidden) 7
}

func ExampleSource() {
	fmt.Println(settings.Code < settings.File, settings.Fleet, settings.Trial < settings.Force)
	// Output: true fleet true
}
