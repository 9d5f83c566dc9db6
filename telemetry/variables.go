package telemetry

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A rule is what a variable may be.
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
	// compression is compared as the exporters do: they take "GZIP" for none.
	compression = rule{"gzip or none", func(v string) bool { return v == "gzip" || v == "none" }}
)

// rules has the variables that are checked for themselves, whether or not what they configure is on. Lists of exporters, endpoints,
// headers, certificates and resource attributes take more than that: see env.go.
var rules = map[string]rule{
	"OTEL_SDK_DISABLED": boolean,

	"OTEL_TRACES_SAMPLER": oneOf("always_on", "always_off", "traceidratio",
		"parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
	"OTEL_BSP_SCHEDULE_DELAY":        duration, // 0 makes the SDK's batch processor spin
	"OTEL_BSP_EXPORT_TIMEOUT":        timeout,
	"OTEL_BSP_MAX_QUEUE_SIZE":        size, // a negative one makes it panic
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
	"OTEL_METRIC_EXPORT_TIMEOUT":   duration, // the SDK knows no "no limit" here
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

// checkedNames returns the variables that have a rule, sorted, so that errors come in the same order every time.
func checkedNames() []string {
	names := make([]string, 0, len(rules))
	for name := range rules {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// check returns an error that names the variable, its value and what is allowed; nil if it is unset or obeys its rule.
// White space around a value is kept in view: some readers in the SDK trim it, others do not.
func check(name string) error {
	r := rules[name]
	if get(name) == "" || r.ok(os.Getenv(name)) {
		return nil
	}
	return fmt.Errorf("telemetry: %s is %q: must be %s", name, os.Getenv(name), r.allowed)
}

// oneOf compares without regard to case, as the specification and the SDK do, and to white space around the value.
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
