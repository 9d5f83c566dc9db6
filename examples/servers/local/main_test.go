package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// holdEnv makes the test binary a program that starts servers and waits. The value selects the
// program's end.
const holdEnv = "LOCAL_TEST_HOLD"

func TestMain(m *testing.M) {
	local.Child()
	if how := os.Getenv(holdEnv); how != "" {
		hold(how)
	}
	os.Exit(pooltest.Main(m))
}

// patience bounds every wait for a condition.
const patience = 10 * time.Second

// eventually polls until ok is true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// start starts servers that end with the test.
func start(t *testing.T, opts local.Options) *local.Servers {
	t.Helper()
	s, err := local.Start(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func find(t *testing.T, c control.Controller, name string) control.Status {
	t.Helper()
	st, err := control.Find(t.Context(), c, name)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// needRedisServer skips a test without redis-server. On CI it fails the test.
func needRedisServer(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("redis-server is not installed, and CI is true")
		}
		t.Skip("redis-server is not installed: ", err)
	}
}

// gone reports whether a process has ended. A zombie process has ended.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// A held program is a child process of the test with its own servers.
type held struct {
	cmd    *exec.Cmd
	tmp    string // its TMPDIR
	status []control.Status
}

// startHeld runs hold in another process and waits until its servers run.
func startHeld(t *testing.T, how string) held {
	t.Helper()
	h := held{cmd: exec.Command(os.Args[0]), tmp: t.TempDir()}
	h.cmd.Env = append(os.Environ(), holdEnv+"="+how, "TMPDIR="+h.tmp)
	h.cmd.Stderr = os.Stderr
	stdin, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(h.cmd.Process.Kill(), stdin.Close()) })
	if err := json.NewDecoder(stdout).Decode(&h.status); err != nil {
		t.Fatal(err)
	}
	if how != "hold" {
		_ = stdin.Close() // the program ends now
	}
	return h
}

// hold starts servers, prints their status, waits for the end of stdin, and then ends without
// Close.
func hold(how string) {
	s, err := local.Start(context.Background(), local.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	all, _ := s.Status(context.Background())
	_ = json.NewEncoder(os.Stdout).Encode(all)
	_, _ = io.Copy(io.Discard, os.Stdin)
	if how == "panic" {
		os.Stderr.Close() // nobody needs to see it
		panic("as a test does whose time is up")
	}
	os.Exit(0)
}

func (h held) awaitGone(t *testing.T) {
	t.Helper()
	for _, st := range h.status {
		eventually(t, fmt.Sprintf("%s, process %d, has ended", st.Name, st.PID), func() bool { return gone(st.PID) })
	}
}

func (h held) awaitTidy(t *testing.T) {
	t.Helper()
	eventually(t, "its temporary directory is empty", func() bool {
		left, err := filepath.Glob(filepath.Join(h.tmp, "*"))
		return err == nil && len(left) == 0
	})
}
