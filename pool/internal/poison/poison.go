// Package poison lets a conformance suite detect a Call used after the end of its use. While On is
// true, the pool marks an ended Call and does not reuse the Call. Every method of a marked Call
// panics.
package poison

import "sync/atomic"

// On is true while RunMiddleware of package pooltest runs. On may be read and written concurrently.
var On atomic.Bool
