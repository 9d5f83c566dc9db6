// Package rules makes Prometheus' recording and alerting rules for the metrics of package middleware/metrics, and a runbook with a
// paragraph for each alert. The files beside this one are what the zero [Config] gives; take them as they are, or make your own:
//
//	go run github.com/earnorm/poolstack/telemetry/generate -objective 99.95 -runbooks https://wiki.example.com/poolstack -out DIR
//
// Two files are for Prometheus' rule_files, both of them together, since the alerts need what the other records:
//
//	poolstack-recording.yaml   the error budget of each pool
//	poolstack-alerts.yaml      the alerts
//	RUNBOOK.md                 what each alert means, where to look first, what to change
//
// They need Prometheus 2.42 or later (keep_firing_for).
//
// # Labels
//
// Everything is told apart by job, instance and pool, the last being what the metrics call db_client_connection_pool_name. Config.Labels
// puts other labels in the place of job and instance: with job alone, one sick instance among many no longer alerts by itself.
//
// # The error budget
//
// A use of a pool is good when it succeeded, or when its failure is nobody's or the caller's fault; the faults server and local spend
// the budget. What a breaker refuses is laid at the server that opened it; what another pool met, or the function itself (elsewhere), is not
// this pool's to spend for. The burn rate is how many times faster than the objective allows that happens: at 1 the budget lasts its 30 days.
// Alerts compare two windows each, a long one so that there is enough to tell, and a short one so that the alert ends when the trouble
// does. The scheme and its figures are those of "The Site Reliability Workbook" (Google, 2018), chapter 5, "Alerting on SLOs", its
// sixth approach, with a second ticket for three days:
//
//	page     1h and 5m    14.4    2 % of the budget
//	page     6h and 30m    6      5 %
//	ticket   1d and 2h     3     10 %
//	ticket   3d and 6h     1     10 %
//
// Where there is no traffic there is no ratio, and no alert; see Config.MinErrors for where there is little.
//
// # Other back ends
//
// The rules are for cumulative metrics with classic buckets, under the names of the translation strategy UnderscoreEscapingWithSuffixes:
// what [github.com/earnorm/poolstack/telemetry.Setup] serves, what the OpenTelemetry Collector's Prometheus exporters make, and what
// Prometheus' own OTLP receiver stores by default. Elsewhere, change:
//
//   - Names without suffixes (translation_strategy UnderscoreEscapingWithoutSuffixes, add_metric_suffixes: false): take _total
//     and _seconds off the metrics' names, and _ratio off the threshold's; _bucket, _sum and _count stay. With NoUTF8EscapingWithSuffixes and
//     NoTranslation the dots stay, and names are quoted: {"poolstack.timeouts_total", "poolstack.stage"="acquire"}.
//   - Exponential histograms (OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram; native
//     histograms in Prometheus): there is no le and no suffix. histogram_quantile(0.99, sum by (job, instance, le) (rate(x_bucket[5m])))
//     becomes histogram_quantile(0.99, sum by (job, instance) (rate(x[5m]))), x_count becomes histogram_count(x), and
//     rate(x_count[5m]) becomes histogram_count(rate(x[5m])).
//   - Delta temporality (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta): a counter's value is the increase itself, and rate and
//     increase show nonsense. Better have it made cumulative on its way (the Collector's deltatocumulative processor). Where it is stored as
//     delta, increase(x[5m]) becomes sum_over_time(x[5m]), and rate(x[5m]) that divided by 300. The two recorded sums go: a first use
//     counts by itself then, and the ratios are those of sum_over_time of poolstack_failures_total and the duration's _count.
//
// The same changes apply to the dashboards of telemetry/dashboards.
package rules
