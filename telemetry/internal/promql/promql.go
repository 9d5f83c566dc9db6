// Package promql turns queries that are written in OpenTelemetry's names into Prometheus'. The names come from the catalogue of
// middleware/metrics: a metric or an attribute that is not in it cannot be asked for.
package promql

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/earnorm/poolstack/middleware/metrics"
)

// dotted is a name of OpenTelemetry's. PromQL itself has no dots between letters, so nothing else looks like one.
var dotted = regexp.MustCompile(`\b[a-z]+(?:\.[a-z_]+)+`)

// names are the metrics, those of a histogram with each of its suffixes, and the attributes.
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

// Label returns the label that Prometheus has for the attribute.
func Label(attribute string) string { return strings.ReplaceAll(attribute, ".", "_") }

// Translate puts Prometheus' names in the place of OpenTelemetry's. It panics at one that is not in the catalogue, since queries are
// constants of this module.
func Translate(query string) string {
	return dotted.ReplaceAllStringFunc(query, func(name string) string {
		known, ok := names[name]
		if !ok {
			panic(fmt.Sprintf("neither a metric nor an attribute of the catalogue: %s in %s", name, query))
		}
		return known
	})
}
