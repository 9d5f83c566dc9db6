// Package poison lets the conformance suites catch a Call that is used after its use is over: while On is set, ended Calls are marked
// and abandoned to the collector rather than used again, and every method of a marked Call panics.
package poison

import "sync/atomic"

// On is set by package pooltest for as long as one of its suites runs. It may be read and written concurrently.
var On atomic.Bool
