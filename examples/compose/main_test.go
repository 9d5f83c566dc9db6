package compose_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// The files, relative to this directory.
const (
	composeFile  = "../../docker-compose.yml"
	overrideFile = "../../.ci/compose.override.yml"
)

// eventually polls ok until ok returns nil. After patience it fails the test with the last error.
func eventually(t *testing.T, patience time.Duration, what string, ok func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := error(nil); ; {
		err := ok(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s: %v", patience, what, last)
		}
	}
}
