package tools

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func fixed(version string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return version, nil }
}

// fromModule builds one command of a module. It works in a copy of the module's tree, as the main module, for then the module's own
// replacements count and its whole build is the one that its authors test.
func fromModule(module, command, ldflags string) func(ctx context.Context, file string) error {
	return func(ctx context.Context, file string) error {
		tree := filepath.Join(filepath.Dir(file), "tree")
		if err := os.MkdirAll(tree, 0o755); err != nil {
			return err
		}
		out, err := goCommand(ctx, tree, "mod", "download", "-json", module)
		if err != nil {
			return err
		}
		var downloaded struct{ Dir string }
		if err := json.Unmarshal(out, &downloaded); err != nil {
			return fmt.Errorf("go mod download %s: %w", module, err)
		}
		if err := os.CopyFS(tree, os.DirFS(downloaded.Dir)); err != nil {
			return err
		}
		return goBuild(ctx, tree, command, file, ldflags)
	}
}

// collectorSources are the files that the collector is made of.
var collectorSources = []string{"go.mod", "go.sum", "main.go"}

// collectorVersion is the version of the components, which stands in main.go, and a few digits of what the sources hash to: they are
// ours and may change without it.
func collectorVersion(ctx context.Context) (string, error) {
	dir, err := collectorDir(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, name := range collectorSources {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content)
	}
	return "0.155.0-" + hex.EncodeToString(sum.Sum(nil)[:4]), nil
}

func buildCollector(ctx context.Context, file string) error {
	dir, err := collectorDir(ctx)
	if err != nil {
		return err
	}
	return goBuild(ctx, dir, ".", file, "")
}

// collectorDir is where the sources of the collector are. They are a module of their own, so the Go command knows them only as a
// directory of the one that the current directory belongs to.
func collectorDir(ctx context.Context) (string, error) {
	out, err := goCommand(ctx, "", "list", "-m", "-f", "{{.Path}} {{.Dir}}")
	if err != nil {
		return "", err
	}
	module, dir, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if module != "github.com/earnorm/poolstack/examples" {
		return "", fmt.Errorf("the current directory belongs to %s: must be in the module of the examples", module)
	}
	return filepath.Join(dir, "collector"), nil
}

// goBuild makes file of a command of the main module in dir: static, without the machine's paths and without symbols.
func goBuild(ctx context.Context, dir, command, file, ldflags string) error {
	_, err := goCommand(ctx, dir, "build", "-trimpath", "-ldflags", strings.TrimSpace("-s -w "+ldflags), "-o", file, command)
	return err
}

// goCommand runs the Go command in dir and returns what it printed. When ctx ends it is killed along with all it has started.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.Join(context.Cause(ctx), fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, last(stderr.String(), 20)))
	}
	return out, nil
}

// last returns the last lines of text.
func last(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
