// Package dashboards makes Grafana dashboards of the metrics of package middleware/metrics. The files beside this one are what the zero
// [Config] gives; import them as they are, or let Grafana's provisioning read the directory:
//
//	overview.json   all pools: what users see, error budgets, saturation, what the layers do
//	pool.json       one pool, over all its instances: each operation, connections, waits, layers, churn
//	breakers.json   all circuit breakers, and what they decide by
//
// They are for Grafana 11 and 12. What each panel shows, and what to do about it, is in its description. Variables choose the data
// sources, the job, the instance and the pool. The panels of the error budget show what the rules of package rules record.
//
// # From a metric to a trace
//
// Panels of durations ask for exemplars, the dots on the graph. What a click on one opens is set in the Prometheus data source
// (exemplarTraceIdDestinations, with the label trace_id); the links of these panels search the pool's traces in Tempo and in Jaeger, in
// the data sources that the variables tempo and jaeger name. In Jaeger, the job has to be the service's name.
//
// # Other back ends
//
// What has to be changed for names without suffixes, exponential (native) histograms and delta temporality is the same as in the rules:
// see the documentation of package rules. With native histograms the panel "Durations" becomes sum(rate(x[$__rate_interval])), without le.
package dashboards
