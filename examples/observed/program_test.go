package observed

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/local"
)

// A program is a process beside the test.
type program struct {
	name  string
	cmd   *exec.Cmd
	log   string        // the log file
	ended chan struct{} // closed at the end of the process
}

// run starts a program. At the end of the test run asks the program to end, and kills the program
// after patience. The program is also killed if the test's process dies.
func run(t *testing.T, servers *local.Servers, env []string, path string, args ...string) *program {
	t.Helper()
	p := &program{name: filepath.Base(path), cmd: exec.Command(path, args...), ended: make(chan struct{})}
	log, err := os.CreateTemp(t.TempDir(), p.name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the child has its own file descriptor
	p.log = log.Name()
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	forget := servers.Guard(-p.cmd.Process.Pid)
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the result is in ProcessState
		forget()
	}()
	t.Cleanup(func() {
		if !p.end(syscall.SIGTERM) {
			t.Errorf("%s had to be killed:\n%s", p.name, p.lastWords())
		}
	})
	return p
}

// patience bounds a program's start and end.
const patience = 20 * time.Second

// end sends a signal and waits for the end of the program. After patience it kills the program and
// returns false.
func (p *program) end(by syscall.Signal) bool {
	p.signal(by)
	select {
	case <-p.ended:
		return true
	case <-time.After(patience):
		p.signal(syscall.SIGKILL)
		<-p.ended
		return false
	}
}

// signal sends a signal to the program and its children, unless the program has ended.
func (p *program) signal(s syscall.Signal) {
	if !p.over() {
		_ = syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

func (p *program) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// awaitReady waits until url answers.
func (p *program) awaitReady(t *testing.T, url string) {
	t.Helper()
	eventually(t, patience, p.name+" is ready", func() error {
		if p.over() {
			t.Fatalf("%s has ended, %v:\n%s", p.name, p.cmd.ProcessState, p.lastWords())
		}
		_, err := get(url)
		return err
	})
}

// output returns the content of the log.
func (p *program) output() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func (p *program) lastWords() string {
	lines := strings.Split(strings.TrimSpace(p.output()), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// web keeps no connections and leaves no goroutines.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

// get returns the content at url.
func get(url string) ([]byte, error) {
	resp, err := web.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %.300s", url, resp.Status, body)
	}
	return body, err
}

// ask decodes the member data of the JSON at url into v. Both Jaeger and Prometheus respond in this
// form.
func ask(url string, v any) error {
	body, err := get(url)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, &struct{ Data any }{v})
}
