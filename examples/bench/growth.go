package main

import (
	"context"
	"fmt"
	"time"
)

// growthScenarios measure how the cost of an acquire grows with the number of waiters, and with the
// number of pools.
func growthScenarios() []scenario {
	return []scenario{waitersScenario(), poolsScenario()}
}

func withWaiters(name string, waiters int) string {
	return fmt.Sprintf("%s, %d waiters", name, waiters)
}

func waitersScenario() scenario {
	sizes := []int{1, 10, 1_000, 10_000}
	growth := func(name string, to, from int) func(round) float64 {
		return func(r round) float64 { return r[withWaiters(name, to)].cost / r[withWaiters(name, from)].cost }
	}
	return scenario{
		"growth with waiters", "10 resources held for a Gosched, and so many goroutines more.",
		func() ([]subject, func()) {
			pools := []named{{our, newOurs(scarce)}, {pud, newPuddle(scarce)}, {aChan, newChannel(scarce)}}
			var subjects []subject
			for _, n := range sizes {
				for _, p := range pools {
					subjects = append(subjects, crowded(withWaiters(p.name, n), p, scarce+n, yield, false))
				}
			}
			return subjects, closeAll(pools)
		},
		[]gate{
			{what: "ours, 1,000 waiters / 10", limit: 1.2, figure: growth(our, 1_000, 10)},
			{what: "growth from 10 to 10,000 waiters, ours / channel's", limit: 1.2, figure: func(r round) float64 {
				return growth(our, 10_000, 10)(r) / growth(aChan, 10_000, 10)(r)
			}},
			{what: "ours, 10,000 waiters / 10", limit: unbound, figure: growth(our, 10_000, 10)},
			{what: "ours, 1,000 waiters / 1", limit: unbound, figure: growth(our, 1_000, 1)},
		},
	}
}

// poolsScenario compares a single pool with a pool among many live pools.
func poolsScenario() scenario {
	const many = 1_000
	alone, among := "ours, alone", "ours, one among 1,000"
	return scenario{
		"growth with pools", "Back to back; the other pools have been used, and are then made and closed outside of the samples.",
		func() ([]subject, func()) {
			p, background := newOurs(uncont), context.Background()
			run := func(n int) { p.loop(background, n) }
			amongMany := loop(among, run)
			subjects := []subject{loop(alone, run), {among, func(d time.Duration) figures {
				others := make([]ours, many-1)
				for i := range others {
					others[i] = newOurs(2)
					others[i].loop(background, 1)
				}
				f := amongMany.measure(d)
				for _, other := range others {
					other.close()
				}
				return f
			}}}
			return subjects, p.close
		},
		[]gate{ratio(among, alone, 1.2)},
	}
}
