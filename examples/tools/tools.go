package tools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A Tool is a program built on demand. The methods may be called concurrently, also by several
// processes. Only the first caller builds the program, and the other callers wait.
type Tool struct {
	name    string                                       // of the program's file
	version func(ctx context.Context) (string, error)    // a part of the path
	build   func(ctx context.Context, file string) error // builds file
}

// The tools.
var (
	// Jaeger is Jaeger's all-in-one program 1.76 without the web page: receivers, storage in memory
	// and the query API.
	Jaeger = &Tool{
		name:    "jaeger",
		version: fixed("1.76.0"),
		build:   fromModule("github.com/jaegertracing/jaeger@v1.76.0", "./cmd/all-in-one", ""),
	}
	// Collector is the OpenTelemetry Collector 0.155 of examples/collector.
	Collector = &Tool{name: "collector", version: collectorVersion, build: buildCollector}
	// Compose is docker compose 2.40.3. Docker looks for the program in the directory cli-plugins of
	// its configuration.
	Compose = &Tool{
		name:    "docker-compose",
		version: fixed("2.40.3"),
		build:   fromModule("github.com/docker/compose/v2@v2.40.3", "./cmd", "-X github.com/docker/compose/v2/internal.Version=v2.40.3"),
	}
)

// EnvLive is an environment variable. If it is not empty, Need builds a missing tool and does not
// skip the test.
const EnvLive = "POOLSTACK_LIVE"

// Need returns the tool's path for a test. If the tool is missing and EnvLive is set, as on CI,
// Need builds the tool. Without EnvLive, Need skips the test, because a developer should not wait
// for minutes. Any other error fails the test.
func Need(tb testing.TB, tool *Tool) string {
	tb.Helper()
	path, err := tool.find(tb.Context())
	if errors.Is(err, os.ErrNotExist) {
		if os.Getenv(EnvLive) == "" {
			tb.Skipf("%s has not been built yet, which takes minutes: make tools does it, or %s=1", tool.name, EnvLive)
		}
		path, err = tool.Path(tb.Context())
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Path returns the path of the program, and builds a missing program. If ctx ends, the build ends
// and leaves no files.
func (t *Tool) Path(ctx context.Context) (string, error) {
	path, err := t.find(ctx)
	if !errors.Is(err, os.ErrNotExist) {
		return path, err
	}
	path, err = t.path(ctx)
	if err == nil {
		err = t.make(ctx, path)
	}
	if err != nil {
		return "", fmt.Errorf("tools: %s cannot be built: %w", t.name, err)
	}
	return path, nil
}

// find returns the path of the program. The error is os.ErrNotExist if the program has not been
// built.
func (t *Tool) find(ctx context.Context) (string, error) {
	path, err := t.path(ctx)
	if err == nil {
		_, err = os.Stat(path)
	}
	return path, err
}

// path returns the path for the program: poolstack/NAME-VERSION/NAME in the user's cache directory.
func (t *Tool) path(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	version, err := t.version(ctx)
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "poolstack", t.name+"-"+version, t.name), nil
}

// make builds the program at path, unless another process has built the program first. The complete
// program appears at path at once, with a rename.
func (t *Tool) make(ctx context.Context, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return nil // another process was first
	}
	scratch := filepath.Join(dir, "building") // on the same file system, for the rename
	if err := os.RemoveAll(scratch); err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	file := filepath.Join(scratch, t.name)
	if err := t.build(ctx, file); err != nil {
		return err
	}
	return os.Rename(file, path)
}
