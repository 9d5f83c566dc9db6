// Package rules generates Prometheus recording and alerting rules for the metrics of package
// middleware/metrics, and a runbook with a paragraph for each alert. The files in this directory
// come from the zero [Config]. Use these files, or generate your own:
//
//	go run github.com/earnorm/poolstack/telemetry/generate \
//		-objective 99.95 -runbooks https://wiki.example.com/poolstack -out DIR
//
// Prometheus's rule_files needs both YAML files, because the alerts use the recorded series:
//
//	poolstack-recording.yaml   the error budget of each pool
//	poolstack-alerts.yaml      the alerts
//	RUNBOOK.md                 for each alert: the meaning, where to look first, the settings
//
// The rules need Prometheus 2.42 or later (keep_firing_for). Comments tell the linter pint which
// check a rule fails on purpose. The comment above the rule says why.
//
// # Labels
//
// The rules aggregate by job, instance and pool. The label pool has the value of the metrics'
// db_client_connection_pool_name. Config.Labels replaces job and instance. With job alone, a single
// bad instance among many does not alert by itself.
//
// # The error budget
//
// A use of a pool is good if the use succeeded, or if its failure has the fault none, caller or
// elsewhere. The faults server and local spend the budget. A rejection by an open breaker has the
// fault server. A failure of another pool or of the caller's function has the fault elsewhere.
//
// The burn rate compares the ratio of bad uses with the ratio allowed by the objective. At a burn
// rate of 1 the budget lasts exactly 30 days. Each alert compares two windows. The long window
// contains enough uses for a decision. The short window ends the alert soon after the trouble has
// ended. The scheme and the figures are from "The Site Reliability Workbook" (Google, 2018),
// chapter 5, "Alerting on SLOs", the sixth approach. The second ticket, for three days, is an
// addition:
//
//	page     1h and 5m    14.4    2 % of the budget
//	page     6h and 30m    6      5 %
//	ticket   1d and 2h     3     10 %
//	ticket   3d and 6h     1     10 %
//
// Without traffic there is no ratio and no alert. For a pool with little traffic, Config.MinErrors
// sets the minimum number of bad uses.
//
// # Other back ends
//
// The rules need cumulative metrics and classic histogram buckets. The names must follow the
// translation strategy UnderscoreEscapingWithSuffixes. These sources satisfy both conditions:
// [github.com/earnorm/poolstack/telemetry.Setup], the OpenTelemetry Collector's Prometheus
// exporters, and by default Prometheus's OTLP receiver. For other back ends, change:
//
//   - Names without suffixes (translation_strategy UnderscoreEscapingWithoutSuffixes,
//     add_metric_suffixes: false): remove _total and _seconds from the metrics' names, and _ratio
//     from the threshold's name. Keep _bucket, _sum and _count. NoUTF8EscapingWithSuffixes and
//     NoTranslation keep the dots, and names are quoted: {"poolstack.timeouts_total",
//     "poolstack.stage"="acquire"}.
//   - Exponential histograms (native histograms in Prometheus, from
//     OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram):
//     there is no label le and no suffix. Replace histogram_quantile(0.99, sum by (job, instance,
//     le) (rate(x_bucket[5m]))) with histogram_quantile(0.99, sum by (job, instance)
//     (rate(x[5m]))). Replace x_count with histogram_count(x), and rate(x_count[5m]) with
//     histogram_count(rate(x[5m])).
//   - Delta temporality (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta): a sample of a
//     counter is already the increase, so rate and increase return wrong values. The better
//     solution is to convert the metrics to cumulative before storage, with the Collector's
//     deltatocumulative processor. If delta is stored, replace increase(x[5m]) with
//     sum_over_time(x[5m]), and rate(x[5m]) with sum_over_time(x[5m]) / 300. Remove the two
//     recorded sums, because a first use then counts by itself. Build the ratios from sum_over_time
//     of poolstack_failures_total and of the duration's _count.
//
// The dashboards of telemetry/dashboards need the same changes.
package rules
