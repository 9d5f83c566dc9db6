package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/earnorm/poolstack/telemetry/internal/promql"
)

// The severities.
const (
	page   = "page"   // act now
	ticket = "ticket" // act within days
)

// Alert describes an alert and the alert's paragraph in the runbook.
type Alert struct {
	Name     string
	Severity string // page or ticket
	Summary  string
	// Meaning, Look and Change are texts of the runbook: the cause of the alert, where to look first,
	// and which settings to change. Trace is a TraceQL query for affected uses, with POOL in place of
	// the pool's name. Trace is empty if traces do not help.
	Meaning, Look, Trace, Change string

	conditions []condition // a rule for each
}

type condition struct {
	Expr, Why       string
	For, KeepFiring time.Duration
	Window          string // a label, to distinguish rules of the same alert
	Description     string
}

// query builds PromQL expressions.
type query struct {
	cfg Config
	who string // the pool in a description
}

func newQuery(cfg Config) query {
	q := query{cfg: cfg, who: "the pool {{ $labels.pool }}"}
	for i, l := range cfg.Labels {
		q.who += map[bool]string{true: " (", false: ", "}[i == 0] + l + " {{ $labels." + l + " }}"
	}
	if len(cfg.Labels) > 0 {
		q.who += ")"
	}
	return q
}

// placed begins a macro in an expression. $pool(x) adds the short label pool to x.
const placed = "$pool("

// expr translates an expression to PromQL. In the expression, $labels are the configured labels.
// $process are the configured labels plus job and instance, so they distinguish processes. $job are
// the configured labels without instance.
func (q query) expr(text string) string {
	process := slices.Clone(q.cfg.Labels)
	for _, l := range []string{"job", "instance"} {
		if !slices.Contains(process, l) {
			process = append(process, l)
		}
	}
	text = dedent(text)
	for from := strings.LastIndex(text, placed); from >= 0; from = strings.LastIndex(text, placed) {
		inner, rest := balanced(text[from+len(placed):])
		text = text[:from] + `label_replace(` + inner + `, "pool", "$1", "db.client.connection.pool.name", "(.+)")` + rest
	}
	by := func(text, name string, labels []string) string {
		if len(labels) == 0 {
			text = strings.ReplaceAll(text, name+", ", "")
		}
		return strings.ReplaceAll(text, name, strings.Join(labels, ", "))
	}
	text = by(text, "$labels", q.cfg.Labels)
	text = by(text, "$process", process)
	text = by(text, "$job", slices.DeleteFunc(slices.Clone(q.cfg.Labels), func(l string) bool { return l == "instance" }))
	return promql.Translate(text)
}

// balanced splits s at the parenthesis that closes a parenthesis opened before s.
func balanced(s string) (inner, rest string) {
	depth := 1
	for i, r := range s {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth == 0 {
			return s[:i], s[i+1:]
		}
	}
	panic("rules: unbalanced: " + s)
}

// dedent removes the empty first line and the indentation of the second line from all lines.
func dedent(text string) string {
	text = strings.Trim(text, "\n")
	tabs := text[:len(text)-len(strings.TrimLeft(text, "\t"))]
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSuffix(strings.ReplaceAll(strings.TrimPrefix(l, tabs), "\t", "  "), " ")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func (q query) alerts() []Alert {
	return slices.Concat(q.saturation(), q.utilisation(), q.resilience(), q.leases(), q.absence(), q.budgetAlerts())
}

// oursOnly restricts an expression to the pools of this library. Other instrumentation also reports
// db.client.* metrics.
const oursOnly = `
				and on ($labels, pool)
				group by ($labels, pool) ($pool(poolstack.lease.oldest))`

func (q query) saturation() []Alert {
	return []Alert{
		{
			Name: "PoolstackWaiters", Severity: ticket, Summary: "Borrowers have to wait for a pool's resources",
			Meaning: "At every look for some time there were uses that waited for a resource. The pool is the bottleneck: latency contains " +
				"waiting.",
			Look: `"Connections" of the pool: are all of them used, or are they being opened? If used, "How long connections are held": has the ` +
				`server become slower, or are there more uses? If few are used, "Opens that failed".`,
			Trace: `{ span.db.client.connection.pool.name = "POOL" } >> { name = "acquire" }`,
			Change: "If the server has capacity left, pool.Config.MaxSize; if opening lags behind, pool.Config.MinIdle and " +
				"pool.Config.OpenConcurrency. If the server is what is slow, more connections make it slower: find the operation. " +
				"pool.Config.MaxWaiters bounds the queue.",
			conditions: []condition{{
				Expr: q.expr(`
				sum by ($labels, pool) ($pool(db.client.connection.pending_requests)) > 0` + oursOnly),
				Why: "A gauge, so that a short queue between two scrapes is not seen, and one that is seen once has ended before `for` is over.\n" +
					"Others report db.client.* too; only pools of this library have poolstack_lease_oldest_seconds.",
				For:         q.cfg.For,
				Description: "{{ $value }} uses are waiting for a resource of " + q.who + "; at each look for " + short(q.cfg.For) + " there were some.",
			}},
		},
		{
			Name: "PoolstackWaitNearTimeout", Severity: ticket, Summary: "Waits for a pool's resources come close to the acquire timeout",
			Meaning: "One use in a hundred waits for more than 80 % of what the pool allows. Soon they will time out.",
			Look:    `"Waits against the acquire timeout" and "Connections" of the pool; then as for PoolstackWaiters.`,
			Trace:   `{ span.db.client.connection.pool.name = "POOL" } >> { name = "acquire" && duration > 1s }`,
			Change: "As for PoolstackWaiters: pool.Config.MaxSize, or what makes uses slow. A longer pool.Config.AcquireTimeout only hides it; " +
				"a shorter one, or pool.Config.MaxWaiters, refuses early what would have come too late.",
			conditions: []condition{{
				Expr: q.expr(`
				histogram_quantile(0.99, sum by ($labels, pool, le) ($pool(rate(db.client.connection.wait_time_bucket[5m]))))
				> 0.8 *
				min by ($labels, pool) ($pool(poolstack.acquire.timeout))`),
				Why: "Without borrowers the quantile is NaN, which is not greater than anything. A pool without a bound has no acquire timeout, and no\n" +
					"such alert. Waits that timed out are not in the histogram: PoolstackAcquireTimeouts counts them.",
				For: q.cfg.For,
				Description: "The 99th percentile of the waits for a resource of " + q.who + " is {{ $value | humanizeDuration }}, " +
					"more than 80 % of the acquire timeout.",
			}},
		},
		{
			Name: "PoolstackAcquireTimeouts", Severity: page, Summary: "Uses fail because they get no resource in time",
			Meaning: "Again and again uses wait for as long as the pool allows and get nothing. Callers see errors.",
			Look: `"Timeouts, by what was cut short" and "Connections" of the pool. All used and "Oldest lease" growing: somebody does not give ` +
				`back. None used and "Opens that failed" rising: the server cannot be reached. All used and coming back: too small or too slow.`,
			Trace: `{ span.db.client.connection.pool.name = "POOL" && status = error } >> { name = "acquire" && status = error }`,
			Change: "pool.Config.MaxSize if the server can take more; pool.Config.LeakAfter to be told who holds leases; " +
				"breaker.Config.FailureRatio or breaker.Config.ConsecutiveFailures, so that a server that is away is refused at once and not " +
				"waited for; timeout.Config.Limit of attempts, so that slow ones end.",
			conditions: []condition{{
				Expr: q.expr(`
				sum by ($labels, pool) ($pool(increase(poolstack.timeouts{poolstack.stage="acquire"}[5m]))) > 0`),
				Why: "The counter is there from the first scrape, at 0, so that the first timeout is an increase; what happened before that scrape is\n" +
					"not seen. A single timeout is seen for less than the 5 minutes of the range: it takes more of them to last as long as `for`.",
				For: q.cfg.For,
				Description: "In 5 minutes {{ printf \"%.0f\" $value }} uses of " + q.who + " got no resource in time, " +
					"and it has gone on for " + short(q.cfg.For) + ".",
			}},
		},
	}
}

func (q query) utilisation() []Alert {
	return []Alert{
		{
			Name: "PoolstackUtilisationHigh", Severity: ticket, Summary: "A pool is nearly used up",
			Meaning: "More than 90 % of the connections that the pool may have are lent, and it stays so. A little more load, or a little " +
				"slower server, and uses wait.",
			Look: `"Utilisation" over a week: is it growth, a peak of the day, or a step since a release? Then "How long connections are held".`,
			Change: "pool.Config.MaxSize, if the server's own limit of connections, divided by the instances, allows it. Else more instances, " +
				"or shorter uses: do not hold a lease while doing something else.",
			conditions: []condition{{
				Expr: q.expr(`
				sum by ($labels, pool) ($pool(db.client.connection.count{db.client.connection.state="used"}))
				/
				(sum by ($labels, pool) ($pool(db.client.connection.max)) > 0)
				> 0.9` + oursOnly),
				Why:         "A pool that has been closed has no maximum any more, and is left out. Only pools of this library, as above.",
				For:         q.cfg.For,
				Description: "{{ $value | humanizePercentage }} of the connections of " + q.who + " are in use, for " + short(q.cfg.For) + " by now.",
			}},
		},
	}
}

func (q query) resilience() []Alert {
	return []Alert{
		{
			Name: "PoolstackBreakerOpen", Severity: page, Summary: "A circuit breaker is open",
			Meaning: "So many attempts failed by the server's fault that the breaker refuses further ones; now and then it lets a probe " +
				"through, and none has succeeded yet. Uses of this pool fail at once, and the server is left alone.",
			Look: `"Breakers" for which pools and instances: one instance is its network, all of them are the server. "Failed uses, by error ` +
				`type" of the pool for what the server answered before the breaker opened; the log's line of ` +
				`its change to open has the cause.`,
			Trace: `{ span.db.client.connection.pool.name = "POOL" && event:name = "poolstack.state_changed" }`,
			Change: "Nothing at first: repair the server, and the breaker closes by itself within breaker.Config.OpenMax. If the server is well " +
				"and probes fail, breaker.Config.ProbeTimeout and timeout.Config.Limit of attempts are too short for it.",
			conditions: []condition{{
				Expr: q.expr(`
				max by ($labels, pool) ($pool(poolstack.breaker.state{poolstack.state!="closed"})) > 0`),
				Why: "Half-open counts too: with a server that is down the breaker goes between the two, and a scrape sees either. Openings that\n" +
					"are over before a scrape sees them are PoolstackBreakerFlapping's.",
				For: q.cfg.BreakerFor, KeepFiring: q.cfg.KeepFiring,
				Description: "The circuit breaker of " + q.who + " has been open or half-open at each look for " + short(q.cfg.BreakerFor) + ".",
			}},
		},
		{
			Name: "PoolstackBreakerFlapping", Severity: ticket, Summary: "A circuit breaker opens again and again",
			Meaning: "The breaker opened at least three times in a quarter of an hour, and closed in between. The server is neither well nor " +
				"down, or the breaker is too nervous. Each opening refuses uses that might have succeeded.",
			Look: `"Failure ratio against the threshold" of the breakers: does it leap over it, or scrape along it? "Attempts per second": a ` +
				`ratio of few says little. "Transitions": by which rule it opens.`,
			Trace: `{ span.db.client.connection.pool.name = "POOL" && event:name = "poolstack.state_changed" }`,
			Change: "breaker.Config.MinCalls and breaker.Config.Window up, if few calls decide; breaker.Config.ConsecutiveFailures up, if a " +
				"short burst does; breaker.Config.ProbeSuccesses up, if it closes too soon; breaker.Config.FailureRatio, if some failures are " +
				"normal for this server.",
			conditions: []condition{{
				Expr: q.expr(`
				sum by ($labels, pool) ($pool(increase(poolstack.transitions{poolstack.from="closed", poolstack.to="open"}[15m]))) >= 3`),
				Why: "The counter sees what is over before a scrape could see the state. Only openings of a closed breaker: in one long outage\n" +
					"probes fail many times, but it opens once. The counter begins at 0 with the pool.",
				KeepFiring:  q.cfg.KeepFiring,
				Description: "The circuit breaker of " + q.who + " opened {{ printf \"%.0f\" $value }} times in 15 minutes.",
			}},
		},
		{
			Name: "PoolstackRetryBudgetExhausted", Severity: ticket, Summary: "The retry budget of a pool is used up",
			Meaning: "So many attempts fail that successes no longer pay for further ones: uses are given up that another attempt might have " +
				"saved. That is what the budget is for; without it a sick server would get several times its load.",
			Look: `"Retries and give-ups" and "Retry budget" of the pool, and "Failed uses, by error type" for what fails. If the breaker is ` +
				`closed all the while, the failures are too few for it and too many for the budget.`,
			Trace: `{ span.db.client.connection.pool.name = "POOL" && event:name = "poolstack.gave_up" }`,
			Change: "What fails. If it is short peaks, retry.Config.BudgetBurst; if the server can take more, retry.Config.Budget; if retries " +
				"hardly ever help, retry.Config.MaxAttempts down.",
			conditions: []condition{{
				Expr: q.expr(`
				sum by ($labels, pool) ($pool(increase(poolstack.retry.give_ups{poolstack.reason="budget"}[5m]))) > 0
				or
				sum by ($labels, pool) ($pool(increase(poolstack.retry.give_ups{poolstack.reason="budget"}[5m])))
				and
				min by ($labels, pool) ($pool(poolstack.retry.budget)) < 1`),
				Why: "What was given up for want of budget, or a budget without a whole token: a gauge alone misses what comes back between two\n" +
					"scrapes, a counter alone that nothing has asked yet. Both have the number of uses that were given up as their value.",
				For: q.cfg.For,
				Description: "The retry budget of " + q.who + " has been empty for " + short(q.cfg.For) + ": {{ printf \"%.0f\" $value }} uses were given up " +
					"for want of it in the last 5 minutes.",
			}},
		},
	}
}

func (q query) leases() []Alert {
	return []Alert{
		{
			Name: "PoolstackLeasesLeaked", Severity: ticket, Summary: "Leases were not given back in time",
			Meaning: "Leases were out for longer than pool.Config.LeakAfter. Somebody forgot to release one, or does so much with it.",
			Look: `The log: the logging layer's line that a lease is out for too long has the borrower's stack. "Leases reported as leaked" and ` +
				`"Oldest lease" of the pool, since which release.`,
			Trace: `{ span.db.client.connection.pool.name = "POOL" && duration > 1m }`,
			Change: "The code that the stack shows: Release in a defer, or Do in the place of Acquire. If such long uses are meant, a pool of " +
				"their own, or a longer pool.Config.LeakAfter.",
			conditions: []condition{{
				Expr: q.expr(`
				sum by ($labels, pool) ($pool(increase(poolstack.leaks[15m]))) > 0`),
				Why:         "The counter begins at 0 with the pool, so that the first leak is an increase. A lease is counted once.",
				Description: "{{ printf \"%.0f\" $value }} leases of " + q.who + " were reported as leaked in 15 minutes.",
			}},
		},
		{
			Name: "PoolstackLeaseOld", Severity: ticket, Summary: "A lease has been out for very long",
			Meaning: "One and the same resource has been lent for longer than anything should take. Either it was forgotten, and the pool is " +
				"smaller by it until the process ends, or somebody uses a pool for a subscription, a change stream or a cursor that stays open.",
			Look:  `"Oldest lease" of the pool: does it grow without end? Since when?`,
			Trace: `{ span.db.client.connection.pool.name = "POOL" && duration > 10m }`,
			Change: "pool.Config.LeakAfter, to be told the borrower's stack. For uses that are meant to last, a pool of their own; or the " +
				"rules' LeaseAge.",
			conditions: []condition{{
				Expr: q.expr(fmt.Sprintf(`
				max by ($labels, pool) ($pool(poolstack.lease.oldest)) > %d`, int(q.cfg.LeaseAge.Seconds()))),
				Why:         "For pools without pool.Config.LeakAfter, which is off by default: their leaks are not counted.",
				For:         q.cfg.For,
				Description: "A lease of " + q.who + " has been out for {{ $value | humanizeDuration }}.",
			}},
		},
	}
}

func (q query) absence() []Alert {
	scraped, all := newQuery(q.cfg), newQuery(q.cfg)
	scraped.who = "A target with pools (job {{ $labels.job }}, instance {{ $labels.instance }})"
	all.who = "the pool {{ $labels.pool }}"
	if slices.Contains(q.cfg.Labels, "job") {
		all.who += " of job {{ $labels.job }}"
	}
	return []Alert{
		{
			Name: "PoolstackTargetDown", Severity: ticket, Summary: "A process with pools does not answer scrapes",
			Meaning: "Prometheus cannot scrape a process that had pools within the last hour. It has crashed, hangs, or its metrics cannot be " +
				"reached; of its pools nothing is known, and no other alert speaks of them.",
			Look:   "The process itself: is it there, what was its last log line? Prometheus' page of targets has the scrape's error.",
			Change: "Nothing here. What is scaled down for good leaves service discovery, and with it this alert.",
			conditions: []condition{{
				Expr: q.expr(`
				max by (job, instance) (
				  up == 0
				  and on (job, instance)
				  present_over_time(poolstack.failures[1h])
				)`),
				Why: "A series that has ended has no value to compare: up is what remains of a target. present_over_time tells targets with pools from\n" +
					"others. What is sent through a collector has no up of its own: see PoolstackAbsent.",
				For:         q.cfg.AbsentFor,
				Description: scraped.who + " has not answered a scrape for " + short(q.cfg.AbsentFor) + ".",
			}},
		},
		{
			Name: "PoolstackAbsent", Severity: page, Summary: "Nothing reports of a pool any more",
			Meaning: "No process of the job reports of this pool, where there was one within the last hour: all have crashed, or the way of the " +
				"metrics is interrupted (the collector, the scrape). It ends by itself after an hour, when nothing is left to compare with.",
			Look: "Are the processes running? If so, the collector's own metrics and log, and Prometheus' page of targets.",
			Change: "Nothing here. If the job or the pool was removed on purpose, silence it for an hour; for jobs that run now and then, " +
				"always.",
			conditions: []condition{{
				Expr: q.expr(`
				group by ($job, pool) ($pool(present_over_time(poolstack.failures[1h])))
				unless
				group by ($job, pool) ($pool(poolstack.failures))`),
				Why: "Without the instance, or each release would alert for those that it replaces. By a counter, which goes on when a pool is closed on\n" +
					"purpose, unlike the gauges: what ends it is the end of the process or of its reports. (A collector goes on telling the last\n" +
					"values until its metric_expiration, 5 minutes by default.)",
				For:         q.cfg.AbsentFor,
				Description: "Nothing has reported of " + all.who + " for " + short(q.cfg.AbsentFor) + ", though it was there within the last hour.",
			}},
		},
	}
}

// short formats whole seconds in Prometheus's notation, such as 1h30m.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
