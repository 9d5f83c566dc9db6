package tools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A Tool is a program that is built when it is wanted. Its methods may be called concurrently, by several processes too: all but the
// first wait.
type Tool struct {
	name    string                                       // of the program's file
	version func(ctx context.Context) (string, error)    // what it is kept by
	build   func(ctx context.Context, file string) error // makes file
}

// The tools.
var (
	// Jaeger is version 1.76 of Jaeger's all-in-one program, without its page: receivers, storage in memory and the query API.
	Jaeger = &Tool{
		name:    "jaeger",
		version: fixed("1.76.0"),
		build:   fromModule("github.com/jaegertracing/jaeger@v1.76.0", "./cmd/all-in-one", ""),
	}
	// Collector is the OpenTelemetry Collector 0.155 of examples/collector.
	Collector = &Tool{name: "collector", version: collectorVersion, build: buildCollector}
	// Compose is docker compose 2.40.3, which docker finds in the directory cli-plugins of its configuration.
	Compose = &Tool{
		name:    "docker-compose",
		version: fixed("2.40.3"),
		build:   fromModule("github.com/docker/compose/v2@v2.40.3", "./cmd", "-X github.com/docker/compose/v2/internal.Version=v2.40.3"),
	}
)

// EnvLive is the environment variable that makes Need build a tool instead of skipping the test, when it is not empty.
const EnvLive = "POOLSTACK_LIVE"

// Need returns the tool's path for a test. A tool that has not been built yet is built if EnvLive is set, for CI wants proof; on a
// developer's machine the test is skipped rather than made to wait for minutes.
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

// Path returns the path of the program and builds it before if it is not there. When ctx ends so does the building, and nothing is left.
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

// find returns the path of the program; the error is os.ErrNotExist when it has not been built.
func (t *Tool) find(ctx context.Context) (string, error) {
	path, err := t.path(ctx)
	if err == nil {
		_, err = os.Stat(path)
	}
	return path, err
}

// path is where the program is or is to be: poolstack/NAME-VERSION/NAME in the user's directory for caches.
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

// make builds the program at path, unless another process does so first. It appears there at once and whole.
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
		return nil // somebody else was first
	}
	scratch := filepath.Join(dir, "building") // beside it, so that it can be renamed
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
