package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// recorder is a Controller that records the calls and returns the configured errors.
type recorder struct {
	mu     sync.Mutex
	asked  []string
	fail   error
	status []control.Status
}

func (r *recorder) note(action, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, action+" "+name)
	return r.fail
}

func (r *recorder) Status(context.Context) ([]control.Status, error) { return r.status, r.fail }
func (r *recorder) Stop(_ context.Context, name string) error        { return r.note("stop", name) }
func (r *recorder) Kill(_ context.Context, name string) error        { return r.note("kill", name) }
func (r *recorder) Restart(_ context.Context, name string) error     { return r.note("restart", name) }
func (r *recorder) Freeze(_ context.Context, name string) error      { return r.note("freeze", name) }
func (r *recorder) Thaw(_ context.Context, name string) error        { return r.note("thaw", name) }

// serve returns a client for r.
func serve(t *testing.T, r *recorder) *control.Client {
	t.Helper()
	srv := httptest.NewServer(control.Handler(r))
	t.Cleanup(srv.Close)
	c, err := control.New(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEveryActionReachesTheController(t *testing.T) {
	r := &recorder{}
	c := serve(t, r)
	for _, do := range []func(context.Context, string) error{c.Stop, c.Restart, c.Kill, c.Freeze, c.Thaw} {
		if err := do(t.Context(), control.Redis); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"stop redis", "restart redis", "kill redis", "freeze redis", "thaw redis"}
	if !slices.Equal(r.asked, want) {
		t.Errorf("asked %q, want %q", r.asked, want)
	}
}

func TestStatusIsTheSameAtBothEnds(t *testing.T) {
	want := []control.Status{
		{
			Name: control.MongoDB, Kind: control.KindFerretDB, State: control.Killed, Durable: true, Starts: 2,
			Addr: "127.0.0.1:1", Proxy: "127.0.0.1:2", Exit: "signal: killed",
		},
		{Name: control.Redis, Kind: control.KindMiniredis, State: control.Running, PID: 12, Starts: 1, Addr: "127.0.0.1:3", Proxy: "127.0.0.1:4"},
	}
	c := serve(t, &recorder{status: want})
	got, err := c.Status(t.Context())
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Status: %+v, %v; want %+v", got, err, want)
	}
	one, err := control.Find(t.Context(), c, control.Redis)
	if err != nil || one != want[1] {
		t.Errorf("Find: %+v, %v; want %+v", one, err, want[1])
	}
	if _, err := control.Find(t.Context(), c, "mysql"); !errors.Is(err, control.ErrUnknownServer) {
		t.Errorf("Find of a server that is not there: %v", err)
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	other := errors.New("it does not answer after 20s")
	tests := map[string]struct {
		fail error
		is   error
	}{
		"unknown name": {control.Unknown("mysql"), control.ErrUnknownServer},
		"wrong state":  {fmt.Errorf("freeze redis: %w: it is stopped", control.ErrState), control.ErrState},
		"any other":    {other, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := serve(t, &recorder{fail: tt.fail})
			err := c.Freeze(t.Context(), control.Redis)
			if err == nil || !strings.Contains(err.Error(), tt.fail.Error()) {
				t.Fatalf("got %v, want it to say %q", err, tt.fail)
			}
			for _, sentinel := range []error{control.ErrUnknownServer, control.ErrState} {
				if errors.Is(err, sentinel) != (sentinel == tt.is) {
					t.Errorf("errors.Is(%v, %v) is %t", err, sentinel, errors.Is(err, sentinel))
				}
			}
			if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), tt.fail.Error()) {
				t.Errorf("Status: got %v, want it to say %q", err, tt.fail)
			}
		})
	}
}

func TestNamesThatAreNoPathElement(t *testing.T) {
	r := &recorder{}
	c := serve(t, r)
	for _, name := range []string{"", ".."} {
		if err := c.Kill(t.Context(), name); !errors.Is(err, control.ErrUnknownServer) {
			t.Errorf("Kill(%q): %v, want ErrUnknownServer", name, err)
		}
	}
	if len(r.asked) != 0 {
		t.Errorf("the controller was asked %q", r.asked)
	}
	if err := c.Kill(t.Context(), "a/b c"); err != nil || !slices.Equal(r.asked, []string{"kill a/b c"}) {
		t.Errorf("Kill(%q): %v, the controller was asked %q", "a/b c", err, r.asked)
	}
}

func TestNewRefusesWhatIsNoAddress(t *testing.T) {
	for base, want := range map[string]string{
		"":                               "must be http://HOST:PORT",
		"127.0.0.1:4711":                 "no URL",
		"https://127.0.0.1:1":            "must be http://HOST:PORT",
		"ftp://user:hunter2@127.0.0.1:1": "must be http://HOST:PORT",
		"http://user:hunter2@[::1:1":     "no URL",
	} {
		_, err := control.New(base)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%q): %v, want %q", base, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New shows the password: %v", err)
		}
	}
}

func TestFromEnv(t *testing.T) {
	t.Setenv(control.EnvServers, "")
	if _, err := control.FromEnv(); err == nil || !strings.Contains(err.Error(), "SERVERS_URL is not set") {
		t.Errorf("FromEnv without the variable: %v", err)
	}
	srv := httptest.NewServer(control.Handler(&recorder{status: []control.Status{{Name: control.Redis}}}))
	defer srv.Close()
	t.Setenv(control.EnvServers, srv.URL)
	c, err := control.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	if all, err := c.Status(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("Status: %v, %v", all, err)
	}
}

func TestAPageOfAnotherSiteIsRefused(t *testing.T) {
	r := &recorder{}
	req := httptest.NewRequest(http.MethodPost, "/servers/redis/kill", nil)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	answer := httptest.NewRecorder()
	control.Handler(r).ServeHTTP(answer, req)
	if answer.Code != http.StatusForbidden || len(r.asked) != 0 {
		t.Errorf("status %d, controller asked %q; want 403 and nothing", answer.Code, r.asked)
	}
}

func TestAnAnswerThatIsNotOurs(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>", http.StatusBadGateway)
	}))
	defer srv.Close()
	c, err := control.New(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), control.Redis); err == nil || !strings.Contains(err.Error(), "Bad Gateway") {
		t.Errorf("got %v, want it to say Bad Gateway", err)
	}
}

// A program run under `servers` kills Redis, reads the status, and restarts Redis.
func ExampleClient() {
	srv := httptest.NewServer(control.Handler(&recorder{status: []control.Status{
		{Name: control.Redis, Kind: control.KindRedisServer, State: control.Killed, Durable: true},
	}}))
	defer srv.Close()
	os.Setenv(control.EnvServers, srv.URL) // `servers -- PROGRAM` does this
	defer os.Unsetenv(control.EnvServers)

	servers, err := control.FromEnv()
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := servers.Kill(ctx, control.Redis); err != nil {
		panic(err)
	}
	redis, err := control.Find(ctx, servers, control.Redis)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s is %s; its data survives: %t\n", redis.Name, redis.State, redis.Durable)
	if err := servers.Restart(ctx, control.Redis); err != nil {
		panic(err)
	}
	// Output: redis is killed; its data survives: true
}
