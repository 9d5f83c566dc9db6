package main

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/pool"
)

// The names of the subjects.
const (
	untold    = "without telemetry"
	noop      = "no-op providers"
	unsampled = "metrics, parent unsampled, span skipped"
	notSkip   = "metrics, parent unsampled, span not skipped"
	onePer100 = "sampled at 1 %"
	sampled   = "sampled"
)

// telemetryVariant is a configuration of the standard stack's telemetry.
type telemetryVariant struct {
	name    string
	options func(p *providers) middleware.Options
	every   int                                  // every n-th request is sampled; 0: none
	around  func(p *providers) []pool.Middleware // further layers outside the stack; nil: none
}

func telemetryVariants() []telemetryVariant {
	skipping := func(p *providers) middleware.Options { return telling(p, true) }
	return []telemetryVariant{
		{untold, func(*providers) middleware.Options { return unwatched() }, 0, nil},
		{noop, func(*providers) middleware.Options { return silent() }, 0, nil},
		{unsampled, skipping, 0, nil},
		{notSkip, func(p *providers) middleware.Options { return telling(p, false) }, 0, nil},
		{onePer100, skipping, oneIn, nil},
		{sampled, skipping, 1, nil},
	}
}

func telemetryScenarios() []scenario {
	return []scenario{telemetryScenario(), collectionScenario()}
}

// telemetryScenario measures the cost of telemetry in a use of a trivial resource.
func telemetryScenario() scenario {
	about := "A use of a trivial resource by one goroutine, through the full standard stack (Total 2 s, Attempt 1 s); the caller's context " +
		"has a request's span and no deadline."
	return compare("standard stack: telemetry", about, func() []contestant {
		var all []contestant
		for _, v := range telemetryVariants() {
			all = append(all, stackedUse(v))
		}
		return all
	},
		allocs(noop, 2), allocs(unsampled, 2), allocs(sampled, 7),
		ratio(noop, untold, unbound), ratio(unsampled, untold, unbound), ratio(onePer100, untold, unbound), ratio(sampled, untold, unbound))
}

var opGet = pool.Op{Name: "GET", Idempotent: true}

// stackedUse returns a use of a trivial resource through the standard stack.
func stackedUse(v telemetryVariant) contestant {
	told := newProviders()
	from := newRequests(told, v.every)
	p := newOurs(uncont, standard(v.options(told), limit, limit/2)...)
	return contestant{loop(v.name, func(n int) {
		for range n {
			check(p.Do(from.next(), opGet, nothing))
		}
	}), func() { p.close(); from.close(); told.close() }}
}

// collectionScenario compares the collection of a pool's level metrics with the collection of the
// same number of hand-written observable series.
func collectionScenario() scenario {
	const levels, byHand, everything = "a pool's levels", "as many bare observables", "all of a pool's metrics"
	about := "What a reader does at its intervals, for one pool. The first two leave out counters and histograms, whose collection is the " +
		"SDK's alone."
	return compare("collection", about, func() []contestant {
		levelsOnly, bare, all := newProviders(withoutEvents), newProviders(), newProviders()
		open := func(told *providers) ours { return newOurs(uncont, standard(telling(told, true), limit, limit/2)...) }
		watched, watchedAll := open(levelsOnly), open(all)
		observeLike(levelsOnly, bare)
		collect := func(name string, told *providers, shut ...lender) contestant {
			var into metricdata.ResourceMetrics
			return contestant{loop(name, func(n int) {
				for range n {
					told.collect(&into)
				}
			}), func() {
				for _, p := range shut {
					p.close()
				}
				told.close()
			}}
		}
		return []contestant{collect(levels, levelsOnly, watched), collect(byHand, bare), collect(everything, all, watchedAll)}
	}, ratio(levels, byHand, 1.1))
}

// withoutEvents is a view that drops counters and histograms.
func withoutEvents(i sdkmetric.Instrument) (sdkmetric.Stream, bool) {
	return sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}},
		i.Kind == sdkmetric.InstrumentKindCounter || i.Kind == sdkmetric.InstrumentKindHistogram
}

// observeLike creates observables in like with the number, kinds and series of the metrics in from.
// A single callback observes all of them.
func observeLike(from, like *providers) {
	var found metricdata.ResourceMetrics
	from.collect(&found)
	meter := like.meters.Meter("bench")
	var instruments []metric.Observable
	var observations []func(metric.Observer)
	integers := func(i metric.Int64Observable, points []metricdata.DataPoint[int64]) {
		instruments = append(instruments, i)
		for _, p := range points {
			options := []metric.ObserveOption{metric.WithAttributeSet(p.Attributes)}
			observations = append(observations, func(o metric.Observer) { o.ObserveInt64(i, 1, options...) })
		}
	}
	for _, scope := range found.ScopeMetrics {
		for _, m := range scope.Metrics {
			unit, description := metric.WithUnit(m.Unit), metric.WithDescription(m.Description)
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				i, err := meter.Int64ObservableUpDownCounter(m.Name, unit, description)
				check(err)
				integers(i, data.DataPoints)
			case metricdata.Gauge[int64]:
				i, err := meter.Int64ObservableGauge(m.Name, unit, description)
				check(err)
				integers(i, data.DataPoints)
			case metricdata.Gauge[float64]:
				i, err := meter.Float64ObservableGauge(m.Name, unit, description)
				check(err)
				instruments = append(instruments, i)
				for _, p := range data.DataPoints {
					options := []metric.ObserveOption{metric.WithAttributeSet(p.Attributes)}
					observations = append(observations, func(o metric.Observer) { o.ObserveFloat64(i, 1, options...) })
				}
			default:
				panic("bench: a level of an unknown kind: " + m.Name)
			}
		}
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, observe := range observations {
			observe(o)
		}
		return nil
	}, instruments...)
	check(err)
}
