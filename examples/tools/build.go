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

// fromModule returns a function that builds a command of a module. The function builds in a copy of
// the module's source tree, as the main module. So the module's replace directives apply, and the
// build is the same as the authors' build.
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

// collectorSources are the source files of the collector.
var collectorSources = []string{"go.mod", "go.sum", "main.go"}

// collectorVersion returns the version of the components and a part of the hash of the sources. The
// sources may change without a change of the components' version. The version is repeated from
// main.go.
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

// collectorDir returns the directory of the collector's sources. The collector is a separate
// module, so the Go command does not find it by its path. The directory is below the examples'
// module, which must contain the current directory.
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

// goBuild builds a command of the main module in dir to file. The program is static, without local
// paths and without symbols.
func goBuild(ctx context.Context, dir, command, file, ldflags string) error {
	_, err := goCommand(ctx, dir, "build", "-trimpath", "-ldflags", strings.TrimSpace("-s -w "+ldflags), "-o", file, command)
	return err
}

// goCommand runs the Go command in dir and returns its output. When ctx ends, goCommand kills the
// Go command and all its children.
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
