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

// A program is one that runs beside the test.
type program struct {
	name  string
	cmd   *exec.Cmd
	log   string        // the file it writes to
	ended chan struct{} // closed when it has ended
}

// run starts a program. It is asked to end when the test does, and killed if it does not or if the test's process dies.
func run(t *testing.T, servers *local.Servers, env []string, path string, args ...string) *program {
	t.Helper()
	p := &program{name: filepath.Base(path), cmd: exec.Command(path, args...), ended: make(chan struct{})}
	log, err := os.CreateTemp(t.TempDir(), p.name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the program has its own
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
		_ = p.cmd.Wait() // ProcessState tells it all
		forget()
	}()
	t.Cleanup(func() {
		if !p.end(syscall.SIGTERM) {
			t.Errorf("%s had to be killed:\n%s", p.name, p.lastWords())
		}
	})
	return p
}

// patience is how long a program may take to become ready, or to end.
const patience = 20 * time.Second

// end sends a signal and waits for the program's end, which it enforces after a while. It says whether that was not necessary.
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

// signal sends a signal to the program and what it has started, unless it has ended.
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

// output is all that the program has written.
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

// web leaves no connections behind, nor goroutines.
var web = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

// get returns what is at url.
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

// ask reads the member data of the JSON at url, as both Jaeger and Prometheus answer, into v.
func ask(url string, v any) error {
	body, err := get(url)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, &struct{ Data any }{v})
}
