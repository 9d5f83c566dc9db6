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

// A process is one life of a server.
type process struct {
	cmd     *exec.Cmd
	journal *journal
	ended   chan struct{} // closed when it has been waited for; cmd.ProcessState is valid from then on
}

func (p *process) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// exit says how the process ended, which it must have: "exit status 1", "signal: killed".
func (p *process) exit() string { return p.cmd.ProcessState.String() }

// signal sends sig. That the process has ended meanwhile is no error; the callers look at p.ended.
func (p *process) signal(sig os.Signal) { _ = p.cmd.Process.Signal(sig) }

// kill ends the process, frozen or not, and waits for the end.
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

// A forker starts processes from one thread that lives as long as the forker. It must be so: Linux kills a process by PR_SET_PDEATHSIG
// when the thread that forked it ends, even if that thread's process goes on (prctl(2)), and Go ends threads when it likes.
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

// close ends the thread. Nothing may be started any more, and what was started must have ended.
func (f *forker) close() {
	close(f.jobs)
	<-f.done
}

// A lifeline is a pipe nobody writes to. Children read it; the kernel closes it when this process ends, however it does.
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
