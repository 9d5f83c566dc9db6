//go:build race

package pool_test

// raceEnabled reports whether the race detector is on. The race detector allocates memory, and
// makes sync.Pool drop records at random.
const raceEnabled = true
