package mongopool

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// listener is a layer that notes events and commands.
type listener struct {
	mu       sync.Mutex
	events   []pool.Event
	commands []driver.Command
	ended    []driver.Class
	contexts int // EndCommands that got what BeginCommand returned
}

type listenerKey struct{}

func (l *listener) Begin(ctx context.Context, _ *pool.Call) (context.Context, int, error) {
	return ctx, 0, nil
}
func (l *listener) End(context.Context, *pool.Call, int, error) {}

func (l *listener) Observe(_ context.Context, e pool.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *listener) BeginCommand(ctx context.Context, _ *pool.Call, cmd driver.Command) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commands = append(l.commands, cmd)
	return context.WithValue(ctx, listenerKey{}, cmd)
}

func (l *listener) EndCommand(ctx context.Context, c *pool.Call, cmd driver.Command, err error) {
	class := c.Classify(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Value(listenerKey{}) == cmd {
		l.contexts++
	}
	l.ended = append(l.ended, class)
}

// count returns how many events of a kind there were, and the last.
func (l *listener) count(kind pool.EventKind) (n int, last pool.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Kind == kind && e.Layer == layerName {
			n++
			last = e
		}
	}
	return n, last
}

func TestCommandsAreObserved(t *testing.T) {
	f := newFake(t)
	const value = "a value that nobody must see"
	f.script("find", reply{doc: bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: 2}, {Key: "errmsg", Value: "bad value"}}})
	for _, inTwoSteps := range []bool{false, true} {
		l := &listener{}
		d, p := newPool(t, Options{URI: f.uri()}, pool.Config{Name: "p"}, pool.Chain(pool.Bracket(l)))
		use := func(ctx context.Context, c *Conn) error {
			if _, err := c.Collection("people").InsertOne(ctx, bson.D{{Key: "name", Value: value}}); err != nil {
				return err
			}
			if err := c.DatabaseNamed("other").RunCommand(ctx, bson.D{{Key: "usersInfo", Value: value}}).Err(); err != nil {
				return err
			}
			if err := c.Collection("people").FindOne(ctx, bson.D{{Key: "name", Value: value}}).Err(); err == nil {
				return errors.New("the scripted failure did not come")
			}
			return nil
		}
		if inTwoSteps {
			lease, err := p.Acquire(bounded(t), pool.Op{})
			if err != nil {
				t.Fatal(err)
			}
			conn, _ := lease.Value()
			if err := use(lease.Context(), conn); err != nil {
				t.Fatal(err)
			}
			lease.Release(nil)
		} else if err := p.Do(bounded(t), pool.Op{}, use); err != nil {
			t.Fatal(err)
		}
		want := []driver.Command{
			{Name: "insert", Target: "people", Server: f.address},
			{Name: "usersInfo", OnDatabase: true, Namespace: "other", Server: f.address}, // its first value is a user's name
			{Name: "find", Target: "people", Server: f.address},
		}
		if !slices.Equal(l.commands, want) {
			t.Errorf("two steps %t: commands %+v, want %+v", inTwoSteps, l.commands, want)
		}
		ended := []driver.Class{{}, {}, {Code: "2", Type: "2"}}
		if !slices.Equal(l.ended, ended) || l.contexts != 3 {
			t.Errorf("two steps %t: ended %+v with %d contexts, want %+v with 3", inTwoSteps, l.ended, l.contexts, ended)
		}
		d.commands.open.Range(func(any, any) bool {
			t.Error("a command is still noted as open")
			return false
		})
	}
}

func TestSocketEvents(t *testing.T) {
	f := newFake(t)
	l := &listener{}
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{Name: "p", MaxSize: 2}, pool.Bracket(l))
	if err := p.Warm(bounded(t), 2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two sockets are reported", func() bool {
		n, e := l.count(EventSocketOpened)
		return n == 2 && e.Pool == "p" && e.Duration > 0
	})
	if n, e := l.count(EventServerChanged); n != 1 || e.From != "Unknown" || e.To != "Standalone" || e.Reason != f.address {
		t.Errorf("%d changes of the server, the last %+v, want one from Unknown to Standalone", n, e)
	}
	f.script("count", reply{drop: true})
	if err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
		_, err := c.Collection("c").EstimatedDocumentCount(ctx)
		return err
	}); err == nil {
		t.Fatal("a use succeeds whose reply was lost")
	}
	eventually(t, "the sockets are reported as given up", func() bool {
		cleared, e := l.count(EventSocketsCleared)
		closed, _ := l.count(EventSocketClosed)
		return cleared == 1 && closed == 2 && e.Err != nil
	})
	if s := d.Stats(); s.Cleared != 1 || s.SocketsClosed != 2 || s.EventsDropped != 0 {
		t.Errorf("stats %+v, want 1 cleared, 2 closed, none dropped", s)
	}
}

// An observer that does not come back must not keep the driver, and is told less.
func TestSlowObserver(t *testing.T) {
	var drops atomic.Uint64
	stuck := make(chan struct{})
	c := newCourier(func(pool.Event) { <-stuck }, &drops)
	for range courierCapacity + 10 {
		c.send(pool.Event{})
	}
	close(stuck)
	c.stop()
	if n := drops.Load(); n < 9 || n > 10 {
		t.Errorf("%d events were dropped, want 9 or 10", n)
	}
	c.send(pool.Event{}) // too late, and harmless
}

func TestTune(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	seen := map[string]int{}
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		seen[what]++
	}
	d, p := newPool(t, Options{URI: f.uri(), Tune: func(co *options.ClientOptions) {
		co.SetPoolMonitor(&event.PoolMonitor{Event: func(*event.PoolEvent) { note("pool") }})
		co.SetServerMonitor(&event.ServerMonitor{
			ServerDescriptionChanged: func(*event.ServerDescriptionChangedEvent) { note("server") },
			TopologyOpening:          func(*event.TopologyOpeningEvent) { note("topology") },
		})
		co.SetMonitor(&event.CommandMonitor{
			Started:   func(context.Context, *event.CommandStartedEvent) { note("started") },
			Succeeded: func(context.Context, *event.CommandSucceededEvent) { note("succeeded") },
		})
		note("tuned")
	}}, pool.Config{OpenConcurrency: 1}) // no second dial beside a late one
	for range 2 {
		if err := p.Do(bounded(t), pool.Op{}, ping); err != nil {
			t.Fatal(err)
		}
		p.Clear()
		eventually(t, "the client is gone", func() bool { return d.Stats().Clients == 0 })
	}
	mu.Lock()
	defer mu.Unlock()
	for _, what := range []string{"pool", "server", "topology", "started", "succeeded"} {
		if seen[what] == 0 {
			t.Errorf("the user's %s monitor has seen nothing", what)
		}
	}
	if seen["tuned"] != 1 {
		t.Errorf("Tune was called %d times, want once", seen["tuned"])
	}
	if s := d.Stats(); s.Commands != 2 || s.SocketsOpened != 2 || s.ServerChanges == 0 {
		t.Errorf("stats %+v, want 2 commands, 2 sockets: the pool's own monitors must go on", s)
	}
}

func TestTuneKeepsOff(t *testing.T) {
	for name, tune := range map[string]func(*options.ClientOptions){
		"MaxPoolSize":        func(co *options.ClientOptions) { co.SetMaxPoolSize(1) },
		"MinPoolSize":        func(co *options.ClientOptions) { co.SetMinPoolSize(1) },
		"MaxConnecting":      func(co *options.ClientOptions) { co.SetMaxConnecting(1) },
		"MaxConnIdleTime":    func(co *options.ClientOptions) { co.SetMaxConnIdleTime(1) },
		"Timeout":            func(co *options.ClientOptions) { co.SetTimeout(1) },
		"RetryReads":         func(co *options.ClientOptions) { co.SetRetryReads(true) },
		"RetryWrites":        func(co *options.ClientOptions) { co.SetRetryWrites(true) },
		"MaxAdaptiveRetries": func(co *options.ClientOptions) { co.SetMaxAdaptiveRetries(3) },
	} {
		_, err := NewDriver(Options{Database: "test", Tune: tune})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Tune sets %s: the error is %v", name, err)
		}
	}
}

// A client is silent only after twice the latest round trip: a new client would find the same slow
// server.
func TestSilenceOfSlowServer(t *testing.T) {
	const slow = 2 * time.Second
	for _, c := range []struct {
		name string
		tell func(*meter)
		want time.Duration // until the client is silent
	}{
		{"nothing is known", func(*meter) {}, defaultPatience},
		{"slow socket", func(m *meter) { m.poolEvent(&event.PoolEvent{Type: event.ConnectionReady, Duration: slow}) }, 2 * slow},
		{"slow greeting", func(m *meter) { m.heartbeatSucceeded(&event.ServerHeartbeatSucceededEvent{Duration: slow}) }, 2 * slow},
		{"a greeting that was to wait", func(m *meter) {
			m.heartbeatSucceeded(&event.ServerHeartbeatSucceededEvent{Duration: slow, Awaited: true})
		}, defaultPatience},
		{"slow ping", func(m *meter) {
			ctx, _ := newErrand(context.Background())
			(&commands{totals: m.totals}).ended(ctx, event.CommandFinishedEvent{CommandName: "ping", Duration: slow}, nil, nil)
		}, 2 * slow},
		{"slow, and quick again", func(m *meter) {
			m.heartbeatSucceeded(&event.ServerHeartbeatSucceededEvent{Duration: slow})
			m.heartbeatSucceeded(&event.ServerHeartbeatSucceededEvent{Duration: time.Millisecond})
		}, defaultPatience},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMeter(&totals{}, nil)
				c.tell(m)
				defer m.awaitAnswer(defaultPatience)()
				time.Sleep(c.want - time.Millisecond)
				if m.silent.Load() {
					t.Errorf("the client is silent before %v", c.want)
				}
				time.Sleep(2 * time.Millisecond)
				if !m.silent.Load() {
					t.Errorf("the client is not silent after %v", c.want)
				}
			})
		})
	}
}

// A member of a set is dead, and its checks fail again and again. The other member needs longer to
// answer, and Open waits for its answer.
func TestOpenWithADeadMember(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close() // nothing listens there
	f := newFakeSet(t)
	slow := lateProxy(t, f.address, 1200*time.Millisecond)
	for i, e := range f.hello {
		switch e.Key {
		case "hosts":
			f.hello[i].Value = bson.A{dead.Addr().String(), slow}
		case "me", "primary":
			f.hello[i].Value = slow
		}
	}
	_, p := newPool(t, Options{Hosts: []string{dead.Addr().String(), slow}, ReplicaSet: "rs0", Database: "test"}, pool.Config{MaxSize: 1})
	if err := p.Warm(bounded(t), 1); err != nil || p.Stat().OpenFailures > 0 {
		t.Errorf("%v; %+v", err, p.Stat())
	}
}

// lateProxy passes on what comes in, after a time for each connection.
func lateProxy(t *testing.T, target string, late time.Duration) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			all.Go(func() {
				defer func() { _ = c.Close() }()
				select {
				case <-time.After(late):
				case <-ctx.Done():
					return
				}
				s, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer context.AfterFunc(ctx, func() { _ = c.Close(); _ = s.Close() })()
				all.Go(func() { _, _ = io.Copy(c, s); _ = c.Close() })
				_, _ = io.Copy(s, c)
				_ = s.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); stop(); all.Wait() })
	return l.Addr().String()
}
