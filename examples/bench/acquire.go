package main

import (
	"context"
	"fmt"

	"github.com/earnorm/poolstack/pool"
)

// The names of the subjects.
const (
	our     = "ours"
	ourDo   = "ours, Do"
	ourGet  = "ours, Get"
	pud     = "puddle"
	stdSQL  = "database/sql"
	apache  = "go-commons-pool"
	aChan   = "channel"
	one     = "ours, 1 bracket"
	six     = "ours, 6 brackets"
	oneDo   = "ours, Do, 1 bracket"
	sixDo   = "ours, Do, 6 brackets"
	uncont  = 16 // enough resources for every goroutine
	scarce  = 10 // fewer resources than goroutines
	nearOne = 1.1
)

// bracket is a layer without any effect.
type bracket struct{}

func (bracket) Begin(ctx context.Context, _ *pool.Call) (context.Context, int, error) {
	return ctx, 0, nil
}
func (bracket) End(context.Context, *pool.Call, int, error) {}

func brackets(n int) []pool.Middleware {
	layers := make([]pool.Middleware, n)
	for i := range layers {
		layers[i] = pool.Bracket(bracket{})
	}
	return layers
}

// named is a lender with its name in the report.
type named struct {
	name string
	lender
}

// allPools opens our pool and the pools of other libraries.
func allPools(size int) []named {
	return []named{
		{our, newOurs(size)}, {pud, newPuddle(size)}, {stdSQL, newSQL(size)}, {apache, newCommons(size)}, {aChan, newChannel(size)},
	}
}

func closeAll(pools []named) func() {
	return func() {
		for _, p := range pools {
			p.close()
		}
	}
}

func acquireScenarios() []scenario {
	return []scenario{
		backToBack("acquire + release, uncontended", "One goroutine, 16 resources.", 1,
			ofPuddle{ours: 0.35, one: 1.3, oneDo: 0.95, six: 2.3, sixDo: 1.35}),
		backToBack("acquire + release, parallel", "One goroutine for each processor, 16 resources.", processors(),
			ofPuddle{ours: 0.70, one: 1.3, oneDo: 1, six: 2.4, sixDo: 1.5}),
		crowdScenario(64, "Gosched", yield),
		crowdScenario(256, "Gosched", yield,
			ratio(our, pud, 0.75), ratio(our, aChan, 1.7)),
		waitScenario(),
		crowdScenario(64, "50 µs", pause),
		crowdScenario(256, "50 µs", pause),
		cancelledScenario(),
		bracketScenario(),
	}
}

// ofPuddle holds the bounds of our pool's costs, without layers and with brackets, as multiples of
// puddle's cost.
type ofPuddle struct{ ours, one, oneDo, six, sixDo float64 }

// backToBack compares the cost of acquire and release without waiting.
func backToBack(name, about string, workers int, most ofPuddle) scenario {
	gates := []gate{
		ratio(our, pud, most.ours), ratio(our, stdSQL, 0.22), noAllocs(our),
		ratio(one, pud, most.one), noAllocs(one), ratio(oneDo, pud, most.oneDo), noAllocs(oneDo),
		ratio(six, pud, most.six), noAllocs(six), ratio(sixDo, pud, most.sixDo), noAllocs(sixDo),
	}
	gates = append(gates, ratio(our, apache, unbound), ratio(our, aChan, unbound), ratio(ourDo, pud, unbound), ratio(ourGet, pud, unbound))
	return scenario{name, about, func() ([]subject, func()) {
		pools := allPools(uncont)
		background := context.Background()
		var subjects []subject
		for _, p := range pools {
			subjects = append(subjects, loop(p.name, spread(workers, func(n int) { p.loop(background, n) })))
		}
		bare := newOurs(uncont)
		through1, through6 := newOurs(uncont, brackets(1)...), newOurs(uncont, brackets(6)...)
		pools = append(pools, named{ourDo, bare}, named{one, through1}, named{six, through6})
		for _, s := range []struct {
			name string
			run  func(context.Context, int)
		}{
			{ourDo, bare.do}, {ourGet, bare.get}, {one, through1.loop}, {oneDo, through1.do}, {six, through6.loop}, {sixDo, through6.do},
		} {
			subjects = append(subjects, loop(s.name, spread(workers, func(n int) { s.run(background, n) })))
		}
		return subjects, closeAll(pools)
	}, gates}
}

// crowdScenario compares the throughput of n goroutines on 10 resources.
func crowdScenario(n int, held string, hold func(), gates ...gate) scenario {
	if gates == nil {
		gates = []gate{ratio(our, pud, unbound), ratio(our, aChan, unbound)}
	}
	gates = append(gates, ratio(our, stdSQL, unbound), ratio(our, apache, unbound))
	return scenario{
		fmt.Sprintf("%d goroutines on 10, %s", n, held),
		"Each acquires, holds and releases without end; ours records wait times as always.",
		func() ([]subject, func()) {
			pools := allPools(scarce)
			var subjects []subject
			for _, p := range pools {
				subjects = append(subjects, crowded(p.name, p, n, hold, false))
			}
			return subjects, closeAll(pools)
		}, gates,
	}
}

// waitScenario measures the distribution of waits and the fairness of acquires.
func waitScenario() scenario {
	tail := func(name string) func(round) float64 {
		return func(r round) float64 { return r[name].p99 / r[name].p50 }
	}
	return scenario{
		"256 goroutines on 10, Gosched: waits",
		"Each wait is timed from outside, the same for all.",
		func() ([]subject, func()) {
			pools := allPools(scarce)
			var subjects []subject
			for _, p := range pools {
				subjects = append(subjects, crowded(p.name, p, 256, yield, true))
			}
			return subjects, closeAll(pools)
		},
		[]gate{
			{what: "p99/p50 of the wait, ours / channel", limit: 1.25, figure: func(r round) float64 { return tail(our)(r) / tail(aChan)(r) }},
			{what: "max/min acquires a goroutine, ours", limit: nearOne, figure: func(r round) float64 { return r[our].unfairness }},
			{what: "p99/p50 of the wait, ours / puddle", limit: unbound, figure: func(r round) float64 { return tail(our)(r) / tail(pud)(r) }},
		},
	}
}

// cancelledScenario compares the cost of a rejected acquire with a context that has already ended.
func cancelledScenario() scenario {
	return scenario{"cancelled on arrival", "The context is over before the acquire.", func() ([]subject, func()) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		pools := allPools(scarce)
		var subjects []subject
		for _, p := range pools {
			subjects = append(subjects, loop(p.name, func(n int) {
				for range n {
					_ = p.use(ctx, yield) // the channel may succeed nevertheless
				}
			}))
		}
		return subjects, closeAll(pools)
	}, []gate{ratio(our, pud, unbound), ratio(our, stdSQL, unbound)}}
}

// bracketScenario measures the cost of an additional layer in a Get.
func bracketScenario() scenario {
	const seven, more = "ours, Get, 7 brackets", 6
	single := "ours, Get, 1 bracket"
	return scenario{"one bracket more", "What a no-op bracket adds to a Get: the difference between seven and one, by six.", func() ([]subject, func()) {
		background := context.Background()
		bare, first, last := newOurs(uncont), newOurs(uncont, brackets(1)...), newOurs(uncont, brackets(1+more)...)
		subjects := []subject{
			loop(ourGet, func(n int) { bare.get(background, n) }),
			loop(single, func(n int) { first.get(background, n) }),
			loop(seven, func(n int) { last.get(background, n) }),
		}
		return subjects, closeAll([]named{{ourGet, bare}, {single, first}, {seven, last}})
	}, []gate{
		{what: "one bracket / Get without layers", limit: 0.28, figure: func(r round) float64 {
			return (r[seven].cost - r[single].cost) / more / r[ourGet].cost
		}},
		noAllocs(seven),
	}}
}
