package dashboards

// breakers returns the dashboard of all pools' breakers, by instance, and of the breakers' inputs.
func breakers() dashboard {
	return dashboard{
		file: "breakers.json", uid: "poolstack-breakers", title: "Pools: breakers",
		about: "The circuit breakers of all pools: their states, what they decide by, what they refuse, and what retries make of it.",
		sections: []section{
			{"States", []panel{
				{
					title: "Breakers", kind: timeline, width: fullWidth,
					about: "Each breaker's state. All of a pool's red: its server. One red: that instance's way to it. Red and green in turn: the " +
						"server is neither well nor down, or the breaker is too nervous; compare with the failure ratio below. A scrape does not see " +
						"what is shorter than its interval; the transitions do.",
					queries: []target{q(eachBreaker,
						`sum by ($each, poolstack.layer) (poolstack.breaker.state{$sel, poolstack.state="half-open"} `+
							`or 2 * poolstack.breaker.state{$sel, poolstack.state="open"})`)},
				},
				{
					title: "Transitions", unit: number, stack: true, width: 12,
					about: "Changes of state, as they were counted, and the rule of each. closed to open by failure_ratio, several times: MinCalls, " +
						"Window or FailureRatio up, or it is a real fault that comes and goes; by consecutive_failures: ConsecutiveFailures up. " +
						"half-open to open: probes fail, the server is still ill; by probe_timeout: ProbeTimeout is too short for it.",
					queries: []target{q("{{poolstack_from}} to {{poolstack_to}} {{poolstack_reason}} {{db_client_connection_pool_name}} {{poolstack_layer}}",
						`sum by ($pools, poolstack.layer, poolstack.from, poolstack.to, poolstack.reason) (`+
							`increase(poolstack.transitions{$sel}[$__rate_interval]))`)},
				},
				{
					title: "Time not closed", kind: bars, unit: share, width: 12, limits: []float64{0.01},
					about: "The part of the time shown in which each breaker was open or half-open, as far as scrapes saw it: the part of the time in " +
						"which the pool was of no use. Long periods after short faults: OpenMax down.",
					queries: []target{q(eachBreaker,
						`sum by ($each, poolstack.layer) (avg_over_time(poolstack.breaker.state{$sel, poolstack.state!="closed"}[$__range]))`)},
				},
			}},
			{"Slow calls and ramp-ups", slowCalls()},
			{"What they decide by", []panel{
				failureRatio(eachBreaker, `max by ($each, poolstack.layer) (poolstack.breaker.failure_ratio{$sel})`, 12),
				{
					title: "Attempts per second", unit: perSecond, width: 6,
					about: "Attempts that got a connection, which are what the breaker judges. Few in its Window: single failures decide, and " +
						"MinCalls or ConsecutiveFailures are what to set.",
					queries: []target{q(eachPool, `sum by ($pools) (rate(db.client.connection.use_time_count{$sel}[$__rate_interval]))`)},
				},
				{
					title: "Failed uses by the server's fault", unit: perSecond, width: 6,
					about: "What the breaker counts as failures, as far as retries could not help, and what it refused because of them. If it is not " +
						"zero and the breaker stays closed, FailureRatio or MinCalls are too high for what you would have it do.",
					queries: []target{q(eachPool, `sum by ($pools) (rate(poolstack.failures{$sel, poolstack.fault="server"}[$__rate_interval]))`)},
				},
			}},
			{"What comes of it", []panel{
				{
					title: "Refused by the breaker", unit: perSecond,
					about: "Attempts that did not reach the server. breaker_half_open: more came than Probes lets through. They fail at once: callers " +
						"need a fallback, or the server needs repair.",
					queries: []target{q("{{poolstack_reason}} {{db_client_connection_pool_name}}",
						`sum by ($pools, poolstack.reason) (rate(poolstack.rejections{$sel, poolstack.reason=~"breaker_.+"}[$__rate_interval]))`)},
				},
				{
					title: "Uses that end with a refusal", unit: share,
					about: "The part of the uses that callers saw refused. Compare with the bad uses of the overview: what is bad beyond this reached " +
						"the server.",
					queries: []target{q(eachPool, `sum by ($pools) (rate(db.client.operation.duration_count{$sel, error.type=~"breaker_.+"}[$__rate_interval]))
/ (sum by ($pools) (rate(db.client.operation.duration_count{$sel}[$__rate_interval])) > 0)`)},
				},
				retries(" {{db_client_connection_pool_name}}", `sum by ($pools, poolstack.reason) (rate(poolstack.retry.attempts{$sel}[$__rate_interval]))`,
					`sum by ($pools, poolstack.reason) (rate(poolstack.retry.give_ups{$sel}[$__rate_interval]))`, 0),
				retryBudget(eachInstance, `min by ($each) (poolstack.retry.budget{$sel})`, 0),
			}},
		},
	}
}

func failureRatio(legend, expr string, width int) panel {
	return panel{
		title: "Failure ratio against the threshold", unit: share, width: width,
		about: "The part of the calls in a breaker's window that failed, below the dashed line from which on it opens; while it is not " +
			"closed, what it opened with. Scraping along the line: FailureRatio is too near to what is normal here. Opened far below it: by " +
			"ConsecutiveFailures.",
		queries: []target{q(legend, expr), limit("threshold", `min(poolstack.breaker.threshold{$sel})`)},
	}
}

func retries(suffix, attempts, giveUps string, width int) panel {
	return panel{
		title: "Retries and give-ups", unit: perSecond, width: width,
		about: "Further attempts, by what the one before failed with; and uses that were given up though another attempt might have helped: " +
			"attempts (MaxAttempts), budget (too many fail), deadline (no time left), canceled (the caller left), refused (the breaker is " +
			"open). Retries without fewer failures are mere load.",
		queries: []target{q("again: {{poolstack_reason}}"+suffix, attempts), q("given up: {{poolstack_reason}}"+suffix, giveUps)},
	}
}

func retryBudget(legend, expr string, width int) panel {
	return panel{
		title: "Retry budget", unit: number, width: width,
		about: "How many retries could be paid for now. At 0 failures are no longer repeated. Falling: more retries than half the " +
			"successes (Budget). If short peaks empty it, BudgetBurst up.",
		queries: []target{q(legend, expr)},
	}
}

// slowCalls returns the panels about settings that are off by default.
func slowCalls() []panel {
	return []panel{
		{
			title: "Slow calls", unit: share, width: 12,
			about: "The share of slow calls in each breaker's window, where SlowCall is set. At SlowRatio the breaker opens. Near it for " +
				"long: the server is slower than its callers can use, or SlowCall is below what the operations need.",
			queries: []target{q(eachBreaker, `max by ($each, poolstack.layer) (poolstack.breaker.slow_ratio{$sel})`)},
		},
		{
			title: "Admitted uses", unit: share, width: 12,
			about: "The share of the uses that each breaker lets pass: 1 when closed, 0 when open, and between in a ramp-up (RampUp). A gap: " +
				"half-open, where single probes pass.",
			queries: []target{q(eachBreaker, `min by ($each, poolstack.layer) (poolstack.breaker.admitted{$sel})`)},
		},
	}
}
