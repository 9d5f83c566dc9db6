// Package metrics is a layer that records OpenTelemetry metrics of a pool: the duration and the
// outcome of uses, the levels of the pool, and the events of the other layers. Put the layer
// outside of all other layers except tracing. Then the layer sees the same outcomes as the caller.
// Each measurement carries the span of its use, and an SDK makes exemplars from the span.
//
// Events are recorded at once, without an allocation. Levels are read at each collection, from the
// pool and from layers with levels ([pool.Leveler]), so a level is never out of date. The counters
// of outcomes known beforehand exist from the beginning, with value 0. When a pool is closed, its
// levels end. Its counters keep their values, and continue when a pool with the same name is made.
//
// Pools open at the same time have different names, as required by the conventions: if two pools
// have the name "cache", [pool.New] renames the second pool to "cache~2". So the metrics of two
// pools for the same server never add up, unless a query adds them.
//
// # Metrics
//
// The metrics named db.client.* follow the database conventions of OpenTelemetry (semantic
// conventions 1.43.0). All metrics have the attribute db.client.connection.pool.name, and the
// attributes after "by". In parentheses is the name in Prometheus:
//
//	db.client.operation.duration (db_client_operation_duration_seconds)
//		Histogram, s: Duration of database client operations.
//		by db.system.name, db.namespace, db.operation.name, db.collection.name, db.query.summary,
//		db.response.status_code, error.type, server.address, server.port
//	db.client.connection.count (db_client_connection_count)
//		UpDownCounter, {connection}: The number of connections that are currently in state
//		described by the `state` attribute.
//		by db.client.connection.state
//	db.client.connection.max (db_client_connection_max)
//		UpDownCounter, {connection}: The maximum number of open connections allowed.
//	db.client.connection.idle.max (db_client_connection_idle_max)
//		UpDownCounter, {connection}: The maximum number of idle open connections allowed.
//	db.client.connection.idle.min (db_client_connection_idle_min)
//		UpDownCounter, {connection}: The minimum number of idle open connections allowed.
//	db.client.connection.pending_requests (db_client_connection_pending_requests)
//		UpDownCounter, {request}: The number of current pending requests for an open connection.
//	db.client.connection.timeouts (db_client_connection_timeouts_total)
//		Counter, {timeout}: The number of connection timeouts that have occurred trying to obtain
//		a connection from the pool.
//	db.client.connection.create_time (db_client_connection_create_time_seconds)
//		Histogram, s: The time it took to create a new connection.
//	db.client.connection.wait_time (db_client_connection_wait_time_seconds)
//		Histogram, s: The time it took to obtain an open connection from the pool.
//	db.client.connection.use_time (db_client_connection_use_time_seconds)
//		Histogram, s: The time between borrowing a connection and returning it to the pool.
//	poolstack.failures (poolstack_failures_total)
//		Counter, {failure}: Failed uses, by whose fault the failure was. A use refused by a
//		breaker counts for the fault that opened the breaker.
//		by poolstack.fault
//	poolstack.retry.attempts (poolstack_retry_attempts_total)
//		Counter, {attempt}: Attempts after the first attempt of a use, by the error type of the
//		attempt before. Only attempts that reached the pool count.
//		by poolstack.reason
//	poolstack.retry.give_ups (poolstack_retry_give_ups_total)
//		Counter, {failure}: Failed uses without another attempt although the error allowed another
//		attempt, by the reason.
//		by poolstack.reason
//	poolstack.retry.uses (poolstack_retry_uses_total)
//		Counter, {use}: Uses with several attempts, by the number of attempts and by the outcome
//		of the use.
//		by poolstack.attempts, poolstack.outcome
//	poolstack.transitions (poolstack_transitions_total)
//		Counter, {transition}: Changes of a layer's state, such as the state of a circuit breaker,
//		by the rule that caused the change.
//		by poolstack.from, poolstack.to, poolstack.reason, poolstack.layer
//	poolstack.rejections (poolstack_rejections_total)
//		Counter, {rejection}: Uses, or attempts of uses, refused by the pool or by a layer before
//		anything was sent to the server.
//		by poolstack.layer, poolstack.reason
//	poolstack.events (poolstack_events_total)
//		Counter, {event}: Events without a metric of their own, such as warnings, changes of
//		settings, and the events of backends and other layers.
//		by poolstack.event, poolstack.layer, poolstack.reason
//	poolstack.timeouts (poolstack_timeouts_total)
//		Counter, {timeout}: Time limits exceeded, by stage. A use with several attempts may exceed
//		several limits.
//		by poolstack.stage
//	poolstack.acquire.waits (poolstack_acquire_waits_total)
//		Counter, {wait}: Leases that began with a wait for a connection.
//	poolstack.acquire.timeout (poolstack_acquire_timeout_seconds)
//		Gauge, s: Longest time that a use may wait for a connection. Absent if the pool has no
//		such limit.
//	poolstack.connection.maintenance (poolstack_connection_maintenance)
//		UpDownCounter, {connection}: Connections being opened, checked or closed. These
//		connections count towards the maximum.
//		by poolstack.state
//	poolstack.connection.closed (poolstack_connection_closed_total)
//		Counter, {connection}: Closed connections, by the reason.
//		by poolstack.reason
//	poolstack.open.failures (poolstack_open_failures_total)
//		Counter, {failure}: Connections that could not be opened, by error type. A failure counts
//		once, even if several uses wait for the connection.
//		by poolstack.reason
//	poolstack.check.failures (poolstack_check_failures_total)
//		Counter, {failure}: Connections that failed a check or a reset.
//		by poolstack.reason
//	poolstack.leaks (poolstack_leaks_total)
//		Counter, {lease}: Leases that lasted longer than the pool's limit for leaks.
//	poolstack.lease.oldest (poolstack_lease_oldest_seconds)
//		Gauge, s: Age of the oldest current lease. 0 if no connection is lent.
//	poolstack.retry.budget (poolstack_retry_budget)
//		Gauge, {attempt}: Number of further attempts that the retry budget can pay for. Absent if
//		retries have no budget.
//		by poolstack.layer
//	poolstack.breaker.state (poolstack_breaker_state)
//		Gauge, {breaker}: 1 for the current state of the circuit breaker, 0 for the other states.
//		by poolstack.layer, poolstack.state
//	poolstack.breaker.failure_ratio (poolstack_breaker_failure_ratio)
//		Gauge, 1: Share of failed calls in the circuit breaker's window. While the breaker is not
//		closed: the share with which the breaker opened.
//		by poolstack.layer
//	poolstack.breaker.slow_ratio (poolstack_breaker_slow_ratio)
//		Gauge, 1: Share of slow calls in the circuit breaker's window. Absent if no call is slow
//		by the settings.
//		by poolstack.layer
//	poolstack.breaker.admitted (poolstack_breaker_admitted_ratio)
//		Gauge, 1: Share of the uses that the circuit breaker lets pass: 1 when closed, 0 when
//		open, and between in a ramp-up. Absent when half-open.
//		by poolstack.layer
//	poolstack.breaker.threshold (poolstack_breaker_threshold_ratio)
//		Gauge, 1: Share of failed calls from which the circuit breaker opens. Absent if no share
//		opens the breaker.
//		by poolstack.layer
//	poolstack.subscription.connections (poolstack_subscription_connections)
//		Gauge, {connection}: Open connections of subscriptions. These connections are not part of
//		the pool. Reported for Redis only.
//		by poolstack.layer
//
// A layer of another package needs no entry in the list. Its rejections, retries, timeouts and
// changes of state are counted by the metrics above. Events of its own kinds are counted by
// poolstack.events. Each [pool.Level] is a gauge by poolstack.layer, named "poolstack.",
// Level.Layer, "." and Level.Name. The counters of the events in its [pool.LayerInfo] begin with 0.
//
// [Catalogue] returns the same list as values, with the buckets of the histograms. In Prometheus a
// histogram has three series: the name with _bucket, _sum and _count. Attributes become labels,
// with underscores for the dots. The names in Prometheus come from the exporters' default
// translation strategy, UnderscoreEscapingWithSuffixes.
//
// The duration is recorded once for each use, and includes waits, attempts and pauses. In a
// two-step use the duration is recorded when the lease is released. A miss counts as a success. The
// duration has db.query.summary and finer buckets for Redis, and db.collection.name for all other
// systems. server.port is left out if the port is the system's default. db.response.status_code and
// error.type are present on failure. After retries, error.type describes the last attempt.
//
// # Attributes
//
// The attributes added by the library are:
//
//	poolstack.fault
//		The values of driver.Fault: none (the server answered with an error), server, caller,
//		local (this process refused the use), elsewhere (the error says nothing about the
//		server: an error of another pool, or the function's own error). A refusal by a breaker
//		has the fault of the failure that opened the breaker: server. The number of such
//		refusals is in poolstack.rejections.
//	poolstack.reason
//		connection.closed: the name of a pool.CloseReason.
//		check.failures: check, reset.
//		open.failures: error.type, such as connection_refused, timeout, dns, tls, the server's
//		code, or open_failed.
//		retry.attempts: error.type of the attempt before.
//		retry.give_ups: attempts, budget, deadline, canceled, refused (by a layer inside, such
//		as the breaker).
//		rejections: the reason of the refusal: the error.type of the refusal for the layers of
//		this module.
//		transitions: the rule; of a breaker, a Reason of package breaker.
//		events: Event.Reason. A warning has none, because its reason is a sentence.
//	poolstack.layer
//		The source of the event or the level: pool, the name of a layer, or the kind of a layer
//		without a name, such as breaker, timeout.total or timeout.attempt.
//	poolstack.event
//		Event.Kind: warning, configured, paused, resumed, cleared, or a kind of a backend or of
//		another layer.
//	poolstack.key
//		Level.Key, if a layer has several levels with one name.
//	poolstack.attempts
//		2, 3, 4, more
//	poolstack.outcome
//		success, failure; a miss is a success
//	poolstack.stage
//		acquire (the wait for a connection), attempt, total
//	poolstack.state
//		breaker.state: closed, open, half-open. The state of another layer: one of Level.States.
//		connection.maintenance: opening, checking, closing.
//	poolstack.from, poolstack.to
//		closed, open, half-open, or the states of another layer
//
// All attributes have bounded sets of values. Up to Config.MaxOperations operations of a pool are
// told apart, and up to 30 ways to fail of each operation. Further values are added up as _OTHER.
// The first time, the pool reports a [pool.EventWarning], and the logging layer writes the warning.
// The counters of a pool have up to 500 series. Attributes never hold keys, values, statements or
// error texts.
package metrics
