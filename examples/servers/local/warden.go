package local

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// wardenPatience bounds the warden's attempts to remove the directory.
const wardenPatience = 5 * time.Second

// A warden is the parent's handle on the process that cleans up after the parent's death. The two
// share a pipe with a line for each event: "+PID" begins watching a process, and "-PID" ends
// watching. A negative PID is a group. When the pipe closes, the process kills the watched
// processes and removes the directory.
type warden struct {
	cmd *exec.Cmd

	mu   sync.Mutex
	pipe io.WriteCloser
}

func startWarden(h *host) (*warden, error) {
	cmd := h.child(roleWarden, "-dir", h.dir)
	cmd.Stdin = nil // the warden has its own pipe, not the lifeline
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &warden{cmd: cmd, pipe: pipe}, nil
}

func (w *warden) watch(pid int)  { w.tell("+", pid) }
func (w *warden) forget(pid int) { w.tell("-", pid) }

// tell writes a line. If the warden was killed, the line is lost, and the other two safeguards
// remain.
func (w *warden) tell(sign string, pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = fmt.Fprintf(w.pipe, "%s%d\n", sign, pid)
}

// close closes the pipe and waits for the end of the warden's process.
func (w *warden) close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.pipe.Close()
	timer := time.AfterFunc(2*wardenPatience, func() { _ = w.cmd.Process.Kill() })
	defer timer.Stop()
	_ = w.cmd.Wait()
}

// keepWatch runs in the warden's process. It reads lines until the pipe closes, kills the watched
// processes and removes dir.
func keepWatch(lines io.Reader, dir string) error {
	watched := make(map[int]bool)
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		if sign, pid, ok := parseWatch(scanner.Text()); !ok {
			continue
		} else if sign == '+' {
			watched[pid] = true
		} else {
			delete(watched, pid)
		}
	}
	for pid := range watched {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return removeAll(dir)
}

// removeAll removes dir. It retries, because dying processes may still create files in dir. After
// dir has been removed, no process can create a file in dir.
func removeAll(dir string) error {
	if dir == "" {
		return nil
	}
	for deadline := time.Now().Add(wardenPatience); ; time.Sleep(5 * time.Millisecond) {
		if err := os.RemoveAll(dir); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// parseWatch parses a line of the warden's pipe. It rejects 0 and -1, which kill(2) takes for
// several processes, and 1, which is the init process.
func parseWatch(line string) (sign byte, pid int, ok bool) {
	if len(line) < 2 || line[0] != '+' && line[0] != '-' {
		return 0, 0, false
	}
	pid, err := strconv.Atoi(line[1:])
	if err != nil || pid >= -1 && pid <= 1 {
		return 0, 0, false
	}
	return line[0], pid, true
}
