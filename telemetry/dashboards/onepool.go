package dashboards

// onePool returns the dashboard of a single pool, summed over its instances.
func onePool(budget string) dashboard {
	return dashboard{
		file: "pool.json", uid: "poolstack-pool", title: "Pools: one pool", onePool: true,
		about: "One pool over its instances: rate, errors and duration of each operation; utilisation, saturation and errors of its " +
			"connections; what the layers do.",
		sections: []section{
			{"Rate, errors, duration of each operation", rates()},
			{"Utilisation, saturation, errors", connections()},
			{"Waits and leases", leases()},
			{"What the layers do", layers()},
			{"Connections come and go", churn()},
			{"Error budget, as the rules record it", []panel{burn(budget, "of this pool", 16), left(budget, 8)}},
		},
	}
}

// operation lists the labels of an operation: the name, the collection, and the query summary.
// Redis has the target in the summary.
const (
	operation       = `db.operation.name, db.collection.name, db.query.summary`
	operationLegend = "{{db_operation_name}} {{db_collection_name}} {{db_query_summary}}"
)

func rates() []panel {
	return []panel{
		{
			title: "Uses per second, by operation", unit: perSecond,
			about: "What the pool is used for. A new line, or one that has grown, since a release is the first suspect for all that is worse " +
				"than before. _OTHER: more operations than the metrics tell apart, see MaxOperations.",
			queries: []target{q(operationLegend, `sum by (`+operation+`) (rate(db.client.operation.duration_count{$sel}[$__rate_interval]))`)},
		},
		{
			title: "Failed uses, by error type", unit: perSecond, stack: true,
			about: "What uses fail with: the server's own code, or timeout, canceled, a layer's reason, _OTHER. Only one operation: its " +
				"statement or its data. All of them: the server. Exemplars of the durations beside lead to single failures.",
			queries: []target{q("{{error_type}} {{db_response_status_code}} {{db_operation_name}}",
				`sum by (error.type, db.response.status_code, db.operation.name) (
  rate(db.client.operation.duration_count{$sel, error.type!=""}[$__rate_interval])
)`)},
		},
		{
			title: "Failed uses, by whose fault", unit: perSecond, stack: true,
			about: "server and local spend the error budget. server: go to the server; what a breaker refused because of it is among these. local: " +
				"this process refused, see the rejections. caller: callers gave up, see their deadlines. none: the server is well and has answered. " +
				"elsewhere: another pool's failure or the function's own.",
			queries: []target{q("{{poolstack_fault}}", `sum by (poolstack.fault) (rate(poolstack.failures{$sel}[$__rate_interval]))`)},
		},
		{
			title: "Duration", unit: seconds, traces: byVariable,
			about: "Of the uses that succeeded, with waits, attempts and pauses. If p99 alone rises, look for waits and retries; if p50 does, the " +
				"server has become slower. Failures are apart, and what the pool or a layer refused is left out: refusals are fast, however ill the " +
				"server is. The dots are single uses; click on one to see its trace.",
			queries: append(quantiles("db.client.operation.duration", succeeded),
				q("failed, p99", quantile("99", "le", "db.client.operation.duration_bucket{"+failed+"}"))),
		},
		{
			title: "Duration of each operation, 99th percentile", unit: seconds, traces: byVariable,
			about: "Which operation is slow, of the uses that succeeded. One of them: an index, a large value, a lock. All of them: the server, the " +
				"network, or the pool's own waits.",
			queries: []target{q(operationLegend, quantile("99", operation+", le", "db.client.operation.duration_bucket{"+succeeded+"}"))},
		},
		{
			title: "Durations", kind: heatmap, unit: number, traces: byVariable,
			about: "How durations are spread, of the uses that succeeded. Two bands are two kinds of uses, such as hits and misses, or with and " +
				"without a wait: a quantile between them means nothing. Tune limits of time to what lies above the upper one.",
			queries: []target{q("{{le}}", `sum by (le) (increase(db.client.operation.duration_bucket{`+succeeded+`}[$__rate_interval]))`)},
		},
		{
			title: "What it talks to", kind: table, width: fullWidth,
			about: "The servers and namespaces that the instances of this pool use. More than one of them is a change that is under way, or a " +
				"mistake in a configuration.",
			queries: []target{q("", `count by ($each, db.system.name, db.namespace, server.address, server.port) (db.client.operation.duration_count{$sel})`)},
		},
	}
}

func connections() []panel {
	return []panel{
		{
			title: "Connections", unit: number, stack: true,
			about: "How many there are and what they do, below what is allowed. All used: MaxSize, or uses that are too long. Many being " +
				"opened: they are closed too soon, see below, or the server is slow to accept. Few of what is allowed, and waiters: they cannot be " +
				"opened.",
			queries: []target{
				q("{{db_client_connection_state}}", `sum by (db.client.connection.state) (db.client.connection.count{$sel})`),
				q("{{poolstack_state}}", `sum by (poolstack.state) (poolstack.connection.maintenance{$sel})`),
				limit("maximum", `sum(db.client.connection.max{$sel})`),
				limit("idle, at most", `sum(db.client.connection.idle.max{$sel})`),
				limit("idle, at least", `sum(db.client.connection.idle.min{$sel})`),
			},
		},
		{
			title: "Utilisation", unit: share, limits: []float64{0.9},
			about: "The part of its connections that each instance has lent. One instance apart from the others: its share of the load. Above " +
				"90 % for long: MaxSize, or shorter uses.",
			queries: []target{q("{{instance}}", `sum by (instance) (db.client.connection.count{$sel, db.client.connection.state="used"})
/ (sum by (instance) (db.client.connection.max{$sel}) > 0)`)},
		},
		{
			title: "Waiters", unit: number,
			about:   "Uses that wait for a connection at this moment, of each instance. Always some: the pool is the bottleneck; see the connections beside.",
			queries: []target{q("{{instance}}", `sum by (instance) (db.client.connection.pending_requests{$sel})`)},
		},
		{
			title: "Uses that had to wait", unit: share,
			about: "The part of the connections that were lent only after a wait. More than a few percent: MinIdle, if it comes with bursts; " +
				"else MaxSize.",
			queries: []target{q("waited", `sum(rate(poolstack.acquire.waits{$sel}[$__rate_interval]))
/ (sum(rate(db.client.connection.wait_time_count{$sel}[$__rate_interval])) > 0)`)},
		},
		{
			title: "Uses that got no connection in time", unit: perSecond,
			about: "Each is an error that a caller saw, or another attempt. Held too long: see the leases. Cannot be opened: see the opens that " +
				"failed. Neither: MaxSize.",
			queries: []target{q("{{instance}}", `sum by (instance) (rate(db.client.connection.timeouts{$sel}[$__rate_interval]))`)},
		},
		opensFailed(`sum by (instance, poolstack.reason) (rate(poolstack.open.failures{$sel}[$__rate_interval]))`,
			"{{poolstack_reason}} {{instance}}", 0),
	}
}

func leases() []panel {
	return []panel{
		{
			title: "Waits against the acquire timeout", unit: seconds, width: 6, traces: byVariable,
			about: "How long uses wait for a connection, below the dashed line of how long they may. Near it: MaxSize, or what makes uses long. " +
				"Those that were in vain are not here but among the timeouts.",
			queries: append(quantiles("db.client.connection.wait_time", "$sel"), limit("acquire timeout", `min(poolstack.acquire.timeout{$sel})`)),
		},
		{
			title: "How long connections are held", unit: seconds, width: 6, traces: byVariable,
			about: "From the grant to the release, without the wait. Longer than the server takes: something else is done with a lease in hand. " +
				"Times uses per second, this is how many connections are needed.",
			queries: quantiles("db.client.connection.use_time", "$sel"),
		},
		oldestLease(`max by (instance) (poolstack.lease.oldest{$sel})`, "{{instance}}", 6),
		leaked(`sum by (instance) (increase(poolstack.leaks{$sel}[$__rate_interval]))`, "{{instance}}", 6),
	}
}

func layers() []panel {
	return []panel{
		{
			title: "Breakers", kind: timeline,
			about: "The state of each instance's breaker. All red: the server. One red: that instance's way to it. Red and green in turn: see " +
				"the dashboard of the breakers.",
			queries: []target{q("{{instance}} {{poolstack_layer}}",
				`sum by (instance, poolstack.layer) (poolstack.breaker.state{$sel, poolstack.state="half-open"} `+
					`or 2 * poolstack.breaker.state{$sel, poolstack.state="open"})`)},
		},
		failureRatio("{{instance}} {{poolstack_layer}}", `max by (instance, poolstack.layer) (poolstack.breaker.failure_ratio{$sel})`, 0),
		rejected("{{poolstack_layer}} {{poolstack_reason}}",
			`sum by (poolstack.layer, poolstack.reason) (rate(poolstack.rejections{$sel}[$__rate_interval]))`, 0),
		retries("", `sum by (poolstack.reason) (rate(poolstack.retry.attempts{$sel}[$__rate_interval]))`,
			`sum by (poolstack.reason) (rate(poolstack.retry.give_ups{$sel}[$__rate_interval]))`, 0),
		{
			title: "Uses with several attempts, by outcome", unit: perSecond, stack: true,
			about: "Did retries help? success: a later attempt has answered the caller. Mostly failure: the attempts only add load, see the " +
				"budget and what the uses fail with. Mostly 4 or more: the pauses are too short for this server.",
			queries: []target{q("{{poolstack_attempts}} {{poolstack_outcome}}",
				`sum by (poolstack.attempts, poolstack.outcome) (rate(poolstack.retry.uses{$sel}[$__rate_interval]))`)},
		},
		retryBudget("{{instance}}", `min by (instance) (poolstack.retry.budget{$sel})`, 0),
		{
			title: "Timeouts, by what was cut short", unit: perSecond,
			about: "acquire: no connection in time, see the waits. attempt: the server took longer for one attempt than its Limit; if it is " +
				"healthy, the limit is too short. total: all attempts together took too long for the caller.",
			queries: []target{q("{{poolstack_stage}}", `sum by (poolstack.stage) (rate(poolstack.timeouts{$sel}[$__rate_interval]))`)},
		},
	}
}

func churn() []panel {
	return []panel{
		{
			title: "Connections closed, by reason", unit: perSecond, width: 6, stack: true,
			about: "lifetime, idle and shrunk are by configuration: if there are many, MaxLifetime or MaxIdleTime are too short. broken and " +
				"check_failed: the server or the network closes them; if it does so after some idle time, a MaxIdleTime below that. discarded: by " +
				"the borrower.",
			queries: []target{q("{{poolstack_reason}}", `sum by (poolstack.reason) (rate(poolstack.connection.closed{$sel}[$__rate_interval]))`)},
		},
		{
			title: "How long opening takes", unit: seconds, width: 6,
			about:   "Dialling, TLS and authentication. A use that finds no idle connection waits for this. If it is long, MinIdle keeps some ready.",
			queries: quantiles("db.client.connection.create_time", "$sel"),
		},
		{
			title: "Failed checks", unit: perSecond, width: 6,
			about: "Connections that were found dead before they were lent (check), or could not be cleaned for the next borrower (reset). They " +
				"cost no use, but time. Many: something between here and the server drops idle connections; KeepAlive or a shorter MaxIdleTime.",
			queries: []target{q("{{poolstack_reason}}", `sum by (poolstack.reason) (rate(poolstack.check.failures{$sel}[$__rate_interval]))`)},
		},
		{
			title: "Connections of subscriptions", unit: number, width: 6,
			about: "Redis subscriptions have connections beside the pool's. Many opened, while as many are open as before: subscriptions lose " +
				"their connections, and with each what is published until the next one is open.",
			queries: []target{
				q("open", `sum(poolstack.subscription.connections{$sel})`),
				q("opened", `sum(increase(poolstack.events{$sel, poolstack.event="subscription_opened"}[$__rate_interval]))`),
			},
		},
	}
}
