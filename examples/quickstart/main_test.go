package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool/pooltest"
)

// mainEnv makes the test binary run main.
const mainEnv = "QUICKSTART_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		return
	}
	os.Exit(pooltest.Main(m))
}

// quickstart runs the program with the server at url and returns its output.
func quickstart(t *testing.T, url string, env ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(append(os.Environ(), mainEnv+"=1", "REDIS_URL="+url), env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

func TestItRuns(t *testing.T) {
	url := os.Getenv("REDIS_URL")
	if url == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("REDIS_URL is not set, and CI is true")
		}
		t.Skip("REDIS_URL is not set: run the tests by make test")
	}
	stdout, stderr, err := quickstart(t, url)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	var visitor, idle, inUse, size, opened, lent int
	if _, err := fmt.Sscanf(stdout, "hello, visitor %d\npool: %d idle and %d in use of %d, %d opened, lent %d times\nhealth:",
		&visitor, &idle, &inUse, &size, &opened, &lent); err != nil {
		t.Fatalf("%v in:\n%s", err, stdout)
	}
	if visitor < 1 || idle != 1 || inUse != 0 || size != 8 || opened != 1 || lent != 3 {
		t.Errorf("the figures are not those of three uses of one connection:\n%s", stdout)
	}
	if strings.Contains(stdout, "down") {
		t.Errorf("the server is down:\n%s", stdout)
	}
}

func TestErrorsSayWhatIsWrong(t *testing.T) {
	for url, want := range map[string]string{
		"redis://127.0.0.1:1/0":               "connection refused",
		"http://user:hunter2@x/":              "scheme must be redis",
		"redis://user:hunter2@x/?pool_size=9": "pool_size",
	} {
		stdout, stderr, err := quickstart(t, url)
		if err == nil || !strings.Contains(stderr, "quickstart: ") || !strings.Contains(stderr, want) {
			t.Errorf("with %q: %v, and it says:\n%s", url, err, stderr)
		}
		if strings.Contains(stdout+stderr, "hunter2") {
			t.Errorf("with %q it shows the password:\n%s", url, stderr)
		}
	}
}

// The program has no gRPC, and says so to the operator that wants gRPC.
func TestNoGRPC(t *testing.T) {
	_, stderr, err := quickstart(t, "redis://127.0.0.1:1/0", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	for _, want := range []string{"OTEL_EXPORTER_OTLP_PROTOCOL", `"grpc"`, `import _ "github.com/earnorm/poolstack/telemetry/otlpgrpc"`} {
		if err == nil || !strings.Contains(stderr, want) {
			t.Errorf("%v, and no %s in: %s", err, want, stderr)
		}
	}
}

// A small program stays small, telemetry included: no gRPC, no templates (the linker then keeps the
// methods that nobody calls), and less than 16 MiB when stripped.
func TestWeight(t *testing.T) {
	deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(deps)) {
		if strings.HasPrefix(dep, "google.golang.org/grpc") || strings.HasSuffix(dep, "/template") {
			t.Errorf("the quickstart depends on %s", dep)
		}
	}
	file := filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", file, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if size := info.Size(); size >= 16<<20 {
		t.Errorf("the quickstart has %d bytes, want less than 16 MiB", size)
	}
}
