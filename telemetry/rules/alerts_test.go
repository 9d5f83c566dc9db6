package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// scenario describes the series in Prometheus, and the expected alerts with a name at a moment.
type scenario struct {
	name   string
	alert  string
	every  string   // interval of samples and evaluations; "" means 30s
	series []string // in promtool's notation
	at     string
	fires  []firing // empty: the alert must not fire
}

type firing struct {
	labels      map[string]string // besides job, instance, pool, severity
	without     []string          // labels missing from the alert
	description string
}

// of returns a series of the pool p with labels and values in promtool's notation.
func of(name, labels, values string) string {
	return ofInstance("h:1", name, labels, values)
}

func ofInstance(instance, name, labels, values string) string {
	if labels != "" {
		labels = ", " + labels
	}
	return fmt.Sprintf(`%s{job="shop", instance=%q, db_client_connection_pool_name="p"%s} %s`, name, instance, labels, values)
}

const who = "the pool p (job shop, instance h:1)"

var (
	alive  = of("poolstack_lease_oldest_seconds", "", "0x400")
	counts = func(operation, values string) string {
		return of("db_client_operation_duration_seconds_count", fmt.Sprintf("db_operation_name=%q", operation), values)
	}
	failed = func(fault, values string) string {
		return of("poolstack_failures_total", fmt.Sprintf("poolstack_fault=%q", fault), values)
	}
)

func says(description string) []firing { return []firing{{description: description}} }

var scenarios = []scenario{
	{
		name: "waiters at each look", alert: "PoolstackWaiters", at: "10m",
		series: []string{alive, of("db_client_connection_pending_requests", "", "0 3x30")},
		fires:  says("3 uses are waiting for a resource of " + who + "; at each look for 5m there were some."),
	},
	{
		name: "two short queues", alert: "PoolstackWaiters", at: "9m30s",
		// At 4m30s no use waited.
		series: []string{alive, of("db_client_connection_pending_requests", "", "3x8 0 3x30")},
	},
	{
		name: "somebody else's pool", alert: "PoolstackWaiters", at: "10m",
		series: []string{of("db_client_connection_pending_requests", "", "3x30")},
	},
	{
		name: "nobody waits", alert: "PoolstackWaiters", at: "10m",
		series: []string{alive, of("db_client_connection_pending_requests", "", "0x30")},
	},
	{
		name: "waits of 4 to 5 s of 5 s", alert: "PoolstackWaitNearTimeout", at: "15m",
		series: []string{
			of("poolstack_acquire_timeout_seconds", "", "5x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="2.5"`, "0x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="5"`, "0+10x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="+Inf"`, "0+10x40"),
		},
		fires: says("The 99th percentile of the waits for a resource of " + who + " is 4.975s, more than 80 % of the acquire timeout."),
	},
	{
		name: "such waits for a while", alert: "PoolstackWaitNearTimeout", at: "9m30s",
		series: []string{
			of("poolstack_acquire_timeout_seconds", "", "5x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="2.5"`, "0x20 0x20"),
			// Ten waits at the same time, and no further waits.
			of("db_client_connection_wait_time_seconds_bucket", `le="5"`, "0x2 10x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="+Inf"`, "0x2 10x40"),
		},
	},
	{
		name: "one wait in fifty is long, but of a pool without a bound", alert: "PoolstackWaitNearTimeout", at: "15m",
		series: []string{
			of("db_client_connection_wait_time_seconds_bucket", `le="2.5"`, "0x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="5"`, "0+10x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="+Inf"`, "0+10x40"),
		},
	},
	{
		name: "no borrowers", alert: "PoolstackWaitNearTimeout", at: "15m",
		series: []string{
			of("poolstack_acquire_timeout_seconds", "", "5x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="5"`, "70x40"),
			of("db_client_connection_wait_time_seconds_bucket", `le="+Inf"`, "70x40"),
		},
	},
	{
		name: "timeouts, on and on", alert: "PoolstackAcquireTimeouts", at: "12m",
		series: []string{of("poolstack_timeouts_total", `poolstack_stage="acquire"`, "0x3 0+2x30")},
		fires:  says("In 5 minutes 20 uses of " + who + " got no resource in time, and it has gone on for 5m."),
	},
	{
		name: "a single timeout", alert: "PoolstackAcquireTimeouts", at: "7m",
		// The increase is at 2m, and is seen until 6m30s.
		series: []string{of("poolstack_timeouts_total", `poolstack_stage="acquire"`, "0x3 1x30")},
	},
	{
		name: "a single timeout, at its last moment", alert: "PoolstackAcquireTimeouts", at: "6m30s",
		series: []string{of("poolstack_timeouts_total", `poolstack_stage="acquire"`, "0x3 1x30")},
	},
	{
		name: "the process starts anew", alert: "PoolstackAcquireTimeouts", at: "12m",
		series: []string{of("poolstack_timeouts_total", `poolstack_stage="acquire"`, "500x5 0x30")},
	},
	{
		name: "timeouts of attempts", alert: "PoolstackAcquireTimeouts", at: "12m",
		series: []string{of("poolstack_timeouts_total", `poolstack_stage="attempt"`, "0+2x30")},
	},
	{
		name: "10 of 10 in use", alert: "PoolstackUtilisationHigh", at: "10m",
		series: []string{
			alive, of("db_client_connection_max", "", "10x30"), of("db_client_connection_count", `db_client_connection_state="idle"`, "0x30"),
			of("db_client_connection_count", `db_client_connection_state="used"`, "10x30"),
		},
		fires: says("100% of the connections of " + who + " are in use, for 5m by now."),
	},
	{
		name: "9 of 10", alert: "PoolstackUtilisationHigh", at: "10m",
		series: []string{
			alive, of("db_client_connection_max", "", "10x30"), of("db_client_connection_count", `db_client_connection_state="used"`, "9x30"),
		},
	},
	{
		name: "10 of 10 with a pause", alert: "PoolstackUtilisationHigh", at: "10m",
		series: []string{
			alive, of("db_client_connection_max", "", "10x30"), of("db_client_connection_count", `db_client_connection_state="used"`, "10x10 2 10x30"),
		},
	},
	{
		name: "a maximum of 0", alert: "PoolstackUtilisationHigh", at: "10m",
		series: []string{
			alive, of("db_client_connection_max", "", "0x30"), of("db_client_connection_count", `db_client_connection_state="used"`, "1x30"),
		},
	},
	{
		name: "open, and half-open now and then", alert: "PoolstackBreakerOpen", at: "3m",
		series: []string{
			of("poolstack_breaker_state", `poolstack_state="closed"`, "1 0x20"),
			of("poolstack_breaker_state", `poolstack_state="open"`, "0 1 0 1 0 1 0 1"),
			of("poolstack_breaker_state", `poolstack_state="half-open"`, "0 0 1 0 1 0 1 0"),
		},
		fires: says("The circuit breaker of " + who + " has been open or half-open at each look for 1m."),
	},
	{
		name: "it has closed, but a moment ago", alert: "PoolstackBreakerOpen", at: "8m",
		series: []string{of("poolstack_breaker_state", `poolstack_state="open"`, "1x9 0x40")},
		// The state at the moment of the last evaluation.
		fires: says("The circuit breaker of " + who + " has been open or half-open at each look for 1m."),
	},
	{
		name: "it has closed", alert: "PoolstackBreakerOpen", at: "11m",
		series: []string{of("poolstack_breaker_state", `poolstack_state="open"`, "1x9 0x40")},
	},
	{
		name: "open for a moment", alert: "PoolstackBreakerOpen", at: "2m",
		series: []string{of("poolstack_breaker_state", `poolstack_state="open"`, "0 1 0x20")},
	},
	{
		name: "openings that no scrape saw", alert: "PoolstackBreakerFlapping", at: "10m",
		series: []string{
			of("poolstack_breaker_state", `poolstack_state="open"`, "0x40"),
			of("poolstack_transitions_total", `poolstack_from="closed", poolstack_to="open"`, "0x4 1x4 2x4 3x40"),
		},
		fires: says("The circuit breaker of " + who + " opened 3 times in 15 minutes."),
	},
	{
		name: "one long outage", alert: "PoolstackBreakerFlapping", at: "10m",
		series: []string{
			of("poolstack_transitions_total", `poolstack_from="closed", poolstack_to="open"`, "0x4 1x40"),
			of("poolstack_transitions_total", `poolstack_from="half-open", poolstack_to="open"`, "0x4 0+1x40"),
		},
	},
	{
		name: "the process starts anew", alert: "PoolstackBreakerFlapping", at: "10m",
		series: []string{of("poolstack_transitions_total", `poolstack_from="closed", poolstack_to="open"`, "50x4 0x2 1x40")},
	},
	{
		name: "uses are given up", alert: "PoolstackRetryBudgetExhausted", at: "10m",
		series: []string{
			of("poolstack_retry_budget", "", "3x40"), // each scrape saw some that had come back
			of("poolstack_retry_give_ups_total", `poolstack_reason="budget"`, "0+2x40"),
		},
		fires: says("The retry budget of " + who + " has been empty for 5m: 20 uses were given up for want of it in the last 5 minutes."),
	},
	{
		name: "empty, and nobody has asked", alert: "PoolstackRetryBudgetExhausted", at: "10m",
		series: []string{
			of("poolstack_retry_budget", "", "0.4x40"),
			of("poolstack_retry_give_ups_total", `poolstack_reason="budget"`, "7x40"),
		},
		fires: says("The retry budget of " + who + " has been empty for 5m: 0 uses were given up for want of it in the last 5 minutes."),
	},
	{
		name: "one give-up", alert: "PoolstackRetryBudgetExhausted", at: "7m",
		series: []string{
			of("poolstack_retry_budget", "", "100x3 0.2 1.2 50x30"),
			of("poolstack_retry_give_ups_total", `poolstack_reason="budget"`, "0x3 1x40"),
		},
	},
	{
		name: "given up for other reasons", alert: "PoolstackRetryBudgetExhausted", at: "10m",
		series: []string{
			of("poolstack_retry_budget", "", "100x40"),
			of("poolstack_retry_give_ups_total", `poolstack_reason="budget"`, "0x40"),
			of("poolstack_retry_give_ups_total", `poolstack_reason="deadline"`, "0+5x40"),
		},
	},
	{
		name: "the process starts anew", alert: "PoolstackRetryBudgetExhausted", at: "10m",
		series: []string{of("poolstack_retry_give_ups_total", `poolstack_reason="budget"`, "90x5 0x40")},
	},
	{
		name: "two leaks", alert: "PoolstackLeasesLeaked", at: "10m",
		series: []string{of("poolstack_leaks_total", "", "0x4 2x40")},
		fires:  says("2 leases of " + who + " were reported as leaked in 15 minutes."),
	},
	{
		name: "old leaks, and a process that starts anew", alert: "PoolstackLeasesLeaked", at: "10m",
		series: []string{of("poolstack_leaks_total", "", "2x4 0x40")},
	},
	{
		name: "two leaks, long ago", alert: "PoolstackLeasesLeaked", at: "10m",
		series: []string{of("poolstack_leaks_total", "", "2x40")},
	},
	{
		name: "out for an hour and a little", alert: "PoolstackLeaseOld", at: "10m",
		series: []string{of("poolstack_lease_oldest_seconds", "", "3300+30x40")}, // since 4m30s
	},
	{
		name: "out for an hour, and on", alert: "PoolstackLeaseOld", at: "16m",
		series: []string{of("poolstack_lease_oldest_seconds", "", "3300+30x40")},
		fires:  says("A lease of " + who + " has been out for 1h 11m 0s."),
	},
	{
		name: "given back in time", alert: "PoolstackLeaseOld", at: "16m",
		series: []string{of("poolstack_lease_oldest_seconds", "", "3300+30x14 0x30")},
	},
	{
		name: "no answer", alert: "PoolstackTargetDown", at: "12m",
		series: []string{`up{job="shop", instance="h:1", zone="a"} 1x8 0x40`, failed("none", "0x8 stale")},
		fires:  []firing{{without: []string{"pool"}, description: "A target with pools (job shop, instance h:1) has not answered a scrape for 5m."}},
	},
	{
		name: "one scrape failed", alert: "PoolstackTargetDown", at: "12m",
		series: []string{`up{job="shop", instance="h:1"} 1x8 0x3 1x40`, failed("none", "0x8 stale _x3 0x40")},
	},
	{
		name: "a target without pools", alert: "PoolstackTargetDown", at: "12m",
		series: []string{`up{job="shop", instance="h:2"} 0x40`, failed("none", "0x40")},
	},
	{
		name: "all are gone", alert: "PoolstackAbsent", at: "12m",
		series: []string{
			ofInstance("h:1", "poolstack_failures_total", `poolstack_fault="none"`, "0x8 stale"),
			ofInstance("h:2", "poolstack_failures_total", `poolstack_fault="none"`, "0x10 stale"),
		},
		fires: []firing{{
			without:     []string{"instance"},
			description: "Nothing has reported of the pool p of job shop for 5m, though it was there within the last hour.",
		}},
	},
	{
		name: "a release replaces the instances", alert: "PoolstackAbsent", at: "12m",
		series: []string{
			ofInstance("h:1", "poolstack_failures_total", `poolstack_fault="none"`, "0x8 stale"),
			ofInstance("h:2", "poolstack_failures_total", `poolstack_fault="none"`, "_x8 0x40"),
		},
	},
	{
		name: "gone for good", alert: "PoolstackAbsent", at: "75m",
		series: []string{failed("none", "0x8 stale")},
	},
	{
		name: "a pool is closed", alert: "PoolstackAbsent", at: "12m",
		series: []string{of("db_client_connection_max", "", "10x8 stale"), failed("none", "0x40")},
	},

	// The error budget: 0.1 % of the uses may be bad.
	{
		name: "2 % are bad for an hour", alert: "PoolstackErrorBudgetFastBurn", at: "70m", every: "1m",
		series: []string{counts("GET", "0+1000x90"), failed("server", "0+20x90"), failed("local", "0x90"), failed("caller", "0x90")},
		fires: []firing{{
			labels: map[string]string{"window": "1h"},
			description: "2% of the uses of " + who + " failed in the last 1h by the server's fault or our own. The objective of 99.9 % allows 0.1 %: " +
				"the budget of 30 days burns at least 14.4 times too fast, which spends 2 % of it in 1h.",
		}, {
			labels: map[string]string{"window": "6h"},
			description: "2% of the uses of " + who + " failed in the last 6h by the server's fault or our own. The objective of 99.9 % allows 0.1 %: " +
				"the budget of 30 days burns at least 6 times too fast, which spends 5 % of it in 6h.",
		}},
	},
	{
		name: "1 % is bad for six hours", alert: "PoolstackErrorBudgetFastBurn", at: "6h", every: "1m",
		series: []string{counts("GET", "0+1000x400"), failed("server", "0+5x400"), failed("local", "0+5x400")},
		fires: []firing{{
			labels: map[string]string{"window": "6h"},
			description: "1% of the uses of " + who + " failed in the last 6h by the server's fault or our own. The objective of 99.9 % allows 0.1 %: " +
				"the budget of 30 days burns at least 6 times too fast, which spends 5 % of it in 6h.",
		}},
	},
	{
		name: "all are bad for a minute, an hour ago", alert: "PoolstackErrorBudgetFastBurn", at: "80m", every: "1m",
		series: []string{counts("GET", "0+1000x90"), failed("server", "0x30 1000x90")},
	},
	{
		name: "0.05 % are bad", alert: "PoolstackErrorBudgetFastBurn", at: "70m", every: "1m",
		series: []string{counts("GET", "0+2000x90"), failed("server", "0+1x90")},
	},
	{
		name: "no traffic", alert: "PoolstackErrorBudgetFastBurn", at: "70m", every: "1m",
		series: []string{counts("GET", "5000x90"), failed("server", "400x90"), failed("local", "300x90")},
	},
	{
		name: "no use ever", alert: "PoolstackErrorBudgetFastBurn", at: "70m", every: "1m",
		series: []string{failed("server", "0x90"), failed("local", "0x90")},
	},
	{
		name: "callers give up, and misspell", alert: "PoolstackErrorBudgetFastBurn", at: "70m", every: "1m",
		series: []string{
			counts("GET", "0+1000x90"), failed("server", "0x90"), failed("local", "0x90"),
			failed("caller", "0+900x90"), failed("none", "0+50x90"),
		},
	},
	{
		name: "the process starts anew", alert: "PoolstackErrorBudgetFastBurn", at: "70m", every: "1m",
		series: []string{counts("GET", "90000+1000x65 0+1000x20"), failed("server", "80000x65 0x20"), failed("local", "0x90")},
	},
	{
		name: "little traffic, one bad", alert: "PoolstackErrorBudgetFastBurn", at: "70m", every: "1m",
		series: []string{counts("GET", "0+1x90"), failed("server", "0x68 1x20"), failed("local", "0x90")},
	},
	{
		// The first point of each series of uses is the only change. rate(x[1h]) would see no use, and
		// divide 40 by nothing.
		name: "series that begin", alert: "PoolstackErrorBudgetFastBurn", at: "70m", every: "1m",
		series: []string{
			counts("GET", "_x60 50000x30"), counts("SET", "_x62 50000x30"), counts("DEL", "_x64 50000x30"),
			failed("server", "0x65 40x30"), failed("local", "0x90"),
		},
	},
	{
		name: "nothing but failures, of kinds that begin", alert: "PoolstackErrorBudgetFastBurn", at: "10m", every: "1m",
		series: []string{counts("GET", "_x5 40x30"), failed("server", "0x5 40x30"), failed("local", "0x90")},
		fires: []firing{{
			labels: map[string]string{"window": "1h"},
			description: "100% of the uses of " + who + " failed in the last 1h by the server's fault or our own. The objective of 99.9 % allows 0.1 %: " +
				"the budget of 30 days burns at least 14.4 times too fast, which spends 2 % of it in 1h.",
		}, {
			labels: map[string]string{"window": "6h"},
			description: "100% of the uses of " + who + " failed in the last 6h by the server's fault or our own. The objective of 99.9 % allows 0.1 %: " +
				"the budget of 30 days burns at least 6 times too fast, which spends 5 % of it in 6h.",
		}},
	},
	{
		name: "0.4 % are bad for a day", alert: "PoolstackErrorBudgetSlowBurn", at: "24h", every: "5m",
		series: []string{counts("GET", "0+1000x400"), failed("server", "0+4x400"), failed("local", "0x400")},
		fires: []firing{{
			labels: map[string]string{"window": "1d"},
			description: "0.4% of the uses of " + who + " failed in the last 1d by the server's fault or our own. The objective of 99.9 % allows 0.1 %: " +
				"the budget of 30 days burns at least 3 times too fast, which spends 10 % of it in 1d.",
		}, {
			labels: map[string]string{"window": "3d"},
			description: "0.4% of the uses of " + who + " failed in the last 3d by the server's fault or our own. The objective of 99.9 % allows 0.1 %: " +
				"the budget of 30 days burns at least 1 times too fast, which spends 10 % of it in 3d.",
		}},
	},
	{
		name: "0.2 % are bad for three days", alert: "PoolstackErrorBudgetSlowBurn", at: "72h", every: "5m",
		series: []string{counts("GET", "0+1000x900"), failed("server", "0+2x900"), failed("local", "0x900")},
		fires: []firing{{
			labels: map[string]string{"window": "3d"},
			description: "0.2% of the uses of " + who + " failed in the last 3d by the server's fault or our own. The objective of 99.9 % allows 0.1 %: " +
				"the budget of 30 days burns at least 1 times too fast, which spends 10 % of it in 3d.",
		}},
	},
	{
		name: "0.05 % are bad for three days", alert: "PoolstackErrorBudgetSlowBurn", at: "72h", every: "5m",
		series: []string{counts("GET", "0+2000x900"), failed("server", "0+1x900"), failed("local", "0x900")},
	},
	{
		name: "a bad hour, long ago", alert: "PoolstackErrorBudgetSlowBurn", at: "24h", every: "5m",
		series: []string{counts("GET", "0+1000x400"), failed("server", "0x100 0+100x12 1200x300"), failed("local", "0x400")},
	},
	{
		name: "no traffic", alert: "PoolstackErrorBudgetSlowBurn", at: "24h", every: "5m",
		series: []string{counts("GET", "5000x400"), failed("server", "4000x400"), failed("local", "0x400")},
	},
	{
		name: "callers only", alert: "PoolstackErrorBudgetSlowBurn", at: "24h", every: "5m",
		series: []string{counts("GET", "0+1000x400"), failed("server", "0x400"), failed("local", "0x400"), failed("caller", "0+500x400")},
	},
}

// Each alert fires with the expected text when expected, and otherwise does not fire. The test uses
// the real promtool.
func TestAlerts(t *testing.T) {
	r := newRules(t, Config{})
	for _, a := range r.Alerts() {
		t.Run(a.Name, func(t *testing.T) {
			var fires, silent bool
			for i, s := range scenarios {
				if s.alert != a.Name {
					continue
				}
				fires = fires || len(s.fires) > 0
				silent = silent || len(s.fires) == 0
				t.Run(s.name, func(t *testing.T) {
					files := r.Files()
					files["test.yaml"] = []byte(s.unitTest(r, a))
					if out, err := promtool(t, write(t, files), "test", "rules", "test.yaml"); err != nil {
						t.Errorf("scenario %d: %v\n%s", i, err, out)
					}
				})
			}
			if !fires || !silent {
				t.Errorf("scenarios in which it fires: %v, in which it does not: %v; want both", fires, silent)
			}
		})
	}
}

func (s scenario) unitTest(r *Rules, a Alert) string {
	var b strings.Builder
	every := s.every
	if every == "" {
		every = "30s"
	}
	fmt.Fprintf(&b, "rule_files: [poolstack-recording.yaml, poolstack-alerts.yaml]\nevaluation_interval: %s\ntests:\n", every)
	fmt.Fprintf(&b, "  - interval: %s\n    input_series:\n", every)
	for _, line := range s.series {
		cut := strings.LastIndex(line, "} ") + 1
		fmt.Fprintf(&b, "      - series: '%s'\n        values: '%s'\n", line[:cut], line[cut+1:])
	}
	fmt.Fprintf(&b, "    alert_rule_test:\n      - eval_time: %s\n        alertname: %s\n        exp_alerts:\n", s.at, s.alert)
	for _, f := range s.fires {
		labels := map[string]string{"job": "shop", "instance": "h:1", "pool": "p", "severity": a.Severity}
		maps.Copy(labels, f.labels)
		for _, name := range f.without {
			delete(labels, name)
		}
		b.WriteString("          - exp_labels:\n")
		for name, value := range labels {
			fmt.Fprintf(&b, "              %s: %q\n", name, value)
		}
		fmt.Fprintf(&b, "            exp_annotations:\n              summary: %q\n              description: %q\n              runbook_url: %q\n",
			a.Summary, f.description, r.RunbookURL(a.Name))
	}
	return b.String()
}

func TestScenariosAreOfAlerts(t *testing.T) {
	alerts := newRules(t, Config{}).Alerts()
	for _, s := range scenarios {
		if !slices.ContainsFunc(alerts, func(a Alert) bool { return a.Name == s.alert }) {
			t.Errorf("%s: there is no alert %s", s.name, s.alert)
		}
	}
}

func TestCheckRules(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{Objective: 99.95, Runbooks: "https://wiki.example.com/pools?a=b&c=d", Labels: []string{"cluster", "job"}, For: time.Second, MinErrors: 1},
		{Labels: []string{}, BreakerFor: 90 * time.Second, KeepFiring: time.Hour},
	} {
		dir := write(t, newRules(t, cfg).Files())
		out, err := promtool(t, dir, "check", "rules", "--lint=all", "--lint-fatal", "poolstack-recording.yaml", "poolstack-alerts.yaml")
		if err != nil || !strings.Contains(out, "SUCCESS: 9 rules") || !strings.Contains(out, "SUCCESS: 15 rules") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
