package telemetry

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool/pooltest"
	_ "github.com/earnorm/poolstack/telemetry/otlpgrpc" // half of the tests are about gRPC
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// setenv sets exactly these OTEL_ variables ("NAME=value") until the end of the test.
func setenv(t testing.TB, vars ...string) {
	t.Helper()
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "OTEL_") {
			t.Setenv(name, value) // so the end of the test restores the value
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, kv := range vars {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
}

// eventually polls cond until cond returns true, for at most ten seconds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("still not after ten seconds: %s", what)
		}
	}
}
