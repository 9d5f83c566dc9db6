package settings_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool/settings"
)

// Reading, changing a field and writing back works for every field.
func TestConfigIsWhatWasDeclared(t *testing.T) {
	l := newLayer(config{})
	for name, change := range map[string]func(c *config){
		"Least": func(c *config) { c.Least = 5 * time.Second }, "Most": func(c *config) { c.Most = time.Minute },
		"Count": func(c *config) { c.Count = 5 }, "Ratio": func(c *config) { c.Ratio = 0.25 }, "Loud": func(c *config) { c.Loud = true },
	} {
		cfg := l.Config()
		change(&cfg)
		if err := l.Configure(cfg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := l.Config(); fmt.Sprint(got) != fmt.Sprint(cfg) {
			t.Errorf("%s: declared is %+v, want %+v", name, got, cfg)
		}
	}
	if got := l.Effective(); got.Least != 5*time.Second || got.Most != time.Minute || got.Ratio != 0.25 {
		t.Errorf("in force is %+v", got)
	}
	if n := len(l.reported); n != 5 {
		t.Errorf("5 changes are reported %d times", n)
	}
}

// The example of the documentation.
func TestSourcesOverrideFieldByField(t *testing.T) {
	l := newLayer(config{Least: 500 * time.Millisecond, Most: time.Minute})
	step := func(source settings.Source, id string, v map[string]string, want string) settings.Result {
		t.Helper()
		r, err := l.apply(source, id, v)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Effective(); fmt.Sprintf("%v %v", got.Least, got.Count) != want {
			t.Errorf("%v %s: in force is %v %v, want %s", source, id, got.Least, got.Count, want)
		}
		return r
	}
	step(settings.File, "pools.yaml", values("least", "2s"), "2s 0")
	step(settings.Fleet, "81", values("count", "8"), "2s 8")
	step(settings.Trial, "c-12", values("least", "1s"), "1s 8")
	r := step(settings.File, "pools.yaml", values("least", "3s"), "1s 8")
	if len(r.Changes) != 0 || fmt.Sprint(r.Held) != `[least is held by trial "c-12" at 1s]` {
		t.Errorf("a change without effect: %+v", r)
	}
	r = step(settings.Trial, "c-12", nil, "3s 8")
	if fmt.Sprint(r.Changes) != "[{least 1s 3s}]" || r.Held != nil {
		t.Errorf("the end of the trial: %+v", r)
	}
	step(settings.Force, "", values("count", "off", "loud", "true"), "3s -1")
	step(settings.Force, "", nil, "3s 8")
	step(settings.File, "", nil, "500ms 8")
	step(settings.Fleet, "82", values("least", "0"), "10ms 0") // the default, against code
	if err := l.Configure(config{Least: time.Second}); err != nil {
		t.Fatal(err)
	}
	for len(l.reported) > 1 {
		<-l.reported
	}
	if r = <-l.reported; fmt.Sprint(r.Held) != `[least is held by fleet "82" at 10ms]` {
		t.Errorf("Configure under a higher source: %+v", r)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		values map[string]string
		want   string
	}{
		{values("least", "1us"), "test.layer: least is 1us: must be 0 (the default) or at least 1ms"},
		{values("most", "61m"), "test.layer: most is 61m: must be 0 (the default) or at least 1ms and at most 1h"},
		{values("most", "soon"), "test.layer: most is soon: must be a duration such as 1.5s: 0 (the default) or at least 1ms and at most 1h"},
		{values("most", "2"), "test.layer: most is 2: must be a duration such as 1.5s: 0 (the default) or at least 1ms and at most 1h"},
		{values("most", "off"), "test.layer: most is off: must be a duration such as 1.5s: 0 (the default) or at least 1ms and at most 1h"},
		{values("count", "1001"), "test.layer: count is 1001: must be automatic, off or at least 0 and at most 1000"},
		{values("count", "1.5"), "test.layer: count is 1.5: must be an integer: automatic, off or at least 0 and at most 1000"},
		{values("ratio", "1"), "test.layer: ratio is 1: must be off or at least 0 and less than 1"},
		{values("ratio", "NaN"), "test.layer: ratio is NaN: must be off or at least 0 and less than 1"},
		{values("ratio", "+Inf"), "test.layer: ratio is +Inf: must be off or at least 0 and less than 1"},
		{values("pause", "-1s"), "test.layer: pause is -1s: must be off or at least 0"},
		{values("loud", "yes: loud"), `test.layer: loud is "yes: loud": must be a truth value: true or false`},
		{values("nois", "1"), "test.layer: nois is unknown: must be one of least, most, count, ratio, pause, loud, made_with, word, password"},
		{values("made_with", "2"), "test.layer: made_with is 2: must be 1, it cannot be changed"},
		{values("password", settings.Hidden), "test.layer: password is (hidden): must be the secret itself, because this source has declared none"},
		{values("count", "x", "least", "1us"), "test.layer: count is x: must be an integer: automatic, off or at least 0 and at most 1000\n" +
			"test.layer: least is 1us: must be 0 (the default) or at least 1ms"},
		{values("least", "3s", "most", "2s"), "test.layer: most is 2s: must be at least least, which is 3s"}, // no other source is to blame
	} {
		l := newLayer(config{Fixed: 1})
		_, err := l.apply(settings.Fleet, "82", c.values)
		if err == nil || err.Error() != c.want {
			t.Errorf("%v:\ngot  %v\nwant %s", c.values, err, c.want)
		}
		if n := len(settings.FieldErrors(err)); n != strings.Count(c.want, "\n")+1 {
			t.Errorf("%v: %d FieldErrors", c.values, n)
		}
		if s := l.Tuning().Read(); s.Revision != 1 || len(s.Sources) != 1 || len(l.reported)+len(l.applied) != 0 {
			t.Errorf("%v: a refused change has left %+v", c.values, s)
		}
	}
	l := newLayer(config{Fixed: 1})
	for want, cfg := range map[string]config{
		"test.layer: Ratio is 7: must be negative (off) or at least 0 and less than 1": {Fixed: 2, Ratio: 7},
		"test.layer: Fixed is 2: must be 1, it cannot be changed":                      {Fixed: 2},
	} {
		if err := l.Configure(cfg); err == nil || err.Error() != want {
			t.Error(err)
		}
	}
	for _, source := range []settings.Source{settings.Code, 9} {
		if _, err := l.apply(source, "", nil); err == nil || !strings.HasSuffix(err.Error(), "must be one of file, fleet, trial, force") {
			t.Errorf("%v: %v", source, err)
		}
	}
	if _, err := settings.New(&spec, config{Ratio: 7}, settings.Hooks[config]{}); err == nil {
		t.Error("New takes settings that are not valid")
	}
}

func TestConflictNamesBothSources(t *testing.T) {
	start := func(t *testing.T) *layer {
		l := newLayer(config{})
		if _, err := l.apply(settings.File, "pools.yaml", values("most", "4s")); err != nil {
			t.Fatal(err)
		}
		return l
	}
	t.Run("of a source", func(t *testing.T) {
		_, err := start(t).apply(settings.Fleet, "82", values("least", "5s"))
		const want = `test.layer: fleet "82" does not go with file "pools.yaml": test.layer: most is 4s: must be at least least, which is 5s`
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
	t.Run("of code", func(t *testing.T) {
		err := start(t).Configure(config{Least: 5 * time.Second})
		const want = `test.layer: code does not go with file "pools.yaml": test.layer: Most is 4s: must be at least Least, which is 5s`
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
	t.Run("of an end", func(t *testing.T) {
		l := start(t)
		if _, err := l.apply(settings.Fleet, "82", values("most", "9s")); err != nil {
			t.Fatal(err)
		}
		if err := l.Configure(config{Least: 5 * time.Second}); err != nil {
			t.Fatal(err)
		}
		_, err := l.apply(settings.Fleet, "83", nil)
		const want = `test.layer: fleet "83" cannot end: the other sources do not go together: test.layer: most is 4s: must be at least least, which is 5s`
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
	// The end of a trial comes at a deadline, and nothing may stop the end.
	t.Run("after the end of a trial", func(t *testing.T) {
		l := newLayer(config{})
		for _, step := range []struct {
			source settings.Source
			values map[string]string
			ok     bool
		}{
			{settings.File, values("least", "3s", "most", "4s"), true},
			{settings.Trial, values("least", "1s"), true},
			{settings.Fleet, values("most", "2s"), false}, // valid during the trial only
			{settings.Force, values("most", "2s"), false},
			{settings.Force, values("most", "3s"), true},
			{settings.Trial, nil, true},
		} {
			if _, err := l.apply(step.source, "", step.values); (err == nil) != step.ok {
				t.Errorf("%v %v: %v", step.source, step.values, err)
			}
		}
	})
}

func TestRevision(t *testing.T) {
	l := newLayer(config{})
	tuning := l.Tuning()
	request := settings.Request{Source: settings.Trial, ID: "c-12", Values: values("count", "5"), Revision: 1, Actor: "ann", Reason: "a test"}
	preview, err := tuning.Preview(request)
	if err != nil || preview.Revision != 1 || tuning.Read().Revision != 1 || len(l.reported)+len(l.applied) != 0 {
		t.Errorf("a preview: %+v, %v, then %+v", preview, err, tuning.Read())
	}
	result, err := tuning.Apply(request)
	if err != nil || result.Revision != 2 || fmt.Sprint(result.Changes) != "[{count automatic 5}]" {
		t.Errorf("a change: %+v, %v", result, err)
	}
	reported := <-l.reported
	if !reflect.DeepEqual(reported, result) || reported.Actor != "ann" || reported.Reason != "a test" || reported.ID != "c-12" {
		t.Errorf("reported is %+v, want %+v", reported, result)
	}
	for _, stale := range []uint64{0, 1, 3} {
		request.Revision = stale
		_, err = tuning.Apply(request)
		_, errOfPreview := tuning.Preview(request)
		if !errors.Is(err, settings.ErrStale) || !errors.Is(errOfPreview, settings.ErrStale) {
			t.Errorf("revision %d: %v, %v", stale, err, errOfPreview)
		}
	}
	if tuning != l.Tuning() || tuning.Layer() != "test.layer" {
		t.Error("the face is another one")
	}
}

// A secret leaves neither in texts, nor in errors, nor by fmt and JSON.
func TestSecretsNeverLeave(t *testing.T) {
	const secret = "hunter2"
	l := newLayer(config{Password: secret})
	var seen strings.Builder
	see := func(v any) {
		_ = json.NewEncoder(&seen).Encode(v)
		_, _ = fmt.Fprintf(&seen, "%v %+v %#v %s %q %x %d\n", v, v, v, v, v, v, v)
	}
	see(settings.Secret(secret))
	see(l.Tuning().Fields())
	see(l.Tuning().Read())
	see(l.Texts())
	for source := settings.File; source <= settings.Force; source++ {
		r, err := l.apply(source, "", values("password", secret+source.String()))
		see(r)
		see(err)
	}
	_, err := l.apply(settings.Trial, "", values("password", secret, "count", "x"))
	see(err)
	see(l.Tuning().Read())
	if strings.Contains(seen.String(), secret) || strings.Contains(seen.String(), "68756e74657232") {
		t.Errorf("the secret is in\n%s", seen.String())
	}
	if l.Effective().Password != "hunter2force" {
		t.Errorf("in force is %q", string(l.Effective().Password))
	}
	// What was read can be written back.
	for _, declared := range l.Tuning().Read().Sources[1:] {
		declared.Values["count"] = "7"
		r, err := l.apply(declared.Source, "", declared.Values)
		if err != nil || strings.Contains(fmt.Sprint(r.Changes), "password") {
			t.Errorf("%v: %+v, %v", declared.Source, r, err)
		}
	}
	if string(l.Effective().Password) != "hunter2force" {
		t.Errorf("in force is %q", string(l.Effective().Password))
	}
	if text, _ := json.Marshal(settings.Secret("")); string(text) != `""` {
		t.Errorf("the empty secret is %s", text)
	}
}

func TestFields(t *testing.T) {
	var got []string
	for _, f := range newLayer(config{Count: 3}).Tuning().Fields() {
		got = append(got, fmt.Sprintf("%s %s %s %q %q %s", f.Name, f.Type, f.Default, f.Min, f.Max, f.Effect))
	}
	want := []string{
		`least duration 10ms "1ms" "" `, `most duration 1s "1ms" "1h" `, `count int automatic "0" "1000" the count starts at 0`,
		`ratio float 0.5 "0" "1" `, `pause duration off "0" "" `, `loud bool false "" "" `, `made_with int 0 "0" "" `,
		`word string  "" "" `, `password string  "" "" `,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	for goName, want := range map[string]string{
		"OpenFor": "open_for", "MaxQPS": "max_qps", "QPSMax": "qps_max", "X": "x", "TLS": "tls", "Hop2Max": "hop2_max",
	} {
		s := settings.Spec[config]{Fields: []settings.Entry[config]{settings.Bool(func(c *config) *bool { return &c.Loud }, settings.Field{Go: goName})}}
		l, err := settings.New(&s, config{}, settings.Hooks[config]{})
		if err != nil || l.Tuning().Fields()[0].Name != want {
			t.Errorf("%s is %s, want %s (%v)", goName, l.Tuning().Fields()[0].Name, want, err)
		}
	}
}

func TestABoundThatIsNoBoundPanics(t *testing.T) {
	for _, f := range []settings.Field{{Min: "5"}, {Max: "long"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v is accepted", f)
				}
			}()
			settings.Duration(func(c *config) *time.Duration { return &c.Least }, f)
		}()
	}
}

func TestSources(t *testing.T) {
	for source := settings.Code; source <= settings.Force; source++ {
		text, _ := source.MarshalText()
		var back settings.Source
		if err := back.UnmarshalText(text); err != nil || back != source {
			t.Errorf("%s becomes %v, %v", text, back, err)
		}
	}
	if got := settings.Source(9).String(); got != "source(9)" {
		t.Error(got)
	}
	if err := new(settings.Source).UnmarshalText([]byte("x")); err == nil {
		t.Error("x is a source")
	}
}

// Each change is reported exactly once, and the settings of the last revision are in force.
func TestConcurrentChanges(t *testing.T) {
	l := newLayer(config{})
	const each = 50
	var wg sync.WaitGroup
	for source := settings.Code; source <= settings.Force; source++ {
		wg.Go(func() {
			for n := range each {
				count := fmt.Sprint(int(source)*each + n)
				if source == settings.Code {
					_ = l.Configure(config{Word: count})
				} else if _, err := l.apply(source, count, values("word", count)); err != nil {
					t.Error(err)
				}
				_, _, _ = l.Config(), l.Effective(), l.Tuning().Read()
			}
		})
	}
	wg.Wait()
	const changes = 5 * each
	seen := map[uint64]settings.Result{}
	for range changes {
		r := <-l.reported
		seen[r.Revision] = r
	}
	if len(seen) != changes || len(l.reported) != 0 || l.Tuning().Read().Revision != changes+1 || len(l.applied) != changes {
		t.Errorf("%d changes have %d revisions, %d too many reports, and are applied %d times", changes, len(seen), len(l.reported), len(l.applied))
	}
	word := "" // the reports in the order of the revisions tell the history without a gap
	for revision := uint64(2); revision <= changes+1; revision++ {
		for _, c := range seen[revision].Changes {
			if c.From != word {
				t.Fatalf("revision %d goes on from %q, want %q", revision, c.From, word)
			}
			word = c.To
		}
		if got := l.applied[revision-2].Word; got != word {
			t.Fatalf("revision %d: applied is %q, want %q", revision, got, word)
		}
	}
	if got := l.Effective().Word; got != word {
		t.Errorf("in force is %q, want %q", got, word)
	}
}

// Reading is possible inside a hook.
func TestHooksMayRead(t *testing.T) {
	var l *settings.Live[config]
	n := 0
	read := func() {
		if l != nil {
			_, _, _ = l.Config(), l.Effective(), l.Tuning().Read()
			n++
		}
	}
	made, err := settings.New(&spec, config{}, settings.Hooks[config]{
		Validate: func(config) error { read(); return nil },
		Apply:    func(config) { read() },
		Report:   func(settings.Result) { read() },
	})
	if err != nil {
		t.Fatal(err)
	}
	l = made
	if err := l.Configure(config{Ratio: math.NaN()}); err != nil || n < 3 {
		t.Errorf("%v, %d hooks", err, n)
	}
}
