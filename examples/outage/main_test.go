package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) {
	local.Child()
	os.Exit(pooltest.Main(m))
}

// startServers starts servers for this test alone, because the test disturbs the servers. It sets
// the environment for the program.
func startServers(t *testing.T) *local.Servers {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts servers")
	}
	servers, err := local.Start(t.Context(), local.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := servers.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, variable := range servers.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	return servers
}

// lenient is a configuration for a machine that runs other tests at the same time.
func lenient(duration time.Duration) config {
	return config{
		duration: duration, rate: 100, seed: 3, metrics: "127.0.0.1:0", recovery: 5 * time.Second, grace: 3 * time.Second,
	}
}

// A whole play with two acts. Both servers are killed and frozen.
func TestOutage(t *testing.T) {
	startServers(t)
	cfg := lenient(8 * time.Second)
	cfg.page = filepath.Join(t.TempDir(), "outage.html")
	script := plan(cfg.duration, cfg.seed, acts[2:])
	var out, notes bytes.Buffer
	status, err := perform(t.Context(), cfg, script, &out, &notes)
	if err != nil || status != exitHeld {
		t.Fatalf("status %d, %v\n%s", status, err, out.String())
	}
	for _, want := range []string{
		"redis    server killed", "redis    server frozen", "mongodb  server killed", "mongodb  server frozen",
		"breaker open", "breaker closed", "pool whole again", "What each layer did", "after 2 of 2 faults", "All invariants held.",
		"Drawn in " + cfg.page,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	drawnAsItWas(t, cfg.page, map[string][]trouble{control.Redis: {killed, frozen}, control.MongoDB: {frozen, killed}})
	if t.Failed() {
		t.Log(out.String())
	}
}

// A whole play in which MongoDB is a replica set.
func TestOutageOfAReplicaSet(t *testing.T) {
	startServers(t)
	cfg := lenient(8 * time.Second)
	cfg.set, cfg.page = true, filepath.Join(t.TempDir(), "outage.html")
	script := plan(cfg.duration, cfg.seed, cfg.acts()[2:])
	var out, notes bytes.Buffer
	status, err := perform(t.Context(), cfg, script, &out, &notes)
	if err != nil || status != exitHeld {
		t.Fatalf("status %d, %v\n%s", status, err, out.String())
	}
	for _, want := range []string{
		"redis    server killed", "redis    server frozen", "mongodb  primary steps down", "mongodb  primary killed", "mongodb  another primary after",
		"(ferretdb as a replica set of three)", "after 2 of 2 faults", "All invariants held.",
	} {
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("nothing says %q", want)
		}
	}
	drawnAsItWas(t, cfg.page, map[string][]trouble{control.Redis: {killed, frozen}, control.MongoDB: {steppedDown, primaryKilled}})
	if t.Failed() {
		t.Log(out.String())
	}
}

// A network fault affects each member of a replica set, and ends at each member.
func TestNetworkFaultsOfAReplicaSet(t *testing.T) {
	startServers(t)
	cfg := lenient(8 * time.Second)
	cfg.set = true
	script := plan(cfg.duration, cfg.seed, cfg.acts()[:2])
	var out bytes.Buffer
	if status, err := perform(t.Context(), cfg, script, &out, io.Discard); err != nil || status != exitHeld {
		t.Fatalf("status %d, %v\n%s", status, err, out.String())
	}
	for _, kind := range []trouble{resets, slow} { // began, lasted, first sign
		if !regexp.MustCompile("mongodb  " + kind.title() + ` +[0-9.]+ s +[0-9.]+[mµ]?s +[0-9.]+[mµ]?s `).Match(out.Bytes()) {
			t.Errorf("nothing failed at: %s\n%s", kind.title(), out.String())
		}
	}
}

// drawnAsItWas checks the page of a play with the faults.
func drawnAsItWas(t *testing.T, file string, faults map[string][]trouble) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for id, svg := range drawings(t, string(text)) {
		all := paths(t, svg)
		server, _, _ := strings.Cut(id, "-")
		for _, fault := range faults[server] {
			if n := len(with(all, lineStyle{colour: fault.tint()}, true)); n != 2 { // in two panels
				t.Errorf("%s: %s is shaded %d times", id, fault, n)
			}
		}
		// The run lasts 8 s. A busy machine records fewer points than planned.
		if strings.Contains(id, "throughput") && len(with(all, solid, false)[0].at) < 2*20 {
			t.Errorf("%s: the line has few points", id)
		}
	}
}

// A play without faults, and with an invariant that cannot hold.
func TestABrokenInvariantIsToldByTheStatus(t *testing.T) {
	startServers(t)
	cfg := lenient(time.Second)
	cfg.grace = -2 * deadline
	var out bytes.Buffer
	status, err := perform(t.Context(), cfg, nil, &out, io.Discard)
	if err != nil || status != exitBroken {
		t.Errorf("status %d, %v; want %d", status, err, exitBroken)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(out.String()) {
		if at, _, ok := strings.Cut(line, " s | "); ok && seen[at] {
			t.Errorf("two lines tell of the same second:\n%s", out.String())
		} else if ok {
			seen[at] = true
		}
	}
	for _, want := range []string{"BROKEN  redis: every operation ended by its deadline", "Not all invariants held."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("nothing says %q in:\n%s", want, out.String())
		}
	}
}

// Ctrl-C during a fault ends the fault, and the results so far are reported.
func TestInterrupted(t *testing.T) {
	servers := startServers(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := lenient(time.Minute)
	script := []fault{
		{server: control.Redis, kind: frozen, lasts: 30 * time.Second},
		{server: control.MongoDB, kind: slow, lasts: 30 * time.Second},
	}
	out := &trigger{on: "server frozen", do: cancel}
	status, err := perform(ctx, cfg, script, out, io.Discard)
	if err != nil || status != exitInterrupted {
		t.Errorf("status %d, %v; want %d\n%s", status, err, exitInterrupted, out.String())
	}
	if strings.Contains(out.String(), "not in time") || !strings.Contains(out.String(), "Interrupted") {
		t.Errorf("the report of an interrupted play:\n%s", out.String())
	}
	redis, err := control.Find(t.Context(), servers, control.Redis)
	if err != nil || redis.State != control.Running {
		t.Errorf("Redis is %v, %v", redis.State, err)
	}
}

// The play is repeated with the next seed until a signal comes. Meanwhile the probe succeeds.
func TestRepeated(t *testing.T) {
	startServers(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := lenient(8 * time.Second)
	cfg.repeat, cfg.metrics, cfg.page = true, freeAddress(t), filepath.Join(t.TempDir(), "outage.html")
	if err := probe(ctx, cfg.metrics); err == nil {
		t.Error("the probe finds a load before there is one")
	}
	var seen error
	first := &trigger{on: "server frozen", do: sync.OnceFunc(func() { seen = probe(ctx, cfg.metrics) })}
	second := &trigger{on: "Seed 4.", do: cancel}
	if status := playOn(ctx, cfg, io.MultiWriter(first, second), io.Discard); status != exitInterrupted {
		t.Errorf("status %d, want %d", status, exitInterrupted)
	}
	if seen != nil {
		t.Error("the probe: ", seen)
	}
	if text, err := os.ReadFile(cfg.page); err != nil || !strings.Contains(string(text), "Seed 4.") || strings.Contains(string(text), "Seed 3.") {
		t.Errorf("the page is not about the last play only: %d bytes, %v", len(text), err)
	}
	if !strings.Contains(second.String(), "Seed 3.") {
		t.Errorf("nothing tells of the first play:\n%s", second.String())
	}
	if err := probe(t.Context(), cfg.metrics); err == nil {
		t.Error("the probe still finds a load")
	}
}

// freeAddress returns a loopback address without a listener.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// A trigger is a buffer that calls a function after a text has been written.
type trigger struct {
	bytes.Buffer
	on string
	do func()
}

func (t *trigger) Write(b []byte) (int, error) {
	n, err := t.Buffer.Write(b)
	if strings.Contains(t.String(), t.on) {
		t.do()
	}
	return n, err
}

func TestRunWithoutServers(t *testing.T) {
	for name, tt := range map[string]struct {
		args   []string
		status int
		want   string
	}{
		"no servers":     {nil, exitNotPlayed, "SERVERS_URL is not set"},
		"wrong duration": {[]string{"-duration", "3s"}, exitNotPlayed, "-duration is 3s: must be between 15s and 1h0m0s"},
		"no such flag":   {[]string{"-verbose"}, exitNotPlayed, "not defined: -verbose"},
		"help":           {[]string{"-h"}, exitHeld, "-duration"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(control.EnvServers, "")
			var stderr bytes.Buffer
			if status := run(t.Context(), tt.args, io.Discard, &stderr); status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			if !strings.Contains(stderr.String(), tt.want) {
				t.Errorf("it says %q, want %q", stderr.String(), tt.want)
			}
		})
	}
}
