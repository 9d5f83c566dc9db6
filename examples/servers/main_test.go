package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// asEnv makes the test binary another program: "servers" itself, or a "client" run by servers.
const asEnv = "SERVERS_TEST_AS"

func TestMain(m *testing.M) {
	local.Child()
	switch os.Getenv(asEnv) {
	case "servers":
		os.Unsetenv(asEnv)
		main()
	case "client":
		if err := useServers(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(42)
	}
	os.Exit(pooltest.Main(m))
}

// useServers does the same as a program run by `servers`.
func useServers(ctx context.Context) error {
	if err := pingBoth(ctx); err != nil {
		return err
	}
	servers, err := control.FromEnv()
	if err != nil {
		return err
	}
	for _, name := range []string{control.Redis, control.MongoDB} {
		if err := errors.Join(servers.Kill(ctx, name), servers.Restart(ctx, name)); err != nil {
			return err
		}
	}
	return pingBoth(ctx)
}

// pingBoth pings both servers with new clients.
func pingBoth(ctx context.Context) error {
	opts, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	rdb := redis.NewClient(opts)
	defer rdb.Close()
	mdb, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		return err
	}
	defer mdb.Disconnect(ctx)
	return errors.Join(rdb.Ping(ctx).Err(), mdb.Ping(ctx, nil))
}

// patience bounds every wait for a condition.
const patience = 15 * time.Second

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

// program returns `servers` with args as a process with the temporary directory tmp.
func program(t *testing.T, tmp string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), asEnv+"=servers", "TMPDIR="+tmp)
	// The process has no terminal, wherever the test runs, and its own process group, as with a
	// shell's job control.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

// outcome runs cmd and returns its exit status and its output.
func outcome(t *testing.T, cmd *exec.Cmd) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return exitStatus(cmd.ProcessState), out.String(), errs.String()
}

func awaitTidy(t *testing.T, tmp string) {
	t.Helper()
	eventually(t, "the temporary directory is empty", func() bool {
		left, err := filepath.Glob(filepath.Join(tmp, "*"))
		return err == nil && len(left) == 0
	})
}

func TestExitStatusIsTheCommands(t *testing.T) {
	notExecutable := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(notExecutable, []byte{0}, 0o600); err != nil {
		t.Fatal(err)
	}
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte{0}, 0o700); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		args   []string
		status int
		stderr string
	}{
		"success":             {[]string{"--", "true"}, 0, ""},
		"without the dashes":  {[]string{"true"}, 0, ""},
		"failure":             {[]string{"--", "sh", "-c", "exit 7"}, 7, ""},
		"killed":              {[]string{"--", "sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		"no such program":     {[]string{"--", "no-such-program"}, 127, `servers: exec: "no-such-program": executable file not found`},
		"no such file":        {[]string{"--", "/no/such/file"}, 127, "no such file"},
		"not executable":      {[]string{"--", notExecutable}, 126, "permission denied"},
		"no program":          {[]string{"--", garbage}, 126, "exec format error"},
		"its own flags":       {[]string{"-redis", "miniredis", "--", "sh", "-c", `exit "$1"`, "sh", "3"}, 3, ""},
		"help":                {[]string{"-h"}, 0, "usage: servers [flags] [--] CMD ARGS..."},
		"unknown flag":        {[]string{"-frobnicate"}, 2, "flag provided but not defined: -frobnicate"},
		"unknown redis":       {[]string{"-redis", "valkey", "--", "true"}, 2, `-redis: local: Redis is "valkey": must be "auto"`},
		"remote with a redis": {[]string{"-remote", "-redis", "miniredis", "--", "true"}, 2, `-redis is "miniredis": must not be set with -remote`},
		"a flag's no boolean": {[]string{"-v=maybe"}, 2, `invalid boolean value "maybe"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			status, stdout, stderr := outcome(t, program(t, tmp, tt.args...))
			if status != tt.status {
				t.Errorf("exit status %d, want %d", status, tt.status)
			}
			if stdout != "" || !strings.Contains(stderr, tt.stderr) || tt.stderr == "" && stderr != "" {
				t.Errorf("stdout %q, stderr %q, want %q there", stdout, stderr, tt.stderr)
			}
			awaitTidy(t, tmp)
		})
	}
}

func TestServersThatDoNotStart(t *testing.T) {
	tmp := t.TempDir()
	cmd := program(t, tmp, "-redis", "redis-server", "--", os.Args[0])
	cmd.Env = append(cmd.Env, "PATH="+t.TempDir())
	status, _, stderr := outcome(t, cmd)
	if status != 125 || !strings.HasPrefix(stderr, "servers: local: redis-server cannot be run: ") {
		t.Errorf("exit status %d, stderr %q", status, stderr)
	}
	awaitTidy(t, tmp)
}

func TestTheCommandUsesTheServers(t *testing.T) {
	for _, kind := range []string{local.RedisAuto, local.RedisMiniredis} {
		t.Run(kind, func(t *testing.T) {
			tmp := t.TempDir()
			cmd := program(t, tmp, "-redis", kind, "--", "env", asEnv+"=client", os.Args[0])
			if status, _, stderr := outcome(t, cmd); status != 42 || stderr != "" {
				t.Errorf("exit status %d, want 42; stderr:\n%s", status, stderr)
			}
			awaitTidy(t, tmp)
		})
	}
}

func TestTheCommandUsesServersElsewhere(t *testing.T) {
	servers, err := local.Start(t.Context(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer servers.Close()
	tmp := t.TempDir()
	cmd := program(t, tmp, "-remote", "--", "env", asEnv+"=client", os.Args[0])
	cmd.Env = append(cmd.Env, servers.Env()...)
	if status, _, stderr := outcome(t, cmd); status != 42 || stderr != "" {
		t.Errorf("exit status %d, want 42; stderr:\n%s", status, stderr)
	}
	awaitTidy(t, tmp)
	for _, name := range []string{control.Redis, control.MongoDB} {
		if st, err := control.Find(t.Context(), servers, name); err != nil || st.Starts != 1 {
			t.Errorf("the command restarted it: %+v, %v", st, err)
		}
	}
}

func TestServersElsewhereThatAreNotNamed(t *testing.T) {
	tmp := t.TempDir()
	cmd := program(t, tmp, "-remote", "--", "true")
	cmd.Env = append(cmd.Env, "REDIS_URL=", "MONGODB_URI=")
	if status, _, stderr := outcome(t, cmd); status != 125 || !strings.HasPrefix(stderr, "servers: local: REDIS_URL (not shown") {
		t.Errorf("exit status %d, stderr %q", status, stderr)
	}
	awaitTidy(t, tmp)
}

func TestVerboseShowsTheLogs(t *testing.T) {
	_, stdout, stderr := outcome(t, program(t, t.TempDir(), "-v", "--", "true"))
	if stdout != "" || !strings.Contains(stderr, "redis: ") || !strings.Contains(stderr, "mongodb: ") {
		t.Errorf("stdout %q, stderr:\n%s", stdout, stderr)
	}
}

// A running program is a child process. The test waits for lines of its output.
type running struct {
	*exec.Cmd
	tmp    string
	stdout *lineReader
}

func launch(t *testing.T, cmd *exec.Cmd, tmp string) running {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() { _ = errors.Join(cmd.Process.Kill(), r.Close()) })
	return running{cmd, tmp, &lineReader{t: t, file: r}}
}

func (r running) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := r.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// status waits for the end.
func (r running) status(t *testing.T) int {
	t.Helper()
	_ = r.Wait()
	return exitStatus(r.ProcessState)
}

// A lineReader finds lines in a program's output, in any order.
type lineReader struct {
	t     *testing.T
	file  *os.File
	lines []string // complete lines not yet returned
	part  string
}

// after waits for a line that begins with prefix and returns the rest of it.
func (l *lineReader) after(prefix string) string {
	l.t.Helper()
	_ = l.file.SetReadDeadline(time.Now().Add(patience))
	for {
		for i, line := range l.lines {
			if value, ok := strings.CutPrefix(line, prefix); ok {
				l.lines = slices.Delete(l.lines, i, i+1)
				return value
			}
		}
		buf := make([]byte, 4096)
		n, err := l.file.Read(buf)
		if err != nil {
			l.t.Fatalf("waiting for a line %q: %v; there are %q and %q", prefix, err, l.lines, l.part)
		}
		lines := strings.Split(strings.ReplaceAll(l.part+string(buf[:n]), "\r\n", "\n"), "\n")
		l.lines, l.part = append(l.lines, lines[:len(lines)-1]...), lines[len(lines)-1]
	}
}

func (l *lineReader) pidAfter(prefix string) int {
	l.t.Helper()
	pid, err := strconv.Atoi(l.after(prefix))
	if err != nil {
		l.t.Fatal(err)
	}
	return pid
}

// serverPIDs returns the process ids of the servers at url.
func serverPIDs(t *testing.T, url string) []int {
	t.Helper()
	c, err := control.New(url)
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Status(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("status %+v, %v", all, err)
	}
	return []int{all[0].PID, all[1].PID}
}

func awaitGone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("process %d has ended", pid), func() bool { return gone(pid) })
	}
}

func TestWithoutACommand(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			tmp := t.TempDir()
			p := launch(t, program(t, tmp), tmp)
			redisAddr := strings.TrimSuffix(p.stdout.after("export REDIS_URL=redis://"), "/0")
			p.stdout.after("export MONGODB_URI=mongodb://127.0.0.1:")
			p.stdout.after("export TOXIPROXY_URL=http://127.0.0.1:")
			pids := serverPIDs(t, p.stdout.after("export SERVERS_URL="))
			conn, err := net.Dial("tcp", redisAddr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			p.signal(t, sig)
			if status := p.status(t); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
			for _, pid := range pids {
				if !gone(pid) {
					t.Errorf("process %d still runs", pid)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// waits is a command that prints its process ids and the received signal, and does nothing else. It
// has a child.
const waits = `trap 'echo got INT; exit 3' INT; trap 'echo got TERM; exit 4' TERM; trap 'echo got HUP; exit 5' HUP
sh -c 'echo child=$$; exec tail -f /dev/null' & echo servers=$SERVERS_URL; echo command=$$
wait; wait`

func TestSignalsReachTheCommand(t *testing.T) {
	for sig, want := range map[syscall.Signal]struct {
		line   string
		status int
	}{
		syscall.SIGINT: {"got INT", 3}, syscall.SIGTERM: {"got TERM", 4}, syscall.SIGHUP: {"got HUP", 5},
	} {
		t.Run(sig.String(), func(t *testing.T) {
			tmp := t.TempDir()
			p := launch(t, program(t, tmp, "--", "sh", "-c", waits), tmp)
			child := p.stdout.pidAfter("child=")
			pids := serverPIDs(t, p.stdout.after("servers="))
			command := p.stdout.pidAfter("command=")
			p.signal(t, sig)
			p.stdout.after(want.line)
			if status := p.status(t); status != want.status {
				t.Errorf("exit status %d, want %d", status, want.status)
			}
			if sig != syscall.SIGINT { // a shell's background children ignore SIGINT
				awaitGone(t, child)
			} else {
				_ = syscall.Kill(child, syscall.SIGKILL)
			}
			awaitGone(t, append(pids, command)...)
			awaitTidy(t, tmp)
		})
	}
}

func TestNothingOutlivesServers(t *testing.T) {
	tmp := t.TempDir()
	p := launch(t, program(t, tmp, "--", "sh", "-c", waits), tmp)
	child := p.stdout.pidAfter("child=")
	pids := serverPIDs(t, p.stdout.after("servers="))
	command := p.stdout.pidAfter("command=")
	p.signal(t, syscall.SIGKILL)
	if status := p.status(t); status != 128+9 {
		t.Errorf("exit status %d", status)
	}
	awaitGone(t, append(pids, command, child)...)
	awaitTidy(t, tmp)
}

func TestServersEndWithTheirParent(t *testing.T) {
	for name, args := range map[string][]string{"with a command": {"--", "sh", "-c", waits}, "without one": nil} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			p := program(t, tmp, args...)
			p.Args = append([]string{"sh", "-c", `"$@" & echo program=$!; wait`, "sh", p.Path}, args...)
			p.Path = "/bin/sh"
			parent := launch(t, p, tmp)
			prog := parent.stdout.pidAfter("program=")
			prefix := "servers="
			if args == nil {
				prefix = "export SERVERS_URL="
			}
			pids := append(serverPIDs(t, parent.stdout.after(prefix)), prog)
			if args != nil {
				pids = append(pids, parent.stdout.pidAfter("command="))
			}
			parent.signal(t, syscall.SIGKILL)
			_ = parent.Wait()
			awaitGone(t, pids...)
			awaitTidy(t, tmp)
		})
	}
}

func TestACommandThatDoesNotEndIsKilled(t *testing.T) {
	// The same steps as in run, but without servers, and with a shorter patience.
	cmd := exec.Command("sh", "-c", `trap '' TERM; echo ready; while :; do tail -f /dev/null; done`)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	(&lineReader{t: t, file: r}).after("ready")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	interrupt(-cmd.Process.Pid, stopped{syscall.SIGTERM}, false, 50*time.Millisecond, ended)
	if status := exitStatus(cmd.ProcessState); status != 128+9 {
		t.Errorf("exit status %d, want 137", status)
	}
	// The copy ends only after the last process of the group.
	if n, err := io.Copy(io.Discard, r); n != 0 || err != nil {
		t.Error(n, err)
	}
}
