package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
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
func quickstart(t *testing.T, url string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), mainEnv+"=1", "REDIS_URL="+url)
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
