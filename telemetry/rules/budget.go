package rules

import (
	"fmt"
	"strconv"
	"strings"
)

// The names of the recorded series.
const (
	usesSum   = "pool:poolstack_uses:sum"
	errorsSum = "pool:poolstack_errors:sum"
	ratio     = "pool:poolstack_errors_per_use:ratio_rate" // followed by the window
)

// windows are the windows of the recorded ratio of bad uses.
var windows = []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"}

// burns are the alerts of the error budget. An alert needs a burn rate above rate in both the long
// and the short window.
var burns = []struct {
	severity, long, short string
	rate                  float64
	spent                 string // part of the 30-day budget spent in the long window
}{
	{page, "1h", "5m", 14.4, "2 %"},
	{page, "6h", "30m", 6, "5 %"},
	{ticket, "1d", "2h", 3, "10 %"},
	{ticket, "3d", "6h", 1, "10 %"},
}

// recording is a rule for a recorded series.
type recording struct {
	Record, Expr, Why string
	Pint              string // the check of the linter pint that the rule fails on purpose, see Why
}

func (q query) recordings() []recording {
	rules := []recording{
		{usesSum, q.expr(`
			sum by ($process, pool) ($pool(db.client.operation.duration_count{db.client.connection.pool.name!=""}))
			or
			0 * sum by ($process, pool) ($pool(poolstack.failures))`),
			"All uses of a pool. Each operation and each kind of error is a series of its own that begins with its first use, of which rate\n" +
				"and increase see nothing, as they need two points. Their sum goes on where one begins; and it begins at 0 itself, for\n" +
				"poolstack_failures_total is there before anything has happened. A sum before the rate is right here, being within one process,\n" +
				"whose series are reset together. Others' operations without a pool's name are left out.", "promql/counter"},
		{errorsSum, q.expr(`
			sum by ($process, pool) ($pool(poolstack.failures{poolstack.fault=~"server|local"}))`),
			"The bad ones among them, recorded at the same moments, and summed before the rate for the same reason.", "promql/counter"},
	}
	for _, w := range windows {
		why := "Without traffic the divisor is 0 and the whole is left out: no division by zero, no alert. The rates are of sums, see above."
		if w != windows[0] {
			why = ""
		}
		rules = append(rules, recording{ratio + w, q.expr(strings.ReplaceAll(`
			sum by ($labels, pool) (rate(`+errorsSum+`[$w]))
			/
			(sum by ($labels, pool) (rate(`+usesSum+`[$w])) > 0)`, "$w", w)), why, "promql/rate"})
	}
	return rules
}

func (q query) budgetAlerts() []Alert {
	fast := Alert{
		Name: "PoolstackErrorBudgetFastBurn", Severity: page,
		Summary: "The uses of a pool fail so often that its error budget will not last",
		Meaning: "So many uses of the pool fail, by the server's fault or this process's own, that a good part of the error budget of 30 " +
			"days is gone within hours: 2 % in an hour, or 5 % in six. It ends when the last five minutes, or half an hour, are good again.",
		Look: `In "Failed uses, by whose fault" of the overview: the fault server is the server's or the network's, with what ` +
			`a breaker refused because of it; local is that this process refused (pool full, no time left). "Opens that failed" says why ` +
			`connections cannot be opened. Then "Failed uses, by error type" of the ` +
			`pool, and what its exemplars lead to.`,
		Trace: `{ span.db.client.connection.pool.name = "POOL" && status = error }`,
		Change: "Repair the server if it is its fault. If it is local, find which layer refuses in \"Rejections\": for a full pool " +
			"pool.Config.MaxSize, for attempts that are cut short timeout.Config.Limit. If the server is well and the breaker opens too soon " +
			"(\"Transitions\" of the breakers), breaker.Config.FailureRatio and breaker.Config.MinCalls.",
	}
	slow := Alert{
		Name: "PoolstackErrorBudgetSlowBurn", Severity: ticket,
		Summary: "The uses of a pool fail a little too often for its objective",
		Meaning: "Nobody need get up, but at this rate the error budget of 30 days is spent before they are over: 10 % of it went in a day, " +
			"or in three.",
		Look: `In "Error budget left" of the overview since when, and in "Failed uses, by error type" of the pool which error it is. A ` +
			`single operation: "Uses per second, by operation" and the errors' operation.`,
		Trace: `{ span.db.client.connection.pool.name = "POOL" && status = error }`,
		Change: "What the error says. If the failures pass by themselves within moments, retry.Config.MaxAttempts and Op.Idempotent, so that " +
			"callers do not see them; if the objective is not what users need, the rules' Objective.",
	}
	budget := strconv.FormatFloat(q.cfg.Budget(), 'g', -1, 64)
	for _, b := range burns {
		rate := strconv.FormatFloat(b.rate, 'g', -1, 64)
		c := condition{
			Window: b.long,
			Expr: q.expr(fmt.Sprintf(`
				%[1]s%[2]s > %[4]s * %[5]s
				and
				%[1]s%[3]s > %[4]s * %[5]s
				and
				sum by ($labels, pool) (increase(%[6]s[%[2]s])) >= %[7]d`, ratio, b.long, b.short, rate, budget, errorsSum, q.cfg.MinErrors)),
			Why: fmt.Sprintf("%s times what the objective of %v %% allows, over %s and still over %s. No traffic, no ratio, no alert.",
				rate, q.cfg.Objective, b.long, b.short),
			KeepFiring: q.cfg.KeepFiring,
			Description: fmt.Sprintf("{{ $value | humanizePercentage }} of the uses of %s failed in the last %s by the server's fault or our own. "+
				"The objective of %v %% allows %v %%: the budget of 30 days burns at least %s times too fast, which spends %s of it in %s.",
				q.who, b.long, q.cfg.Objective, trim(q.cfg.Budget()*100), rate, b.spent, b.long),
		}
		if b.severity == page {
			fast.conditions = append(fast.conditions, c)
		} else {
			slow.conditions = append(slow.conditions, c)
		}
	}
	return []Alert{fast, slow}
}

// trim formats f with 6 significant digits.
func trim(f float64) string { return strconv.FormatFloat(f, 'g', 6, 64) }
