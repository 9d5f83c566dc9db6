package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// mainEnv makes the test binary run main.
const mainEnv = "SERVICE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		if left := pooltest.Leaked(); len(left) > 0 {
			fmt.Fprintln(os.Stderr, strings.Join(left, "\n\n"))
			os.Exit(1)
		}
		return
	}
	os.Exit(pooltest.Main(m))
}

// The life of a process: ready, not ready while a server is away, ready again, and then a shutdown
// that waits for a request in progress.
func TestService(t *testing.T) {
	redis, mongo := behindProxy(t, "REDIS_URL"), behindProxy(t, "MONGODB_URI")
	s := start(t, redis.url, mongo.url)
	s.eventually(t, "/readyz", http.StatusOK)
	if code, body := s.get(t, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d %s", code, body)
	}
	if code, body := s.visit(t); code != http.StatusOK {
		t.Errorf("a visit: %d %s", code, body)
	}

	must(t, mongo.proxy.Disable())
	if body := s.eventually(t, "/readyz", http.StatusServiceUnavailable); !strings.Contains(body, `"store":{"reasons":[`) {
		t.Errorf("/readyz does not name the pool that is down: %s", body)
	}
	if code, body := s.get(t, "/livez"); code != http.StatusOK {
		t.Errorf("/livez without a server: %d %s", code, body)
	}
	must(t, mongo.proxy.Enable())
	s.eventually(t, "/readyz", http.StatusOK)

	// A request waits for the store when the signal comes.
	_, err := mongo.proxy.AddToxic("slow", "latency", "downstream", 1, toxiproxy.Attributes{"latency": 60_000})
	must(t, err)
	type reply struct {
		code int
		body string
	}
	visited := make(chan reply, 1)
	go func() {
		code, body := s.visit(t)
		visited <- reply{code, body}
	}()
	s.until(t, "a request is in progress", func() bool {
		_, page := s.get(t, "/metrics")
		return regexp.MustCompile(`db_client_connection_count\{.*pool_name="store".*state="used"\} 1`).MatchString(page)
	})
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	s.until(t, "the service accepts no request", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	must(t, mongo.proxy.RemoveToxic("slow"))
	if got := <-visited; got.code != http.StatusOK {
		t.Errorf("the request in progress at the signal: %d %s", got.code, got.body)
	}
	if err := s.wait(); err != nil {
		t.Errorf("the process ends with %v", err)
	}
}

// A service without its servers starts, and is alive and not ready.
func TestStartWithoutServers(t *testing.T) {
	s := start(t, "redis://127.0.0.1:1/0", "mongodb://127.0.0.1:1/")
	s.until(t, "the service has tried to warm its pools", func() bool {
		_, body := s.get(t, "/readyz")
		return strings.Contains(body, `"status":"down"`)
	})
	if code, _ := s.get(t, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
	must(t, s.cmd.Process.Signal(syscall.SIGTERM))
	if err := s.wait(); err != nil {
		t.Errorf("the process ends with %v", err)
	}
}

// A pool that is down makes the service not ready; a degraded pool does not.
func TestReadiness(t *testing.T) {
	for _, c := range []struct {
		ready       bool
		first, then pool.Status
		want        int
	}{
		{true, pool.StatusOK, pool.StatusOK, http.StatusOK},
		{true, pool.StatusOK, pool.StatusDegraded, http.StatusOK},
		{true, pool.StatusDown, pool.StatusOK, http.StatusServiceUnavailable},
		{false, pool.StatusOK, pool.StatusOK, http.StatusServiceUnavailable},
	} {
		w := httptest.NewRecorder()
		readiness(func() bool { return c.ready }, map[string]check{
			"a": func(context.Context) pool.Health { return pool.Health{Status: c.first} },
			"b": func(context.Context) pool.Health { return pool.Health{Status: c.then} },
		}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", http.NoBody))
		if w.Code != c.want {
			t.Errorf("%+v: %d %s", c, w.Code, w.Body)
		}
	}
}

// process is a running service.
type process struct {
	cmd    *exec.Cmd
	addr   string
	stderr chan string // the text printed after the address
	client *http.Client
}

// start starts the service in a process of its own.
func start(t *testing.T, redisURL, mongoURI string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, os.Args[0], "-addr", "127.0.0.1:0", "-drain", "0s")
	cmd.Env = append(os.Environ(), mainEnv+"=1", "REDIS_URL="+redisURL, "MONGODB_URI="+mongoURI)
	errors, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	s := &process{cmd: cmd, stderr: make(chan string, 1), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	lines := bufio.NewReader(errors)
	for s.addr == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the service has not started: %v", err)
		}
		_, s.addr, _ = strings.Cut(strings.TrimSpace(line), "addr=")
	}
	go func() {
		rest, _ := io.ReadAll(lines)
		s.stderr <- string(rest)
	}()
	t.Cleanup(func() {
		cancel()
		_ = s.wait()
		if t.Failed() {
			t.Logf("the service has said:\n%s", <-s.stderr)
		}
	})
	return s
}

// wait waits for the end of the process.
func (s *process) wait() error {
	if s.cmd.ProcessState != nil {
		return nil
	}
	rest := <-s.stderr // Wait closes the pipe, so first read to the end
	s.stderr <- rest
	return s.cmd.Wait()
}

func (s *process) get(t *testing.T, path string) (int, string) {
	return s.do(t, http.MethodGet, path)
}

func (s *process) visit(t *testing.T) (int, string) { return s.do(t, http.MethodPost, "/visits/home") }

func (s *process) do(t *testing.T, method, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+s.addr+path, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// eventually waits until path has the status want, and returns the page.
func (s *process) eventually(t *testing.T, path string, want int) (body string) {
	t.Helper()
	s.until(t, fmt.Sprintf("%s answers %d", path, want), func() bool {
		var code int
		code, body = s.get(t, path)
		return code == want
	})
	return body
}

func (s *process) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// proxied is a server behind a proxy that only this test uses.
type proxied struct {
	url   string
	proxy *toxiproxy.Proxy
}

// behindProxy makes a proxy in front of the server in the environment variable name.
func behindProxy(t *testing.T, name string) proxied {
	t.Helper()
	u, err := url.Parse(env(t, name))
	must(t, err)
	client := toxiproxy.NewClient(env(t, "TOXIPROXY_URL"))
	proxy, err := client.CreateProxy("service "+name, "127.0.0.1:0", u.Host)
	must(t, err)
	t.Cleanup(func() {
		must(t, proxy.Delete())
		if transport, ok := http.DefaultTransport.(*http.Transport); ok {
			transport.CloseIdleConnections() // of toxiproxy's client
		}
	})
	u.Host = proxy.Listen
	return proxied{u.String(), proxy}
}

func env(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not set, and CI is true", name)
		}
		t.Skipf("%s is not set: run the tests by make test", name)
	}
	return value
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
