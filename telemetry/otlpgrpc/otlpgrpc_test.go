package otlpgrpc

import (
	"testing"
	"time"

	"github.com/earnorm/poolstack/telemetry/internal/otlphttp"
)

// The documentation of package telemetry promises a limit after an absence of any length: a new
// connection, and then another try.
func TestCollectorIsFoundWithinTenSeconds(t *testing.T) {
	longest := func(pause time.Duration, jitter float64) time.Duration {
		return time.Duration(float64(pause) * (1 + jitter))
	}
	// The jitter of the pauses between tries is the exporters' own, and the same.
	if worst := longest(connectPause, connectJitter) + longest(again.MaxInterval, otlphttp.RetryJitter); worst > 10*time.Second {
		t.Errorf("a connection and a try take up to %v", worst)
	}
}
