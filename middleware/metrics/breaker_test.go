package metrics

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// However the reports of changes overtake each other, in the end the state is the one that the breaker is in.
func TestBreakerReportsOutOfOrder(t *testing.T) {
	next := [states][]state{{1}, {2}, {0, 1}} // closed: open; open: half-open; half-open: closed or open
	for range 1000 {
		var changes []change
		at := state(0)
		for range 50 {
			to := next[at][rand.IntN(len(next[at]))]
			changes = append(changes, change{at, to})
			at = to
		}
		const window = 5
		for i := 0; i < len(changes); i += window {
			part := changes[i : i+window]
			rand.Shuffle(len(part), func(a, b int) { part[a], part[b] = part[b], part[a] })
		}
		var b breaker
		for _, c := range changes {
			b.change(stateNames[c.from], stateNames[c.to])
		}
		if got := b.state(); got != at {
			t.Fatalf("the state is %s, want %s, after %v", stateNames[got], stateNames[at], changes)
		}
	}
}

// A breaker that was not closed when the pool was made, and states that nobody knows.
func TestBreakerBeginsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		b.change("open", "half-open")
		b.change("melted", "closed")
		if got := b.state(); got != 0 {
			t.Errorf("the state is %s, want closed: what came before may yet come", stateNames[got])
		}
		time.Sleep(2 * latecomer)
		if got := b.state(); stateNames[got] != "half-open" {
			t.Errorf("the state is %s, want half-open", stateNames[got])
		}
	})
	var b breaker
	for range maxLate {
		b.change("open", "half-open")
	}
	if got := b.state(); stateNames[got] != "half-open" {
		t.Errorf("the state is %s, want half-open: too much has been heard of", stateNames[got])
	}
}
