package dashboards

// overview returns the dashboard of all pools, each summed over its instances.
func overview(budget string) dashboard {
	return dashboard{
		file: "overview.json", uid: "poolstack-overview", title: "Pools: overview",
		about: "All pools: what users see of them, what is left of their error budgets, how full they are, and what the layers do.",
		sections: []section{
			{"What users see", userView(budget)},
			{"Error budgets, as the rules record them", []panel{burn(budget, "by the job and the pool", 16), left(budget, 8)}},
			{"How full the pools are", fullness()},
			{"What the layers do", layersAtWork()},
		},
	}
}

func userView(budget string) []panel {
	return []panel{
		{
			title: "Uses per second", unit: perSecond, width: 6,
			about: "How many uses each pool has. If one falls to nothing while others go on, its callers have stopped, or fail before they get " +
				"here: look at the services. A step up explains what follows below it.",
			queries: []target{q(eachPool, `sum by ($pools) (rate(db.client.operation.duration_count{$sel}[$__rate_interval]))`)},
		},
		{
			title: "Bad uses", unit: share, width: 6,
			about: "The part of the uses that failed by the server's fault or our own, which is what spends the error budget. Above the dashed " +
				"line it spends faster than the objective allows. Look whose fault it is, in the panel to the right.",
			queries: []target{
				q(eachPool, `sum by ($pools) (rate(poolstack.failures{$sel, poolstack.fault=~"server|local"}[$__rate_interval]))
/ (sum by ($pools) (rate(db.client.operation.duration_count{$sel}[$__rate_interval])) > 0)`),
				limit("allowed", `vector(`+budget+`)`),
			},
		},
		{
			title: "Failed uses, by whose fault", unit: perSecond, width: 6, stack: true,
			about: "server: the server's or the network's, go there; what a breaker refuses because of them is among them. local: this process " +
				"refused, look at the rejections below and at how full the pool is. caller: callers gave up, look at their deadlines and at " +
				"durations. none: the server answered, as with a duplicate key: nothing is wrong with pools. elsewhere: another pool's failure " +
				"or the function's own, which says nothing of this server.",
			queries: []target{q("{{poolstack_fault}} {{db_client_connection_pool_name}}",
				`sum by ($pools, poolstack.fault) (rate(poolstack.failures{$sel}[$__rate_interval]))`)},
		},
		{
			title: "Duration, 99th percentile", unit: seconds, width: 6, traces: bySeries,
			about: "What the slowest of a hundred uses that succeeded takes, waits and retries included. If it rises, open the pool's dashboard: is " +
				"it the wait, or the use itself? A line that ends while there are uses: none succeeds. The dots are single uses; click on one to see " +
				"its trace.",
			queries: []target{q(eachPool, quantile("99", "$pools, le", "db.client.operation.duration_bucket{"+succeeded+"}"))},
		},
	}
}

func fullness() []panel {
	return []panel{
		{
			title: "Utilisation", unit: share, width: 6, limits: []float64{0.9},
			about: "The part of its connections that the fullest instance of each pool has lent. Above 90 % for long: raise MaxSize if the " +
				"server has room, or make uses shorter. Open the pool's dashboard to see which.",
			queries: []target{q(eachPool, `max by ($pools) (
  sum by ($each) (db.client.connection.count{$sel, db.client.connection.state="used"})
  / (sum by ($each) (db.client.connection.max{$sel}) > 0)
)`)},
		},
		{
			title: "Waiters", unit: number, width: 6,
			about: "Uses that wait for a connection at this moment. Now and then a few are harmless; always some means that the pool is the " +
				"bottleneck. Look at the utilisation: if it is low, connections cannot be opened.",
			queries: []target{q(eachPool, `sum by ($pools) (db.client.connection.pending_requests{$sel})`)},
		},
		{
			title: "Waits, as a part of the acquire timeout", unit: share, width: 6, limits: []float64{0.8},
			about: "The 99th percentile of waits, of the most that the pool allows. Near 100 % uses begin to time out: act as for waiters, " +
				"before that.",
			queries: []target{q(eachPool, quantile("99", "$pools, le", "db.client.connection.wait_time_bucket{$sel}")+`
/ min by ($pools) (poolstack.acquire.timeout{$sel})`)},
		},
		oldestLease(`max by ($pools) (poolstack.lease.oldest{$sel})`, eachPool, 6),
	}
}

func layersAtWork() []panel {
	return []panel{
		{
			title: "Breakers", kind: timeline, width: 12,
			about: "The worst state that a pool's breakers were in, over its instances. Red: the server is refused. See the dashboard of the " +
				"breakers for which instances, and repair the server; a breaker closes by itself.",
			queries: []target{q(eachPool, `max by ($pools) (
  sum by ($each, poolstack.layer) (poolstack.breaker.state{$sel, poolstack.state="half-open"} `+
				`or 2 * poolstack.breaker.state{$sel, poolstack.state="open"})
)`)},
		},
		rejected("{{poolstack_layer}} {{poolstack_reason}} {{db_client_connection_pool_name}}",
			`sum by ($pools, poolstack.layer, poolstack.reason) (rate(poolstack.rejections{$sel}[$__rate_interval])) > 0`, 12),
		{
			title: "Retries", unit: perSecond, width: 6,
			about: "Attempts beyond the first. Some are the point of the layer. Many, for long, are load that the server could do without: look " +
				"for what fails, in the pool's dashboard.",
			queries: []target{q(eachPool, `sum by ($pools) (rate(poolstack.retry.attempts{$sel}[$__rate_interval]))`)},
		},
		{
			title: "Timeouts", unit: perSecond, width: 6,
			about: "Limits of time that were hit. Which one decides where to look: open the pool's dashboard.",
			queries: []target{q("{{poolstack_stage}} {{db_client_connection_pool_name}}",
				`sum by ($pools, poolstack.stage) (rate(poolstack.timeouts{$sel}[$__rate_interval]))`)},
		},
		opensFailed(`sum by ($pools, poolstack.reason) (rate(poolstack.open.failures{$sel}[$__rate_interval]))`,
			"{{poolstack_reason}} {{db_client_connection_pool_name}}", 6),
		leaked(`sum by ($pools) (increase(poolstack.leaks{$sel}[$__rate_interval]))`, eachPool, 6),
		{
			title: "Warnings, changes and other events", unit: number, stack: true, width: fullWidth,
			about: "What the pools and layers report beside failures. warning: settings that work against each other; the log has the sentence. " +
				"configured: new settings; compare with what follows. cleared, paused and primary_changed: connections were closed on purpose.",
			queries: []target{q("{{poolstack_event}} {{poolstack_layer}} {{db_client_connection_pool_name}}",
				`sum by ($pools, poolstack.layer, poolstack.event) (`+
					`increase(poolstack.events{$sel, poolstack.event!~"(socket|subscription)_.+"}[$__rate_interval])) > 0`)},
		},
	}
}

// The panels used in several dashboards.

func burn(budget, how string, width int) panel {
	by := func(window string) string {
		return `max by (job, pool) (pool:poolstack_errors_per_use:ratio_rate` + window + `{$recorded}) / ` + budget
	}
	return panel{
		title: "Burn rate of the error budget", unit: number, width: width, limits: []float64{14.4},
		about: "How many times faster than the objective allows bad uses come, " + how + ", at the worst instance. At 1 the budget lasts its 30 days. " +
			"A page at 14.4 over 1h or 6 over 6h, a ticket at 3 over 1d or 1 over 3d. If the long windows burn and the short ones do not, it is over.",
		queries: []target{
			q("1h {{job}} {{pool}}", by("1h")), q("6h {{job}} {{pool}}", by("6h")), q("1d {{job}} {{pool}}", by("1d")), q("3d {{job}} {{pool}}", by("3d")),
		},
	}
}

func left(budget string, width int) panel {
	return panel{
		title: "Error budget left", kind: bars, unit: share, width: width,
		about: "What is left of 30 days' error budget. Little: no risks now, such as larger releases or lower limits. Less than nothing: the " +
			"objective is missed; decide whether the service has to become better or the objective is wrong. Much, always: the objective could " +
			"be higher.",
		queries: []target{q("{{job}} {{pool}}", `1 - (
  sum by (job, pool) (increase(pool:poolstack_errors:sum{$recorded}[30d]))
  / (sum by (job, pool) (increase(pool:poolstack_uses:sum{$recorded}[30d])) > 0)
) / `+budget)},
	}
}

func oldestLease(expr, legend string, width int) panel {
	return panel{
		title: "Oldest lease", unit: seconds, width: width,
		about: "How long the longest of the present leases has lasted. A line that climbs without end is a lease that somebody forgot, or a " +
			"subscription: set LeakAfter to be told the borrower's stack, and give subscriptions a pool of their own.",
		queries: []target{q(legend, expr)},
	}
}

func leaked(expr, legend string, width int) panel {
	return panel{
		title: "Leases reported as leaked", unit: number, width: width,
		about: "Leases that were out for longer than LeakAfter; always 0 while that is off. For each there is a line in the log, with the " +
			"borrower's stack: release there, in a defer.",
		queries: []target{q(legend, expr)},
	}
}

func opensFailed(expr, legend string, width int) panel {
	return panel{
		title: "Opens that failed", unit: perSecond, width: width,
		about: "Connections that could not be opened, by why. connection_refused: nobody listens there. timeout: no answer, or OpenTimeout is " +
			"too short. dns, tls: the name, the certificates. The server's own code: its limit of connections, wrong credentials. The pool " +
			"tries again by itself; the error is in the log.",
		queries: []target{q(legend, expr)},
	}
}

func rejected(legend, expr string, width int) panel {
	return panel{
		title: "Rejections", unit: perSecond, width: width,
		about: "Uses, or attempts, that were refused before they reached the server, by whom and why. breaker: repair the server. " +
			"pool_exhausted: MaxSize or MaxWaiters are too small, or uses too long. pool_paused, pool_closed: somebody did that. timeout_begin: " +
			"callers come with too little time left.",
		queries: []target{q(legend, expr)},
	}
}
