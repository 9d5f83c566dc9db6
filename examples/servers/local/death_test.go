package local_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/earnorm/poolstack/examples/servers/local"
)

func TestNothingOutlivesTheProgram(t *testing.T) {
	tests := map[string]struct {
		how string
		end func(t *testing.T, h held)
	}{
		"it exits without Close": {"exit", func(*testing.T, held) {}},
		"it panics":              {"panic", func(*testing.T, held) {}},
		"it is killed":           {"hold", func(t *testing.T, h held) { kill(t, h.cmd.Process.Pid, syscall.SIGKILL) }},
		"it is killed while its servers are frozen": {"hold", func(t *testing.T, h held) {
			for _, st := range h.status {
				kill(t, st.PID, syscall.SIGSTOP)
			}
			kill(t, h.cmd.Process.Pid, syscall.SIGKILL)
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := startHeld(t, tt.how)
			tt.end(t, h)
			_ = h.cmd.Wait()
			h.awaitGone(t)
			h.awaitTidy(t)
		})
	}
}

// The warden may be killed as well. Then only the kernel cleans up, and the directory remains.
func TestServersEndWithoutTheWarden(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills a server whose parent has died")
	}
	h := startHeld(t, "hold")
	wardens := children(t, h.cmd.Process.Pid, "warden")
	if len(wardens) != 1 {
		t.Fatalf("wardens: %v, want one", wardens)
	}
	kill(t, wardens[0], syscall.SIGKILL)
	eventually(t, "the warden is gone", func() bool { return gone(wardens[0]) })
	for _, st := range h.status {
		if gone(st.PID) {
			t.Errorf("%s ended with the warden", st.Name)
		}
	}
	kill(t, h.cmd.Process.Pid, syscall.SIGKILL)
	_ = h.cmd.Wait()
	h.awaitGone(t)
}

func TestAGuardedProcessEndsWithTheProgram(t *testing.T) {
	s := start(t, local.Options{})
	cmd := exec.Command("tail", "-f", "/dev/null")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.Guard(cmd.Process.Pid)
	// The process has not been forgotten, so the warden finds the process at its end.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := <-ended; !errors.As(err, &exit) || exit.String() != "signal: killed" {
		t.Errorf("it ended with %v", err)
	}
}

func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// children lists the child processes of parent whose name in ps contains name.
func children(t *testing.T, parent int, name string) []int {
	t.Helper()
	var found []int
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		_, after, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(after)
		cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if len(fields) > 1 && fields[1] == strconv.Itoa(parent) && strings.Contains(string(cmdline), name) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			found = append(found, pid)
		}
	}
	return found
}
