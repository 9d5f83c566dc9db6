// Package promql translates queries from OpenTelemetry names to Prometheus names. The names come
// from the catalogue of middleware/metrics. A query cannot use a metric or an attribute outside the
// catalogue.
package promql

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/earnorm/poolstack/middleware/metrics"
)

// dotted matches an OpenTelemetry name. PromQL has no dots between letters, so no other text
// matches.
var dotted = regexp.MustCompile(`\b[a-z]+(?:\.[a-z_]+)+`)

// names maps OpenTelemetry names to Prometheus names: metrics, histograms with each suffix, and
// attributes.
var names = func() map[string]string {
	all := map[string]string{}
	for _, i := range metrics.Catalogue() {
		all[i.Name] = i.PrometheusName()
		if i.Kind == metrics.Histogram {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				all[i.Name+suffix] = i.PrometheusName() + suffix
			}
		}
		for _, a := range i.Attributes {
			all[a] = Label(a)
		}
	}
	return all
}()

// Label returns the Prometheus label of the attribute.
func Label(attribute string) string { return strings.ReplaceAll(attribute, ".", "_") }

// Translate replaces the OpenTelemetry names in query with Prometheus names. It panics on a name
// outside the catalogue, because queries are constants of this module.
func Translate(query string) string {
	return dotted.ReplaceAllStringFunc(query, func(name string) string {
		known, ok := names[name]
		if !ok {
			panic(fmt.Sprintf("neither a metric nor an attribute of the catalogue: %s in %s", name, query))
		}
		return known
	})
}
