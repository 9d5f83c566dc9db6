package tools

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// The tools have the expected versions. `make tools` builds the tools with this test.
func TestTools(t *testing.T) {
	for _, tt := range []struct {
		tool *Tool
		args []string
		want string
	}{
		{Jaeger, []string{"help"}, "Jaeger all-in-one"},
		{Collector, []string{"--version"}, "0.155.0"},
		{Compose, []string{"version"}, "v2.40.3"},
	} {
		t.Run(tt.tool.name, func(t *testing.T) {
			path := Need(t, tt.tool)
			out, err := exec.CommandContext(t.Context(), path, tt.args...).CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%s %v: %v, says %q, want %q", path, tt.args, err, out, tt.want)
			}
			t.Log(path)
		})
	}
}

// toy returns a tool with a fast build.
func toy(t *testing.T, build func(ctx context.Context, file string) error) *Tool {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return &Tool{name: "toy", version: fixed("1.0"), build: build}
}

func writeFile(_ context.Context, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, []byte("toy"), 0o700)
}

func TestBuiltOnce(t *testing.T) {
	var builds atomic.Int32
	tool := toy(t, func(ctx context.Context, file string) error {
		builds.Add(1)
		return writeFile(ctx, file)
	})
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			path, err := tool.Path(t.Context())
			if content, _ := os.ReadFile(path); err != nil || string(content) != "toy" {
				t.Errorf("%s with %q, %v", path, content, err)
			}
		})
	}
	callers.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	path, _ := tool.Path(t.Context())
	if want := filepath.Join(os.Getenv("XDG_CACHE_HOME"), "poolstack", "toy-1.0", "toy"); path != want {
		t.Errorf("it is at %s, want %s", path, want)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "building*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAFailureLeavesNothing(t *testing.T) {
	broken := errors.New("no disk")
	tool := toy(t, func(ctx context.Context, file string) error { return errors.Join(writeFile(ctx, file), broken) })
	if _, err := tool.Path(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "toy cannot be built") {
		t.Errorf("Path: %v", err)
	}
	if path, err := tool.find(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v, want none", path, err)
	}
	tool.build = writeFile
	if _, err := tool.Path(t.Context()); err != nil {
		t.Errorf("the next time: %v", err)
	}
}

// Another caller builds and does not end.
func TestWaitingEndsWithTheContext(t *testing.T) {
	tool := toy(t, writeFile)
	path, err := tool.path(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(t.Context(), filepath.Join(filepath.Dir(path), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("waited long enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(enough)
	if _, err := tool.Path(ctx); !errors.Is(err, enough) {
		t.Errorf("Path: %v, want %v", err, enough)
	}
	unlock()
	if _, err := tool.Path(t.Context()); err != nil {
		t.Errorf("once it is unlocked: %v", err)
	}
}

func TestNeedSkipsWhereNobodyAskedToBuild(t *testing.T) {
	tool := toy(t, writeFile)
	t.Setenv(EnvLive, "")
	t.Run("skipped", func(t *testing.T) {
		t.Cleanup(func() {
			if !t.Skipped() {
				t.Error("not skipped")
			}
		})
		Need(t, tool)
	})
	t.Setenv(EnvLive, "1")
	if path := Need(t, tool); filepath.Base(path) != "toy" {
		t.Errorf("it is at %s", path)
	}
}

// The error contains the Go command's output.
func TestNoSuchCommand(t *testing.T) {
	err := goBuild(t.Context(), "", "./nowhere", filepath.Join(t.TempDir(), "nowhere"), "")
	if err == nil || !strings.Contains(err.Error(), "nowhere") || !strings.Contains(err.Error(), "directory not found") {
		t.Errorf("%v", err)
	}
}
