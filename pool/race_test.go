//go:build race

package pool_test

// raceEnabled says that the race detector is on. It makes allocations of its own, and sync.Pool then drops records at random.
const raceEnabled = true
