package rules

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want []string // parts of the error
	}{
		{Config{Objective: 93.9}, []string{"Objective is 93.9: must be 0 (default 99.9) or from 94 up to, but not, 100 percent"}},
		{Config{Objective: 100}, []string{"Objective is 100"}},
		{Config{Objective: 0.999}, []string{"Objective is 0.999"}},
		{Config{Objective: math.NaN()}, []string{"Objective is NaN"}},
		{Config{Runbooks: "wiki.example.com/x"}, []string{`Runbooks is "wiki.example.com/x": must be an http or https address`}},
		{Config{Runbooks: "ftp://wiki.example.com"}, []string{"Runbooks"}},
		{Config{Runbooks: "https://wiki.example.com/x#y"}, []string{"without a user, a fragment"}},
		{Config{Runbooks: "https://wiki.example.com/{{ .Secret }}"}, []string{"Runbooks"}},
		{Config{Runbooks: "https://"}, []string{"Runbooks"}},
		{Config{Labels: []string{"job", "po ol"}}, []string{`Labels[1] is "po ol": must be the name of a label`}},
		{Config{Labels: []string{"pool"}}, []string{`Labels[0] is "pool"`, "none of pool, le, severity"}},
		{Config{Labels: []string{"__name__"}}, []string{"Labels[0]"}},
		{Config{Labels: []string{"job", "job"}}, []string{`Labels[1] is "job": must be different from those before it`}},
		{Config{For: -time.Second}, []string{"For is -1s: must be 0 (default 5m0s) or whole seconds"}},
		{Config{BreakerFor: 1500 * time.Millisecond}, []string{"BreakerFor is 1.5s: must be 0 (default 1m0s)"}},
		{
			Config{AbsentFor: -1, KeepFiring: -1, LeaseAge: -1, MinErrors: -1},
			[]string{"AbsentFor", "KeepFiring", "LeaseAge", "MinErrors is -1: must be 0 (default 10)"},
		},
	} {
		_, err := New(c.cfg)
		if err == nil {
			t.Errorf("%+v is taken", c.cfg)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v; want %q in it", c.cfg, err, want)
			}
		}
	}
}

func TestErrorsHidePasswords(t *testing.T) {
	_, err := New(Config{Runbooks: "https://me:secret@wiki.example.com"})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "@wiki.example.com") {
		t.Errorf("got %v", err)
	}
}

// Every parameter affects the files.
func TestParameters(t *testing.T) {
	r := newRules(t, Config{
		Objective: 99.95, Runbooks: "https://wiki.example.com/pools", Labels: []string{"cluster", "job"}, For: 7 * time.Minute,
		BreakerFor: 90 * time.Second, AbsentFor: 11 * time.Minute, KeepFiring: 13 * time.Minute, LeaseAge: 90 * time.Minute, MinErrors: 3,
	})
	alerts, recording := string(r.Files()["poolstack-alerts.yaml"]), string(r.Files()["poolstack-recording.yaml"])
	for _, want := range []string{
		"pool:poolstack_errors_per_use:ratio_rate1h > 14.4 * 0.0005", "The objective of 99.95 % allows 0.05 %",
		`runbook_url: "https://wiki.example.com/pools#poolstackbreakeropen"`,
		"sum by (cluster, job, pool) (", "group by (cluster, job, pool) (", "cluster {{ $labels.cluster }}, job {{ $labels.job }}",
		"for: 7m\n", "for: 1m30s\n", "for: 11m\n", "keep_firing_for: 13m\n", "> 5400\n", ">= 3\n",
	} {
		if !strings.Contains(alerts, want) {
			t.Errorf("the alerts have no %q", want)
		}
	}
	// Counters are summed for each process, whatever the labels of the ratios are.
	for _, want := range []string{"sum by (cluster, job, instance, pool) (label_replace(", "sum by (cluster, job, pool) (rate("} {
		if !strings.Contains(recording, want) {
			t.Errorf("the recording rules have no %q", want)
		}
	}
	if alone := string(newRules(t, Config{Labels: []string{}}).Files()["poolstack-alerts.yaml"]); !strings.Contains(alone, "sum by (pool) (") {
		t.Error("without labels there is no sum by the pool alone")
	}
}

func TestBudget(t *testing.T) {
	for objective, want := range map[float64]float64{0: 0.001, 99.9: 0.001, 99.95: 0.0005, 99.99: 0.0001, 95: 0.05} {
		if got := (Config{Objective: objective}).Budget(); got != want {
			t.Errorf("of %v %% is %v, want %v", objective, got, want)
		}
	}
}

// The burn rates follow from the parts of the 30-day budget.
func TestBurnRates(t *testing.T) {
	days := map[string]float64{"1h": 1. / 24, "6h": .25, "1d": 1, "3d": 3}
	for _, b := range burns {
		var percent float64
		for _, r := range strings.TrimSuffix(b.spent, " %") {
			percent = percent*10 + float64(r-'0')
		}
		if want := percent / 100 * 30 / days[b.long]; math.Abs(b.rate-want) > 1e-9 {
			t.Errorf("%s of the budget in %s is a burn rate of %v, not %v", b.spent, b.long, want, b.rate)
		}
		for _, w := range []string{b.long, b.short} {
			if !slices.Contains(windows, w) {
				t.Errorf("%s is not recorded", w)
			}
		}
	}
}
