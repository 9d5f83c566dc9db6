package settings_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool/settings"
)

// model is the plainest form of sources and merges. model knows the fields Least, Most and Count.
type model struct {
	revision uint64
	code     config
	maps     [settings.Force + 1]map[string]string
}

// merge returns the merge of the sources below and without the sources left out.
func (m *model) merge(without ...settings.Source) config {
	c := m.code
	for source := settings.File; source <= settings.Force; source++ {
		left := false
		for _, w := range without {
			left = left || w == source
		}
		if left {
			continue
		}
		for name, text := range m.maps[source] {
			switch name {
			case "least":
				c.Least, _ = time.ParseDuration(text)
			case "most":
				c.Most, _ = time.ParseDuration(text)
			case "count":
				c.Count = -1
				if text != "off" {
					_, _ = fmt.Sscan(text, &c.Count)
				}
			}
		}
	}
	return c
}

// valid reports whether the sources go together, now and after the end of every trial.
func (m *model) valid() bool {
	for _, without := range [][]settings.Source{nil, {settings.Trial}, {settings.Force}, {settings.Trial, settings.Force}} {
		if m.merge(without...).Validate() != nil {
			return false
		}
	}
	return m.code.Validate() == nil
}

// Random changes of all sources do as the model does: accepted or refused, in force, declared,
// changes, held.
func TestModel(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 0))
		l, m := newLayer(config{}), &model{revision: 1}
		duration := func() time.Duration { return time.Duration(random.IntN(5)) * time.Second }
		for step := range 100 {
			next := *m
			source := settings.Source(random.IntN(int(settings.Force) + 1))
			before := m.merge().filled()
			var r settings.Result
			var err error
			if source == settings.Code {
				next.code = config{Least: duration(), Most: duration(), Count: random.IntN(3) - 1}
				if err = l.Configure(next.code); err == nil {
					r = <-l.reported
				}
			} else {
				v := map[string]string{}
				for _, name := range []string{"least", "most"} {
					if d := duration(); random.IntN(2) == 0 && d > 0 {
						v[name] = d.String()
					}
				}
				if random.IntN(2) == 0 {
					v["count"] = []string{"off", "7", "8"}[random.IntN(3)]
				}
				next.maps[source] = v
				request := settings.Request{Source: source, ID: fmt.Sprint(step), Values: v, Revision: m.revision}
				preview, errOfPreview := l.Tuning().Preview(request)
				if r, err = l.Tuning().Apply(request); err == nil {
					<-l.reported
					preview.Revision++
				}
				if fmt.Sprint(err) != fmt.Sprint(errOfPreview) || !reflect.DeepEqual(preview, r) {
					t.Fatalf("seed %d, step %d: the preview is %+v, %v; the change %+v, %v", seed, step, preview, errOfPreview, r, err)
				}
			}
			if (err == nil) != next.valid() {
				t.Fatalf("seed %d, step %d: %v %+v over %+v: %v", seed, step, source, next, m, err)
			}
			if err == nil {
				next.revision++
				*m = next
			}
			if got, want := l.Effective(), m.merge().filled(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d, step %d: in force is %+v, want %+v", seed, step, got, want)
			}
			state := l.Tuning().Read()
			if state.Revision != m.revision {
				t.Fatalf("seed %d, step %d: revision %d, want %d", seed, step, state.Revision, m.revision)
			}
			for _, d := range state.Sources[1:] {
				if !reflect.DeepEqual(d.Values, m.maps[d.Source]) {
					t.Fatalf("seed %d, step %d: %v declares %v, want %v", seed, step, d.Source, d.Values, m.maps[d.Source])
				}
			}
			if err != nil {
				continue
			}
			changed := 0
			after := m.merge().filled()
			for _, c := range []bool{before.Least != after.Least, before.Most != after.Most, before.Count != after.Count} {
				if c {
					changed++
				}
			}
			if len(r.Changes) != changed {
				t.Fatalf("seed %d, step %d: changes %v, from %+v to %+v", seed, step, r.Changes, before, after)
			}
			for name := range m.maps[source] {
				var holder settings.Source
				for s := settings.Force; s > source && holder == 0; s-- {
					if m.maps[s][name] != "" {
						holder = s
					}
				}
				var got settings.Source
				for _, h := range r.Held {
					if h.Name == name {
						got = h.Source
					}
				}
				if got != holder {
					t.Fatalf("seed %d, step %d: %s of %v is held by %v, want %v", seed, step, name, source, got, holder)
				}
			}
		}
	}
}

// Concurrent random changes and their ends leave the merge of what each source declared last.
func TestModelOfConcurrentSources(t *testing.T) {
	l := newLayer(config{})
	var m model
	var wg sync.WaitGroup
	for source := settings.File; source <= settings.Force; source++ {
		wg.Go(func() { // the only writer of source
			random := rand.New(rand.NewPCG(uint64(source), 1))
			for range 200 {
				v := map[string]string{}
				for _, name := range []string{"least", "most", "count"} {
					if random.IntN(2) == 0 {
						v[name] = map[string]string{"count": fmt.Sprint(1 + random.IntN(9))}[name]
						if v[name] == "" {
							v[name] = fmt.Sprintf("%ds", 1+random.IntN(4))
						}
					}
				}
				if _, err := l.apply(source, "", v); err == nil {
					m.maps[source] = v
				} else if errors.Is(err, settings.ErrStale) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := l.Effective(), m.merge().filled(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("in force is %+v, want %+v", got, want)
	}
	for _, end := range []settings.Source{settings.Trial, settings.Force} {
		m.maps[end] = nil
		if _, err := l.apply(end, "", nil); err != nil {
			t.Errorf("the end of %v: %v", end, err)
		}
	}
	if got, want := l.Effective(), m.merge().filled(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after the ends in force is %+v, want %+v", got, want)
	}
	last := uint64(0)
	for len(l.reported) > 0 {
		last = max(last, (<-l.reported).Revision)
	}
	if got := l.Tuning().Read().Revision; got != last || len(l.applied) != int(last)-1 {
		t.Errorf("revision %d, reported up to %d, applied %d times", got, last, len(l.applied))
	}
}

// Every text is refused with a FieldError, or is valid and keeps its form: a text that was read can
// be declared again, and means the same.
func FuzzApply(f *testing.F) {
	names := []string{"least", "most", "count", "ratio", "pause", "loud", "made_with", "word", "password", "unknown"}
	for i, text := range []string{
		"2s", "1h", "off", "0.4", "0", "true", "-0", "a\nb", "hunter2", "automatic", "-5", "1e-3", "0x1p-2", "+Inf", "1_0", "9223372036854775807ns",
	} {
		f.Add(uint8(i), text)
		f.Add(uint8(3), text)
	}
	f.Fuzz(func(t *testing.T, field uint8, text string) {
		name := names[int(field)%len(names)]
		l := newLayer(config{})
		r, err := l.apply(settings.Trial, "c", values(name, text))
		if err != nil {
			if len(settings.FieldErrors(err)) == 0 || l.Tuning().Read().Revision != 1 {
				t.Fatalf("%s %q: %v", name, text, err)
			}
			return
		}
		if text == "" || name == "password" {
			return
		}
		if err := l.applied[0].Validate(); err != nil {
			t.Fatalf("%s %q is accepted: %v", name, text, err)
		}
		declared := l.Tuning().Read().Sources[1].Values[name]
		again, err := l.apply(settings.Trial, "c", values(name, declared))
		if err != nil || len(again.Changes) != 0 || l.Tuning().Read().Sources[1].Values[name] != declared {
			t.Fatalf("%s %q was read as %q: %+v, %v", name, text, declared, again, err)
		}
		_, err = l.apply(settings.Trial, "c", values(name, l.Texts()[name]))
		if err != nil || len(r.Changes) > 1 && name != "least" {
			t.Fatalf("%s %q is in force as %q: %v; %+v", name, text, l.Texts()[name], err, r)
		}
	})
}
