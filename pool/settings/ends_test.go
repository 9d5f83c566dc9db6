package settings_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/pool/settings"
)

// A field that cannot change keeps its value also after the end of a trial or of forced settings.
// So a lower source that would change the field at that end is refused at once, and the end is
// never refused.
func TestEndsAreNeverRefused(t *testing.T) {
	for _, source := range []settings.Source{settings.Trial, settings.Force} {
		l := newLayer(config{Fixed: 1})
		if _, err := l.apply(source, "c-12", values("made_with", "1")); err != nil {
			t.Fatal(err)
		}
		if _, err := l.apply(settings.Fleet, "82", values("made_with", "2")); err == nil {
			t.Errorf("below %v: the fleet changes a field that cannot change", source)
		}
		if err := l.Configure(config{}); err == nil {
			t.Errorf("below %v: code changes a field that cannot change", source)
		}
		if _, err := l.apply(source, "", nil); err != nil {
			t.Errorf("the end of %v is refused: %v", source, err)
		}
	}
}

// An end needs no revision, so a busy fleet cannot keep a trial alive.
func TestEndAtAnyRevision(t *testing.T) {
	l := newLayer(config{})
	for range 3 {
		if _, err := l.apply(settings.Trial, "c-12", values("count", "5")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Tuning().Apply(settings.Request{Source: settings.Trial, Revision: 2}); !errors.Is(err, settings.ErrStale) {
		t.Errorf("an end at an old revision: %v", err)
	}
	if _, err := l.Tuning().Apply(settings.Request{Source: settings.Trial, Values: values("count", "6")}); !errors.Is(err, settings.ErrStale) {
		t.Errorf("a change at revision 0: %v", err)
	}
	if _, err := l.Tuning().Apply(settings.Request{Source: settings.Trial}); err != nil || l.Effective().Count != 0 {
		t.Errorf("an end without a revision: %v, Count is %d", err, l.Effective().Count)
	}
}

// Held lists values that are declared. A value that has been withdrawn is not held.
func TestWithdrawnValuesAreNotHeld(t *testing.T) {
	l := newLayer(config{})
	for _, step := range []struct {
		source settings.Source
		values map[string]string
		held   int
	}{
		{settings.Trial, values("count", "5"), 0},
		{settings.File, values("count", "6"), 1},
		{settings.File, nil, 0},
	} {
		r, err := l.apply(step.source, "", step.values)
		if err != nil || len(r.Held) != step.held {
			t.Errorf("%v %v: held %v, %v", step.source, step.values, r.Held, err)
		}
	}
	for _, count := range []int{7, 0} {
		if err := l.Configure(config{Count: count}); err != nil {
			t.Fatal(err)
		}
	}
	held := 0
	for range len(l.reported) {
		if r := <-l.reported; r.Source == settings.Code {
			held += len(r.Held)
		}
	}
	if held != 1 {
		t.Errorf("%d values of code are held, want the 7 only", held)
	}
}

// The changes of a Result are a list in JSON, also without a change.
func TestNoChangesInJSON(t *testing.T) {
	r, err := newLayer(config{}).apply(settings.Fleet, "", values("count", "0"))
	if text, _ := json.Marshal(r); err != nil || !strings.Contains(string(text), `"changes":[]`) {
		t.Errorf("%s, %v", text, err)
	}
}

// A text too small for its type is refused: 0 would mean the default.
func TestUnderflow(t *testing.T) {
	for name, text := range map[string]string{"least": "0.1ns", "ratio": "1e-400"} {
		if _, err := newLayer(config{}).apply(settings.Fleet, "", values(name, text)); len(settings.FieldErrors(err)) != 1 {
			t.Errorf("%s %s: %v", name, text, err)
		}
	}
}

// The word in place of a secret is no secret, and a long text does not fill the log.
func TestTextsInErrors(t *testing.T) {
	if err := newLayer(config{}).Configure(config{Password: settings.Hidden}); len(settings.FieldErrors(err)) != 1 {
		t.Errorf("the password is %s: %v", settings.Hidden, err)
	}
	_, err := newLayer(config{}).apply(settings.Fleet, "", values("count", strings.Repeat("9", 1<<20)))
	if err == nil || len(err.Error()) > 300 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

// A mistake in a Spec or a Rule is a panic, not a rule that never applies.
func TestMistakesInSpecs(t *testing.T) {
	type one struct{ N int }
	field := func(f settings.Field) settings.Entry[one] {
		return settings.Int(func(c *one) *int { return &c.N }, f)
	}
	for what, f := range map[string]func(){
		"a rule about no field": func() {
			s := settings.Spec[one]{Layer: "one", Fields: []settings.Entry[one]{field(settings.Field{Go: "N"})}}
			_ = s.Validate(one{}, settings.Rule{Field: "n"})
		},
		"two fields of one name": func() {
			s := settings.Spec[one]{Layer: "one", Fields: []settings.Entry[one]{field(settings.Field{Go: "N"}), field(settings.Field{Go: "N"})}}
			_, _ = settings.New(&s, one{}, settings.Hooks[one]{})
		},
		"bounds that nothing meets": func() { field(settings.Field{Go: "N", Min: "5", Max: "4"}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			f()
		}()
	}
}
