package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	toxiclient "github.com/Shopify/toxiproxy/v2/client"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
)

var both = []string{control.MongoDB, control.Redis}

func TestStartedServersAnswerAndListenOnLoopbackOnly(t *testing.T) {
	s := start(t, local.Options{})
	env := strings.Join(s.Env(), "\n")
	for _, want := range []string{
		"REDIS_URL=redis://127.0.0.1:", "MONGODB_URI=mongodb://127.0.0.1:",
		"TOXIPROXY_URL=http://127.0.0.1:", "SERVERS_URL=http://127.0.0.1:",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("Env has no %s:\n%s", want, env)
		}
	}
	remote, err := control.New(s.ControlURL())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range both {
		st := find(t, remote, name)
		if st != find(t, s, name) {
			t.Errorf("the remote status is %+v, the local one %+v", st, find(t, s, name))
		}
		if st.State != control.Running || st.PID == 0 || st.Starts != 1 || st.Exit != "" {
			t.Errorf("%s: %+v", name, st)
		}
		for _, addr := range []string{st.Addr, st.Proxy} {
			if host, _, _ := net.SplitHostPort(addr); host != "127.0.0.1" {
				t.Errorf("%s listens on %s", name, addr)
			}
		}
		db := connect(t, s, name)
		if err := db.ping(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAcknowledgedWritesOutlive(t *testing.T) {
	ends := map[string]func(*local.Servers, context.Context, string) error{"Kill": (*local.Servers).Kill, "Stop": (*local.Servers).Stop}
	for _, name := range both {
		for how, end := range ends {
			t.Run(name+"/"+how, func(t *testing.T) {
				if name == control.Redis {
					needRedisServer(t)
				}
				s := start(t, local.Options{})
				before := find(t, s, name)
				writer := connect(t, s, name)
				acknowledged, stopped := writeUntilError(t.Context(), writer)
				for range 100 {
					select {
					case <-acknowledged:
					case <-time.After(patience):
						t.Fatal("no 100 writes")
					}
				}
				if err := end(s, t.Context(), name); err != nil {
					t.Fatal(err)
				}
				if st := find(t, s, name); st.State == control.Running || st.PID != 0 || !gone(before.PID) {
					t.Errorf("after %s: %+v", how, st)
				}
				n := <-stopped

				if err := s.Restart(t.Context(), name); err != nil {
					t.Fatal(err)
				}
				after := find(t, s, name)
				if after.Addr != before.Addr || after.Proxy != before.Proxy || after.Starts != 2 || after.PID == before.PID {
					t.Errorf("before %+v, after %+v", before, after)
				}
				found := connect(t, s, name).numbers(t)
				for i := range n {
					if !found[i] {
						t.Errorf("acknowledged write %d of %d is gone; %d are there", i, n, len(found))
						break
					}
				}
			})
		}
	}
}

// writeUntilError writes numbers 0, 1, ... The channel acknowledged receives each acknowledged
// number. The channel stopped receives the count of acknowledged numbers after a failed write.
func writeUntilError(ctx context.Context, db client) (acknowledged <-chan int, stopped <-chan int) {
	acks, end := make(chan int, 1_000_000), make(chan int, 1)
	go func() {
		for i := 0; ; i++ {
			if err := db.write(ctx, i); err != nil {
				end <- i
				return
			}
			acks <- i
		}
	}()
	return acks, end
}

func TestMiniredisSaysThatItForgets(t *testing.T) {
	s := start(t, local.Options{Redis: local.RedisMiniredis})
	st := find(t, s, control.Redis)
	if st.Kind != control.KindMiniredis || st.Durable {
		t.Errorf("status: %+v", st)
	}
	db := connect(t, s, control.Redis)
	if err := db.write(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(t.Context(), control.Redis); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context(), control.Redis); err != nil {
		t.Fatal(err)
	}
	db = connect(t, s, control.Redis)
	if found := db.numbers(t); len(found) > 0 {
		t.Errorf("writes %v outlived a kill: then it is durable", found)
	}
	raw := db.(redisClient)
	if err := raw.Set(t.Context(), "brief", 1, 20*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a key expires", func() bool {
		n, err := raw.Exists(t.Context(), "brief").Result()
		return err == nil && n == 0
	})
}

func TestFreezeSilencesAndThawRevives(t *testing.T) {
	s := start(t, local.Options{})
	for _, name := range both {
		t.Run(name, func(t *testing.T) {
			db := connect(t, s, name)
			if err := db.ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Freeze(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a ping times out", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				err := db.ping(ctx)
				return err != nil && ctx.Err() != nil
			})
			if st := find(t, s, name); st.State != control.Frozen || st.PID == 0 {
				t.Errorf("frozen: %+v", st)
			}
			if err := s.Thaw(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a ping is answered", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				return db.ping(ctx) == nil
			})
			if st := find(t, s, name); st.State != control.Running || st.Starts != 1 {
				t.Errorf("thawed: %+v", st)
			}
		})
	}
}

func TestFrozenServersCanBeStoppedAndKilled(t *testing.T) {
	s := start(t, local.Options{})
	for _, end := range []func(context.Context, string) error{s.Stop, s.Kill, s.Restart} {
		if err := errors.Join(s.Restart(t.Context(), control.Redis), s.Freeze(t.Context(), control.Redis)); err != nil {
			t.Fatal(err)
		}
		if err := end(t.Context(), control.Redis); err != nil {
			t.Error(err)
		}
	}
	if st := find(t, s, control.Redis); st.State != control.Running {
		t.Errorf("after Restart: %+v", st)
	}
}

func TestAServerThatEndsByItselfIsSeen(t *testing.T) {
	s := start(t, local.Options{})
	for _, name := range both {
		if err := syscall.Kill(find(t, s, name).PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is exited", func() bool {
			st := find(t, s, name)
			return st.State == control.Exited && st.Exit == "signal: killed" && st.PID == 0
		})
		if err := s.Restart(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatAStateDoesNotAllow(t *testing.T) {
	s := start(t, local.Options{})
	ctx := t.Context()
	check := func(what string, err, want error, says string) {
		t.Helper()
		if !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %v that says %q", what, err, want, says)
		}
	}
	check("thaw of a running server", s.Thaw(ctx, control.Redis), control.ErrState,
		"thaw redis: not possible in its present state: it is running, not frozen")
	if err := s.Freeze(ctx, control.Redis); err != nil {
		t.Fatal(err)
	}
	check("freeze of a frozen server", s.Freeze(ctx, control.Redis), control.ErrState, "it is frozen, not running")
	if err := s.Kill(ctx, control.Redis); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func(context.Context, string) error{"stop": s.Stop, "kill": s.Kill, "freeze": s.Freeze, "thaw": s.Thaw} {
		check(what+" of a killed server", do(ctx, control.Redis), control.ErrState, "it has ended (signal: killed)")
	}
	for what, do := range map[string]func(context.Context, string) error{
		"stop": s.Stop, "kill": s.Kill, "freeze": s.Freeze, "thaw": s.Thaw, "restart": s.Restart,
	} {
		check(what+" of an unknown server", do(ctx, "mysql"), control.ErrUnknownServer, `"mysql" is not "redis" or "mongodb"`)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	check("restart with a context that has ended", s.Restart(cancelled, control.Redis), context.Canceled, "")
}

func TestToxicsWork(t *testing.T) {
	s := start(t, local.Options{})
	tp := toxiclient.NewClient(s.ToxiproxyURL())
	for _, name := range both {
		proxy, err := tp.Proxy(name)
		if err != nil {
			t.Fatal(err)
		}
		if st := find(t, s, name); proxy.Listen != st.Proxy || proxy.Upstream != st.Addr {
			t.Errorf("proxy %s: %s to %s, want %s to %s", name, proxy.Listen, proxy.Upstream, st.Proxy, st.Addr)
		}
		db := connect(t, s, name)
		if err := db.ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		const delay = 300
		if _, err := proxy.AddToxic("slow", "latency", "downstream", 1, toxiclient.Attributes{"latency": delay}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := db.ping(t.Context()); err != nil || time.Since(began) < delay*time.Millisecond {
			t.Errorf("%s: a ping through %d ms took %v, %v", name, delay, time.Since(began), err)
		}
		if err := proxy.RemoveToxic("slow"); err != nil {
			t.Fatal(err)
		}
		if err := db.ping(t.Context()); err != nil {
			t.Errorf("%s, healed: %v", name, err)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	s := start(t, local.Options{})
	status, _ := s.Status(t.Context())
	if made, _ := filepath.Glob(filepath.Join(tmp, "poolstack-servers-*")); len(made) != 1 {
		t.Errorf("temporary directories: %q, want one", made)
	}
	if err := s.Freeze(t.Context(), control.MongoDB); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	for _, st := range status {
		if !gone(st.PID) {
			t.Errorf("%s, process %d, still runs", st.Name, st.PID)
		}
		for _, addr := range []string{st.Addr, st.Proxy} {
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				t.Errorf("%s still listens on %s", st.Name, addr)
			}
		}
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := s.Restart(t.Context(), control.Redis); !errors.Is(err, local.ErrClosed) {
		t.Errorf("Restart after Close: %v", err)
	}
}

func TestCloseInterruptsAnOperation(t *testing.T) {
	s := start(t, local.Options{})
	db := connect(t, s, control.MongoDB)
	if err := db.ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := find(t, s, control.MongoDB).PID
	result := make(chan error, 1)
	// Stop takes three seconds, because a client is connected.
	go func() { result <- s.Stop(context.Background(), control.MongoDB) }()
	eventually(t, "FerretDB listens no longer", func() bool {
		conn, err := net.Dial("tcp", find(t, s, control.MongoDB).Addr)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, local.ErrClosed) {
		t.Errorf("Stop: %v, want ErrClosed", err)
	}
	if !gone(pid) {
		t.Errorf("process %d still runs", pid)
	}
}

func TestOptionsThatAreNotAllowed(t *testing.T) {
	_, err := local.Start(t.Context(), local.Options{Redis: "valkey"})
	const want = `local: Redis is "valkey": must be "auto" (default), "redis-server" or "miniredis"`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLogNamesTheServer(t *testing.T) {
	var log bytes.Buffer
	s, err := local.Start(t.Context(), local.Options{Redis: local.RedisMiniredis, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"mongodb: ", "redis: Ready", "toxiproxy: {"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no line begins with %q in:\n%s", want, log.String())
		}
	}
}

// fakeRedis puts a shell script named redis-server first on PATH.
func fakeRedis(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "redis-server"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestStartFailures(t *testing.T) {
	tests := map[string]struct {
		prepare func(t *testing.T)
		says    []string
	}{
		"no redis-server": {
			func(t *testing.T) { t.Setenv("PATH", t.TempDir()) },
			[]string{"local: redis-server cannot be run", "not found"},
		},
		"one that ends at once": {
			func(t *testing.T) { fakeRedis(t, "echo 'unknown directive appendonly'; echo giving up >&2; exit 3") },
			[]string{"local: redis (redis-server) did not start: exit status 3", "its last lines", "\tunknown directive appendonly", "\tgiving up"},
		},
		"one that is no program": {
			func(t *testing.T) {
				fakeRedis(t, "")
				path, _, _ := strings.Cut(os.Getenv("PATH"), ":")
				if err := os.WriteFile(filepath.Join(path, "redis-server"), []byte{0, 1}, 0o755); err != nil {
					t.Fatal(err)
				}
			},
			[]string{"local: redis (redis-server) cannot be run", "exec format error"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.prepare(t)
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			_, err := local.Start(t.Context(), local.Options{Redis: local.RedisServer})
			if err == nil {
				t.Fatal("it started")
			}
			for _, want := range tt.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error does not say %q:\n%v", want, err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestATakenPortIsNotTriedAgain(t *testing.T) {
	fakeRedis(t, `echo "$4" >> "$0.ports"; echo 'bind: Address already in use'; exit 1`)
	dir, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	if _, err := local.Start(t.Context(), local.Options{Redis: local.RedisServer}); err == nil {
		t.Fatal("it started")
	}
	tried, err := os.ReadFile(filepath.Join(dir, "redis-server.ports"))
	if err != nil {
		t.Fatal(err)
	}
	ports := strings.Fields(string(tried))
	if len(ports) != 3 || ports[0] == ports[1] && ports[1] == ports[2] {
		t.Errorf("tried ports %q, want three", ports)
	}
}

func TestAStartThatIsGivenUp(t *testing.T) {
	fakeRedis(t, `echo $$ > "$0.tmp"; mv "$0.tmp" "$0.pid"; exec tail -f /dev/null`)
	dir, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := local.Start(ctx, local.Options{Redis: local.RedisServer})
		result <- err
	}()
	var pid int
	eventually(t, "the server that never answers runs", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "redis-server.pid"))
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(text), &pid)
		return err == nil
	})
	enough := errors.New("enough")
	cancel(enough)
	if err := <-result; !errors.Is(err, enough) {
		t.Errorf("got %v, want the context's cause", err)
	}
	if !gone(pid) {
		t.Errorf("process %d still runs", pid)
	}
}

func ExampleStart() {
	ctx := context.Background()
	servers, err := local.Start(ctx, local.Options{})
	if err != nil {
		panic(err)
	}
	defer servers.Close()

	if err := servers.Freeze(ctx, control.MongoDB); err != nil {
		panic(err)
	}
	mongo, err := control.Find(ctx, servers, control.MongoDB)
	if err != nil {
		panic(err)
	}
	fmt.Println(mongo.Kind, "is", mongo.State)
	// Output: ferretdb is frozen
}
