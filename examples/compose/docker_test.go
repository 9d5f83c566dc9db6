package compose_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// missing skips the test because something is missing. On CI it fails the test.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what + ", and CI is true")
	}
	t.Skip(what)
}

// docker runs the docker client with its own configuration.
type docker struct{ env []string }

// needDocker skips the test without a running engine. On CI it fails the test, unless .ci/run has
// reported that no engine is available.
func needDocker(t *testing.T) docker {
	t.Helper()
	d := docker{env: environment(t.TempDir())}
	if _, err := d.run(t.Context(), nil, "version", "--format", "{{.Server.Version}}"); err != nil {
		if os.Getenv("POOLSTACK_DOCKER") == "none" {
			t.Skip("no Docker engine can be had here: " + err.Error())
		}
		missing(t, "no Docker engine answers: "+err.Error())
	}
	return d
}

// decides matches the variables read by docker-compose.yml.
var decides = regexp.MustCompile(`^(\w+_IMAGE|\w+_PORT|REDIS_URL|MONGODB_URI|COMPOSE_\w+|STANDIN)=`)

// environment returns this process's environment without the variables read by docker-compose.yml.
func environment(config string) []string {
	return append(slices.DeleteFunc(os.Environ(), decides.MatchString), "DOCKER_CONFIG="+config)
}

// run runs a command of the client and returns what it prints to its standard output.
func (d docker) run(ctx context.Context, in io.Reader, args ...string) (string, error) {
	return output(ctx, d.env, in, "docker", args...)
}

// output runs a program and returns its standard output. The error contains the standard error.
func output(ctx context.Context, env []string, in io.Reader, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errs bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, in, &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), errors.Join(context.Cause(ctx), fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, errs.String()))
	}
	return out.String(), nil
}

// lines returns the words printed by a command of the client: names and ids, one per line.
func (d docker) lines(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := d.run(context.WithoutCancel(t.Context()), nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(out)
}
