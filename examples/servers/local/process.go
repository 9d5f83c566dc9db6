package local

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// A process is a single process of a server, from its start to its end.
type process struct {
	cmd     *exec.Cmd
	journal *journal
	// The channel is closed after Wait has returned. Then cmd.ProcessState is valid.
	ended chan struct{}
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// exit describes the end of the process, such as "exit status 1" or "signal: killed". The process
// must have ended.
func (p *process) exit() string { return p.cmd.ProcessState.String() }

// signal sends sig. An error means the process has ended, and the callers watch p.ended.
func (p *process) signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// kill ends the process, even a frozen process, and waits for the end.
func (p *process) kill() error {
	p.signal(syscall.SIGKILL)
	timer := time.NewTimer(diePatience)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d still runs %v after SIGKILL", p.cmd.Process.Pid, diePatience)
	}
}

// A forker starts processes from a single thread, which lives as long as the forker. The reason is
// PR_SET_PDEATHSIG: Linux kills a child when the thread that forked the child ends, even if the
// thread's process continues (prctl(2)). Go may end a thread at any time.
type forker struct {
	jobs chan func()
	done chan struct{}
}

func newForker() *forker {
	f := &forker{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for job := range f.jobs {
			job()
		}
	}()
	return f
}

func (f *forker) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	f.jobs <- func() { result <- cmd.Start() }
	return <-result
}

// close ends the thread. No process may be started afterwards, and all started processes must have
// ended.
func (f *forker) close() {
	close(f.jobs)
	<-f.done
}

// A lifeline is a pipe without any data. The children read from the pipe. The kernel closes the
// pipe when this process ends, for whatever reason.
type lifeline struct {
	read, write *os.File
}

func newLifeline() (*lifeline, error) {
	r, w, err := os.Pipe() // both close on exec, so no child holds the writing end
	if err != nil {
		return nil, err
	}
	return &lifeline{r, w}, nil
}

func (l *lifeline) close() {
	if l != nil {
		_ = errors.Join(l.write.Close(), l.read.Close())
	}
}
