// Package dashboards generates Grafana dashboards for the metrics of package middleware/metrics.
// The files in this directory come from the zero [Config]. Import the files, or let Grafana's
// provisioning read the directory:
//
//	overview.json   all pools: users' view, error budgets, saturation, layers
//	pool.json       a single pool over all instances: operations, connections, waits, layers, churn
//	breakers.json   all circuit breakers, and the inputs of their decisions
//
// The dashboards are for Grafana 11 and 12. The description of a panel explains the panel and the
// recommended action. Variables select the data sources, the job, the instance and the pool. The
// panels of the error budget show the series recorded by package rules.
//
// # From a metric to a trace
//
// Panels of durations request exemplars, which are the dots on the graph. A click on an exemplar
// opens the destination configured in the Prometheus data source (exemplarTraceIdDestinations, with
// the label trace_id). The links of these panels search the pool's traces in Tempo and in Jaeger.
// The variables tempo and jaeger select the data sources. For Jaeger, the job must equal the
// service's name.
//
// # Other back ends
//
// Names without suffixes, exponential (native) histograms and delta temporality need the same
// changes as the rules: see the documentation of package rules. With native histograms, the query
// of the panel "Durations" becomes sum(rate(x[$__rate_interval])), without le.
package dashboards
