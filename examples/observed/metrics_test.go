package observed

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/middleware/metrics"
)

// ours matches all names of metrics which may be the library's.
const ours = `{__name__=~"(db|poolstack)_.+"}`

// bounded matches label values with a bounded set of values: words, codes of servers, and the
// addresses of servers.
var bounded = regexp.MustCompile(`^([a-zA-Z_.-]+|[0-9]+|_OTHER|[0-9.]+:[0-9]+)$`)

// unseen are attributes which the demo need not show, because its servers do not answer with
// errors.
var unseen = []string{"db.response.status_code"}

// slowRatio is absent in the demo, because its breakers have no SlowCall.
const slowRatio = "poolstack.breaker.slow_ratio"

// checkCatalogue compares the metrics and metadata in Prometheus with the catalogue. No other
// metric exists. If everything is true, no metric of the catalogue is missing.
func checkCatalogue(t *testing.T, p *prometheus, notes *notebook, everything bool) {
	all, err := p.series(ours)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string][]labels{}
	for _, l := range all {
		byName[l["__name__"]] = append(byName[l["__name__"]], l)
	}
	for _, spec := range metrics.Catalogue() {
		family := translate(spec)
		if (!everything || spec.Name == slowRatio) && len(byName[family.series[0]]) == 0 {
			continue
		}
		if want := (metadata{Type: family.kind, Help: spec.Description}); !maps.Equal(notes.of(family.name), map[metadata]bool{want: true}) {
			t.Errorf("%s is announced as %v, want %v", family.name, notes.of(family.name), want)
		}
		for _, name := range family.series {
			if len(byName[name]) == 0 {
				t.Errorf("there is no %s", name)
			}
			checkLabels(t, spec, name, byName[name], everything)
			delete(byName, name)
		}
	}
	for name := range byName {
		t.Errorf("%s is not in the catalogue", name)
	}
}

// A promFamily is a metric in Prometheus.
type promFamily struct {
	name, kind string
	series     []string
}

// translate implements the rules of UnderscoreEscapingWithSuffixes, as far as the catalogue needs
// them.
func translate(spec metrics.Instrument) promFamily {
	f := promFamily{name: strings.ReplaceAll(spec.Name, ".", "_"), kind: "gauge"}
	switch {
	case spec.Unit == "s":
		f.name += "_seconds"
	case spec.Unit == "1" && !strings.HasSuffix(f.name, "_ratio"):
		f.name += "_ratio"
	}
	f.series = []string{f.name}
	switch spec.Kind {
	case metrics.Counter:
		f.kind, f.series = "counter", []string{f.name + "_total"}
	case metrics.Histogram:
		f.kind, f.series = "histogram", []string{f.name + "_bucket", f.name + "_sum", f.name + "_count"}
	case metrics.UpDownCounter, metrics.Gauge:
	}
	return f
}

// checkLabels checks the labels of all series of a metric, and the bounds of its buckets. If
// everything is true, all labels of the catalogue must occur.
func checkLabels(t *testing.T, spec metrics.Instrument, name string, series []labels, everything bool) {
	t.Helper()
	// The keys are the allowed labels, and the values are their attributes.
	allowed := map[string]string{"__name__": "", "job": "", "instance": ""}
	buckets := strings.HasSuffix(name, "_bucket")
	if buckets {
		allowed["le"] = ""
	}
	for _, attribute := range spec.Attributes {
		allowed[strings.ReplaceAll(attribute, ".", "_")] = attribute
	}
	seen, stray := map[string]bool{}, map[string]bool{}
	bounds := map[string]map[float64]bool{} // by pool
	for _, l := range series {
		pool := l["db_client_connection_pool_name"]
		if pool != "redis" && pool != "mongodb" {
			t.Errorf("%s is of the pool %q", name, pool)
		}
		for label, value := range l {
			attribute, ok := allowed[label]
			if !ok {
				stray[label] = true
			}
			seen[attribute] = true
			if strings.HasPrefix(label, "poolstack_") && !bounded.MatchString(value) {
				t.Errorf("%s has %s=%q", name, label, value)
			}
		}
		if buckets {
			if bounds[pool] == nil {
				bounds[pool] = map[float64]bool{}
			}
			bound, err := strconv.ParseFloat(l["le"], 64)
			if err != nil {
				t.Errorf("%s has a bucket %q", name, l["le"])
			}
			bounds[pool][bound] = true
		}
	}
	if len(stray) > 0 {
		t.Errorf("%s has labels that are not in the catalogue: %v", name, slices.Sorted(maps.Keys(stray)))
	}
	for _, attribute := range spec.Attributes {
		if everything && !seen[attribute] && !slices.Contains(unseen, attribute) {
			t.Errorf("no %s has a label for %s", name, attribute)
		}
	}
	for pool, got := range bounds {
		want := spec.Buckets
		if pool == "redis" && spec.RedisBuckets != nil {
			want = spec.RedisBuckets
		}
		// The last bound is infinity.
		if sorted := slices.Sorted(maps.Keys(got)); !slices.Equal(sorted[:len(sorted)-1], want) {
			t.Errorf("%s of %s has the buckets %v, want %v", name, pool, sorted, want)
		}
	}
}
