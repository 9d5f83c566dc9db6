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

// wardenPatience bounds how long the warden tries to remove the directory.
const wardenPatience = 5 * time.Second

// A warden is the parent's end of the process that cleans up when the parent cannot. The two share a pipe with a line for each
// process: "+PID" to watch it (a negative one is a group), "-PID" when it has ended. When the pipe closes, what is still watched is
// killed, and the directory removed.
type warden struct {
	cmd *exec.Cmd

	mu   sync.Mutex
	pipe io.WriteCloser
}

func startWarden(h *host) (*warden, error) {
	cmd := h.child(roleWarden, "-dir", h.dir)
	cmd.Stdin = nil // its own pipe instead of the lifeline
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

// tell writes one line. A warden that somebody killed cannot be told; the other two safeguards remain.
func (w *warden) tell(sign string, pid int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = fmt.Fprintf(w.pipe, "%s%d\n", sign, pid)
}

// close has the warden do its work and waits for its end.
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

// keepWatch is the warden's own end: it reads lines until there are no more, kills what is left and removes dir.
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

// removeAll removes dir while processes that are being killed may still be making files in it. Once it is gone they cannot.
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

// parseWatch reads a line of the warden's pipe. It refuses what kill(2) takes for more than one process or group.
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
