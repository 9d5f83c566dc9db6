package telemetry

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A rule describes the allowed values of a variable.
type rule struct {
	allowed string
	ok      func(value string) bool
}

var (
	boolean  = oneOf("true", "false")
	limit    = rule{"a whole number, or -1 for no limit", atLeast(-1)}
	duration = rule{"milliseconds, 1 or more", atLeast(1)}
	timeout  = rule{"milliseconds, or 0 for no limit", atLeast(0)}
	size     = rule{"a whole number, 1 or more", atLeast(1)}
	protocol = oneOf(protocolGRPC, protocolHTTP)
	// compression is case-sensitive, as in the exporters. The exporters treat "GZIP" as none.
	compression = rule{"gzip or none", func(v string) bool { return v == "gzip" || v == "none" }}
)

// rules holds the variables with a rule of their own. A rule applies even if the configured
// exporter is off. Lists of exporters, endpoints, headers, certificates and resource attributes
// need further checks: see env.go.
var rules = map[string]rule{
	"OTEL_SDK_DISABLED": boolean,

	"OTEL_TRACES_SAMPLER": oneOf("always_on", "always_off", "traceidratio",
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
	"OTEL_BSP_SCHEDULE_DELAY":        duration, // 0 makes the SDK's batch processor spin
	"OTEL_BSP_EXPORT_TIMEOUT":        timeout,
	"OTEL_BSP_MAX_QUEUE_SIZE":        size, // a negative value makes the batch processor panic
	"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": size,

	"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT":      limit,
	"OTEL_ATTRIBUTE_COUNT_LIMIT":             limit,
	"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": limit,
	"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT":        limit,
	"OTEL_SPAN_EVENT_COUNT_LIMIT":            limit,
	"OTEL_SPAN_LINK_COUNT_LIMIT":             limit,
	"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT":       limit,
	"OTEL_LINK_ATTRIBUTE_COUNT_LIMIT":        limit,

	"OTEL_METRIC_EXPORT_INTERVAL":  duration,
	"OTEL_METRIC_EXPORT_TIMEOUT":   duration, // the SDK has no "no limit" here
	"OTEL_METRICS_EXEMPLAR_FILTER": oneOf("trace_based", "always_on", "always_off"),

	"OTEL_EXPORTER_OTLP_PROTOCOL":            protocol,
	"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL":     protocol,
	"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL":    protocol,
	"OTEL_EXPORTER_OTLP_INSECURE":            boolean,
	"OTEL_EXPORTER_OTLP_TRACES_INSECURE":     boolean,
	"OTEL_EXPORTER_OTLP_METRICS_INSECURE":    boolean,
	"OTEL_EXPORTER_OTLP_COMPRESSION":         compression,
	"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION":  compression,
	"OTEL_EXPORTER_OTLP_METRICS_COMPRESSION": compression,
	"OTEL_EXPORTER_OTLP_TIMEOUT":             timeout,
	"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT":      timeout,
	"OTEL_EXPORTER_OTLP_METRICS_TIMEOUT":     timeout,

	"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE":        oneOf("cumulative", "delta", "lowmemory"),
	"OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": oneOf("explicit_bucket_histogram", "base2_exponential_bucket_histogram"),
}

// checkedNames returns the sorted names of the variables with a rule. The order makes the errors
// deterministic.
func checkedNames() []string {
	names := make([]string, 0, len(rules))
	for name := range rules {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// check returns nil if the variable is unset or valid. Otherwise the error names the variable, the
// value and the allowed values. The rule sees surrounding white space, because some readers in the
// SDK trim white space and others do not.
func check(name string) error {
	r := rules[name]
	if get(name) == "" || r.ok(os.Getenv(name)) {
		return nil
	}
	return fmt.Errorf("telemetry: %s is %q: must be %s", name, os.Getenv(name), r.allowed)
}

// oneOf ignores case, as the specification and the SDK do, and ignores surrounding white space.
func oneOf(values ...string) rule {
	last := len(values) - 1
	return rule{strings.Join(values[:last], ", ") + " or " + values[last], func(v string) bool {
		return slices.Contains(values, strings.ToLower(strings.TrimSpace(v)))
	}}
}

func atLeast(least int) func(string) bool {
	return func(v string) bool {
		n, err := strconv.Atoi(v)
		return err == nil && n >= least
	}
}
