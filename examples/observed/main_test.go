package observed

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/examples/tools"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) {
	local.Child()
	os.Exit(pooltest.Main(m))
}

// startServers starts a Redis and a MongoDB for this test alone. Every test calls startServers
// first. The test's other programs end with the servers.
func startServers(t *testing.T) *local.Servers {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("it starts half a dozen programs and takes a minute")
	case raceDetector:
		t.Skip("it has been proved without the race detector, which sees nothing of other programs")
	}
	servers, err := local.Start(t.Context(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	return servers
}

// needPrometheus returns the path of Prometheus.
func needPrometheus(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	switch {
	case err == nil:
	case os.Getenv(tools.EnvLive) == "":
		t.Skipf("%v: install prometheus", err)
	default:
		t.Fatalf("%v, and %s is set", err, tools.EnvLive)
	}
	return path
}

// freeAddr returns a loopback address that is free.
func freeAddr(t *testing.T) string {
	t.Helper()
	addr, err := local.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// eventually calls try until try returns nil. After within it fails the test with the last error.
func eventually(t *testing.T, within time.Duration, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, within, err)
		}
	}
}
