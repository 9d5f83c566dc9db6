package local_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
)

// startRemote starts servers on this machine, and a Remote for the servers.
func startRemote(t *testing.T) *local.Remote {
	t.Helper()
	s := start(t, local.Options{})
	redis, mongodb := find(t, s, control.Redis).Addr, find(t, s, control.MongoDB).Addr
	r, err := local.StartRemote("redis://"+redis+"/0", "mongodb://"+mongodb+"/?replicaSet=rs0&appName=test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// answers reports whether a ping succeeds within a second.
func answers(ctx context.Context, db client) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return db.ping(ctx) == nil
}

func TestRemoteServersAreCutOffAndKeptSilent(t *testing.T) {
	r := startRemote(t)
	ctx := t.Context()
	for _, name := range both {
		t.Run(name, func(t *testing.T) {
			db := connect(t, r, name)
			eventually(t, "a ping is answered", func() bool { return answers(ctx, db) })
			for _, trouble := range []struct {
				begin, end func(context.Context, string) error
				state      control.State
			}{{r.Kill, r.Restart, control.Killed}, {r.Freeze, r.Thaw, control.Frozen}, {r.Stop, r.Restart, control.Stopped}} {
				if err := trouble.begin(ctx, name); err != nil {
					t.Fatal(err)
				}
				if answers(ctx, db) {
					t.Errorf("%s answers though it is %s", name, trouble.state)
				}
				if st := find(t, r, name); st.State != trouble.state || st.Kind != control.KindRemote || !st.Durable {
					t.Errorf("it says %+v, want %s", st, trouble.state)
				}
				if err := trouble.end(ctx, name); err != nil {
					t.Fatal(err)
				}
				eventually(t, "a ping is answered again", func() bool { return answers(ctx, db) })
			}
			if st := find(t, r, name); st.State != control.Running || st.Starts != 3 {
				t.Errorf("in the end: %+v", st)
			}
		})
	}
}

// A thawed server executes the commands sent while frozen, like a stopped process.
func TestAFrozenRemoteServerHearsLater(t *testing.T) {
	r := startRemote(t)
	for _, name := range both {
		db := connect(t, r, name)
		eventually(t, "a ping is answered", func() bool { return answers(t.Context(), db) })
		if err := r.Freeze(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		written := make(chan error, 1)
		go func() { written <- db.write(context.Background(), 7) }()
		select {
		case err := <-written:
			t.Errorf("%s: a write to a frozen server ended: %v", name, err)
		case <-time.After(300 * time.Millisecond):
		}
		if err := r.Thaw(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !db.numbers(t)[7] {
			t.Errorf("%s: the write is not there", name)
		}
	}
}

func TestFrozenRemoteServersCanBeStoppedAndKilled(t *testing.T) {
	r := startRemote(t)
	for _, name := range both {
		db := connect(t, r, name)
		for _, end := range []func(context.Context, string) error{r.Stop, r.Kill, r.Restart} {
			if err := errors.Join(r.Restart(t.Context(), name), r.Freeze(t.Context(), name)); err != nil {
				t.Fatal(err)
			}
			if answers(t.Context(), db) {
				t.Errorf("%s answers though it is frozen", name)
			}
			if err := end(t.Context(), name); err != nil {
				t.Error(err)
			}
		}
		eventually(t, "a ping is answered", func() bool { return answers(t.Context(), db) })
	}
}

func TestWhatARemoteServersStateDoesNotAllow(t *testing.T) {
	r := startRemote(t)
	ctx := t.Context()
	if err := r.Thaw(ctx, control.Redis); !errors.Is(err, control.ErrState) {
		t.Errorf("thaw of a running server: %v", err)
	}
	if err := r.Kill(ctx, control.Redis); err != nil {
		t.Fatal(err)
	}
	for what, do := range map[string]func(context.Context, string) error{"stop": r.Stop, "kill": r.Kill, "freeze": r.Freeze, "thaw": r.Thaw} {
		if err := do(ctx, control.Redis); !errors.Is(err, control.ErrState) || !strings.Contains(err.Error(), "it is killed") {
			t.Errorf("%s of a killed server: %v", what, err)
		}
		if err := do(ctx, "mysql"); !errors.Is(err, control.ErrUnknownServer) {
			t.Errorf("%s of an unknown server: %v", what, err)
		}
	}
}

// A URL keeps all parts besides the host. A MongoDB URI gets the options for a direct connection.
func TestRemoteURLs(t *testing.T) {
	r, err := local.StartRemote("redis://user:secret@localhost/3", "mongodb://user:secret@localhost?replicaSet=rs0&appName=test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for name, want := range map[string]struct{ given, addr, rest string }{
		control.Redis:   {r.RedisURL(), "localhost:6379", "redis://user:secret@PROXY/3"},
		control.MongoDB: {r.MongoDBURI(), "localhost:27017", "mongodb://user:secret@PROXY/?appName=test&directConnection=true"},
	} {
		st := find(t, r, name)
		u, err := url.Parse(want.given)
		if err != nil || u.Host != st.Proxy {
			t.Fatalf("%s: %s, %v; its proxy is at %s", name, want.given, err, st.Proxy)
		}
		u.Host = "PROXY"
		if st.Addr != want.addr || u.String() != want.rest {
			t.Errorf("%s at %s: %s, want %s at %s", name, st.Addr, u, want.rest, want.addr)
		}
	}
}

func TestRemoteURLsThatAreNotAllowed(t *testing.T) {
	const redis, mongodb = "redis://localhost:6379/0", "mongodb://localhost:27017/"
	for given, says := range map[[2]string]string{
		{"", mongodb}: "REDIS_URL", {"rediss://:secret@localhost", mongodb}: "redis://HOST:PORT",
		{"redis://:secret@", mongodb}: "redis://HOST:PORT", {"redis://:sec ret@localhost:1/%", mongodb}: "REDIS_URL",
		{redis, ""}: "MONGODB_URI", {redis, "mongodb+srv://user:secret@example.org/"}: "mongodb://HOST:PORT",
		{redis, "mongodb://user:secret@a:1,b:2/"}: "with one host",
	} {
		_, err := local.StartRemote(given[0], given[1], nil)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want an error that says %q and no secret", given, err, says)
		}
	}
}
