package mongopool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	mongodriver "go.mongodb.org/mongo-driver/v2/x/mongo/driver"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

const patience = 10 * time.Second

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// newPool makes a driver and its pool, and closes the pool at the end of the test.
func newPool(t testing.TB, opts Options, cfg pool.Config, layers ...pool.Middleware) (*Driver, *pool.Pool[*Conn]) {
	t.Helper()
	d, err := NewDriver(opts)
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.NewPool(cfg, layers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(bounded(t)); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d, p
}

// monitors is how many connections a client keeps to the fake server besides those for commands.
const monitors = 1

func ping(ctx context.Context, c *Conn) error { return c.Client().Ping(ctx, nil) }

func TestWarmOpensSockets(t *testing.T) {
	const size = 20
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: size})
	if err := p.Warm(bounded(t), size); err != nil {
		t.Fatal(err)
	}
	if n := f.open(); n != size+monitors {
		t.Errorf("the server has %d connections, want %d and the driver's own", n, size)
	}
	if s := d.Stats(); s.Sockets != size || s.Clients != 1 || s.ServersUp != 1 {
		t.Errorf("stats %+v, want %d sockets, 1 client, 1 server", s, size)
	}
	if err := p.Close(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every connection is closed", func() bool { return f.open() == 0 })
	if s := d.Stats(); s.Sockets != 0 || s.Clients != 0 || s.SocketsOpened != s.SocketsClosed {
		t.Errorf("stats %+v after Close, want no socket and no client", s)
	}
}

// In a set, only the sockets to servers that satisfy the read preference count. MinIdle is kept at
// the other servers too.
func TestWarmInSet(t *testing.T) {
	const size = 6
	for _, preference := range []string{"primary", "secondary"} {
		primary, secondary, uri := newFakePair(t)
		wanted, other := primary, secondary
		if preference == "secondary" {
			wanted, other = secondary, primary
		}
		d, p := newPool(t, Options{URI: uri, ReadPreference: preference}, pool.Config{MaxSize: size, MinIdle: 2})
		if err := p.Warm(bounded(t), size); err != nil {
			t.Fatal(err)
		}
		if n := wanted.open(); n != size+monitors {
			t.Errorf("%s: %d connections to the server that is wanted, want %d and the driver's own", preference, n, size)
		}
		if n := len(other.commands("ping")); n != 0 {
			t.Errorf("%s: %d pings to the other server, want none", preference, n)
		}
		eventually(t, "the other server has its share", func() bool { return other.open() == 2+monitors && d.Stats().ServersUp == 2 })
		if h := p.Check(bounded(t)); h.Details["role"] != preference || h.Details["servers_up"] != "2" || h.Details["set"] != "rs0" {
			t.Errorf("%s: details %v, want that role, two servers, set rs0", preference, h.Details)
		}
		if id := d.Identity(); id.Address != "" || id.Port != 0 {
			t.Errorf("identity %+v, want no address of several", id)
		}
	}
}

// A set without a primary serves reads from its secondaries. The pool opens and checks its
// resources there, reports that it is degraded, and goes back to the primary when there is one
// again. Uses that need the primary wait for the primary by themselves.
func TestSetWithoutPrimary(t *testing.T) {
	primary, secondary, uri := newFakePair(t)
	deposed := slices.Clone(primary.hello)
	for i, e := range deposed {
		switch e.Key {
		case "isWritablePrimary":
			deposed[i].Value = false
		case "secondary":
			deposed[i].Value = true
		}
	}
	primary.script("hello", reply{doc: deposed})
	for _, f := range []*fakeServer{primary, secondary} {
		f.script("count", reply{doc: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}}})
	}
	_, p := newPool(t, Options{URI: uri + "&heartbeatFrequencyMS=500"}, pool.Config{MaxSize: 2, CheckAfter: 1})
	read := func(ctx context.Context, c *Conn) error {
		_, err := c.Collection("c", options.Collection().SetReadPreference(readpref.SecondaryPreferred())).EstimatedDocumentCount(ctx)
		return err
	}
	for range 3 { // by a new resource, and by one that is checked
		if err := p.Do(bounded(t), pool.Op{}, read); err != nil {
			t.Fatal(err)
		}
	}
	h := p.Check(bounded(t))
	if h.Status != pool.StatusDegraded || h.Details["role"] != "secondary" || !strings.Contains(strings.Join(h.Reasons, ""), "no primary") {
		t.Errorf("health %v, %v, %v: want degraded, a secondary, the reason", h.Status, h.Details, h.Reasons)
	}
	if err := p.Look(bounded(t)); err != nil {
		t.Errorf("Look: %v", err)
	}
	short, cancel := context.WithTimeout(bounded(t), 20*time.Millisecond)
	defer cancel()
	if err := p.Do(short, pool.Op{}, func(ctx context.Context, c *Conn) error {
		_, err := c.Collection("c").EstimatedDocumentCount(ctx)
		return err
	}); err == nil {
		t.Error("a read from the primary has succeeded")
	}
	primary.script("hello", reply{doc: primary.hello})
	eventually(t, "the primary is checked", func() bool {
		h := p.Check(bounded(t))
		return h.Status == pool.StatusOK && h.Details["role"] == "primary"
	})
}

// Sockets to another server, which a borrower has asked for, do not make a pool warm.
func TestWarmAfterOtherServer(t *testing.T) {
	const size = 4
	primary, secondary, uri := newFakePair(t)
	_, p := newPool(t, Options{URI: uri}, pool.Config{MaxSize: size})
	together := make(chan struct{})
	secondary.script("count", reply{after: together, doc: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}}})
	err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
		there := c.Collection("c", options.Collection().SetReadPreference(readpref.Secondary()))
		errs := make(chan error)
		for range size {
			go func() {
				_, err := there.EstimatedDocumentCount(ctx)
				errs <- err
			}()
		}
		eventually(t, "all have arrived", func() bool { return len(secondary.commands("count")) == size })
		close(together)
		return errors.Join(<-errs, <-errs, <-errs, <-errs)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Warm(bounded(t), size); err != nil {
		t.Fatal(err)
	}
	if n := primary.open(); n != size+monitors {
		t.Errorf("%d connections to the primary, want %d and the driver's own", n, size)
	}
}

// A server that accepts no more connections must not make Warm wait longer than its context allows.
func TestWarmIsBounded(t *testing.T) {
	f := newFake(t)
	never := make(chan struct{})
	defer close(never)
	f.script("ping", succeed, reply{after: never, drop: true})
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 4, OpenConcurrency: 1})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := p.Warm(ctx, 4); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Warm: %v, want context.DeadlineExceeded", err)
	}
}

// While new sockets hang, opening a resource does not ping on and on by the sockets that there are.
func TestOpenBesideHungDial(t *testing.T) {
	f := newFake(t)
	never := make(chan struct{})
	defer close(never)
	greeting := reply{doc: f.hello}
	f.script("hello", greeting, greeting, reply{after: never, drop: true}) // the monitor, and a socket
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 4, OpenConcurrency: 1})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := p.Warm(ctx, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Warm: %v, want context.DeadlineExceeded", err)
	}
	if n := len(f.commands("ping")); n > 100 {
		t.Errorf("%d pings within 300 ms while a dial hangs, want a few", n)
	}
}

// Leases that run several commands at once wait for each other in the driver: the server sees no
// more sockets than MaxSize.
func TestSocketsNeverExceedMaxSize(t *testing.T) {
	const size = 3
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{AcquireTimeout: patience, MaxSize: size})
	var most atomic.Int64
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				most.Store(max(most.Load(), int64(f.open()-monitors)))
				runtime.Gosched()
			}
		}
	})
	var borrowers sync.WaitGroup
	for range 2 * size {
		borrowers.Go(func() {
			for range 20 {
				err := p.Do(bounded(t), pool.Op{Name: "ping"}, func(ctx context.Context, c *Conn) error {
					errs := make(chan error)
					for range 4 {
						go func() { errs <- ping(ctx, c) }()
					}
					return errors.Join(<-errs, <-errs, <-errs, <-errs)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	borrowers.Wait()
	close(done)
	watch.Wait()
	if n := most.Load(); n != size {
		t.Errorf("up to %d sockets at once, want %d", n, size)
	}
	if s := d.Stats(); s.SocketWait == 0 || s.Commands != 2*size*20*4 {
		t.Errorf("stats %+v, want that some waited for a socket, and %d commands", s, 2*size*20*4)
	}
}

func TestConfigureLarger(t *testing.T) {
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 2})
	if err := p.Warm(bounded(t), 2); err != nil {
		t.Fatal(err)
	}
	lease, err := p.Acquire(bounded(t), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	before, _ := lease.Value()
	cfg := p.Config()
	cfg.MaxSize = 6
	if err := p.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	if err := p.Warm(bounded(t), 6); err != nil {
		t.Fatal(err)
	}
	if err := ping(bounded(t), before); err != nil {
		t.Errorf("a lease from before Configure: %v", err)
	}
	if size := d.current.Load().size; size != 6 {
		t.Errorf("the new client has room for %d, want 6", size)
	}
	lease.Release(nil)
	// A borrower would not wait for another socket.
	eventually(t, "all resources are idle", func() bool { return p.Stat().Idle == 6 })
	// The resource that was idle moves when it has been used, all of them being so at once.
	var leases []pool.Lease[*Conn]
	for range 6 {
		l, err := p.Acquire(bounded(t), pool.Op{})
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, l)
	}
	for _, l := range leases {
		l.Release(nil)
	}
	eventually(t, "the smaller client is gone", func() bool { return d.Stats().Clients == 1 && d.Stats().Sockets == 6 })
	eventually(t, "the server has as many sockets", func() bool { return f.open() == 6+monitors })
	if s := p.Stat(); s.Closed.Total() != 0 {
		t.Errorf("%d resources were closed, want none: %+v", s.Closed.Total(), s.Closed)
	}
}

// With the last resource goes the client; the next use makes another.
func TestClientComesAndGoes(t *testing.T) {
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{})
	for range 3 {
		if err := p.Do(bounded(t), pool.Op{}, ping); err != nil {
			t.Fatal(err)
		}
		if s := d.Stats(); s.Clients != 1 {
			t.Fatalf("%d clients, want 1", s.Clients)
		}
		p.Clear()
		eventually(t, "every connection is closed", func() bool { return f.open() == 0 && d.Stats().Clients == 0 })
	}
}

func TestRefusedConnection(t *testing.T) {
	f := newFake(t)
	f.stop()
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{})
	start := time.Now()
	err := p.Do(bounded(t), pool.Op{}, ping)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v to find out that nobody listens", took)
	}
	if !errors.Is(err, pool.ErrOpen) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the use ended with %v, want an open failure by a refused connection", err)
	}
	var own *pool.Error
	if !errors.As(err, &own) || own.Class().Fault != driver.FaultServer || own.Class().Repeat != driver.RepeatAlways {
		t.Errorf("the class of %v is %+v, want server, always", err, own.Class())
	}
	if n := d.Stats().Clients; n != 0 {
		t.Errorf("%d clients are left, want none", n)
	}
}

func TestServerDiesAndComesBack(t *testing.T) {
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 4})
	if err := p.Warm(bounded(t), 4); err != nil {
		t.Fatal(err)
	}
	started, release := make(chan struct{}), make(chan struct{})
	f.script("count", reply{after: release, drop: true})
	ended := make(chan error)
	go func() {
		ended <- p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
			close(started)
			_, err := c.Collection("c").EstimatedDocumentCount(ctx)
			return err
		})
	}()
	<-started
	eventually(t, "the command has arrived", func() bool { return len(f.commands("count")) > 0 })
	close(release)
	f.stop()
	err := <-ended
	if class := d.Classify(err); class.Fault != driver.FaultServer || class.Repeat != driver.RepeatIfIdempotent || class.Broken {
		t.Errorf("the class of %v is %+v, want server, if idempotent, not broken", err, class)
	}
	f.listen(f.address)
	start := time.Now()
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		err := p.Do(ctx, pool.Op{}, ping)
		cancel()
		if err == nil {
			break
		}
		if time.Since(start) > patience {
			t.Fatalf("the pool has not recovered after %v: %v", patience, err)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the pool was whole again after %v, want less than 2 s", took)
	}
	if err := p.Warm(bounded(t), 4); err != nil {
		t.Error(err)
	}
}

// A borrower that disconnects the shared client harms only the uses at that moment, and no later
// use.
func TestDisconnectedByBorrower(t *testing.T) {
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 2})
	if err := p.Warm(bounded(t), 2); err != nil {
		t.Fatal(err)
	}
	err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
		if err := c.Client().Disconnect(ctx); err != nil {
			return err
		}
		return ping(ctx, c)
	})
	if class := d.Classify(err); !errors.Is(err, mongo.ErrClientDisconnected) || !class.Broken || class.Fault != driver.FaultLocal {
		t.Errorf("the use ended with %v (%+v), want ErrClientDisconnected, broken, local", err, class)
	}
	eventually(t, "a use succeeds", func() bool { return p.Do(bounded(t), pool.Op{}, ping) == nil })
}

// A frozen server must not keep Close, which tells it that its sessions have ended.
func TestCloseWhileFrozen(t *testing.T) {
	f := newFakeSet(t)
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{CheckTimeout: 100 * time.Millisecond})
	err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
		// This runs in the driver's own session.
		_, err := c.Collection("c").InsertOne(ctx, bson.D{{Key: "a", Value: 1}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	never := make(chan struct{})
	defer close(never)
	f.script("endSessions", reply{after: never, drop: true})
	start := time.Now()
	if err := p.Close(bounded(t)); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Close took %v", took)
	}
	if len(f.commands("endSessions")) == 0 {
		t.Error("the server was not told that the session has ended")
	}
}

func TestCancelAndDeadline(t *testing.T) {
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
	never := make(chan struct{})
	defer close(never)
	f.script("find", reply{after: never, drop: true})
	find := func(ctx context.Context, c *Conn) error {
		_, err := c.Collection("c").Find(ctx, bson.D{})
		return err
	}
	for _, c := range []struct {
		name string
		ctx  func() (context.Context, context.CancelFunc)
		want error
	}{
		{"deadline", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 30*time.Millisecond)
		}, context.DeadlineExceeded},
		{"cancel", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(30*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := p.Warm(bounded(t), 1); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := c.ctx()
			defer cancel()
			start := time.Now()
			err := p.Do(ctx, pool.Op{}, find)
			if took := time.Since(start); took > time.Second {
				t.Errorf("it returned after %v", took)
			}
			if !errors.Is(err, c.want) {
				t.Errorf("it ended with %v, want %v", err, c.want)
			}
			if class := d.Classify(err); class.Broken {
				t.Errorf("the class of %v is %+v, want not broken", err, class)
			}
			if err := p.Do(bounded(t), pool.Op{}, ping); err != nil {
				t.Errorf("the next use: %v", err)
			}
		})
	}
}

func TestNewPoolTwice(t *testing.T) {
	d, _ := newPool(t, Options{Hosts: []string{"127.0.0.1:1"}, Database: "test"}, pool.Config{})
	if _, err := d.NewPool(pool.Config{}); err == nil {
		t.Error("a driver takes a second pool")
	}
}

// What is wrong with a pool's configuration or layers does not use the driver up.
func TestNewPoolAfterMistake(t *testing.T) {
	f := newFake(t)
	d := mustDriver(t, Options{URI: f.uri()})
	if _, err := d.NewPool(pool.Config{MaxSize: -1}); err == nil {
		t.Fatal("NewPool takes a negative MaxSize")
	}
	if _, err := d.NewPool(pool.Config{}, refusing{}); !errors.Is(err, errRefusing) {
		t.Fatalf("NewPool with a layer that refuses: %v, want its error", err)
	}
	p, err := d.NewPool(pool.Config{MaxSize: 3})
	if err != nil {
		t.Fatalf("NewPool after mistakes: %v", err)
	}
	defer func() { _ = p.Close(bounded(t)) }()
	if err := p.Do(bounded(t), pool.Op{}, ping); err != nil {
		t.Error(err)
	}
	if size := d.current.Load().size; size != 3 {
		t.Errorf("the client has room for %d, want 3: it knows another pool", size)
	}
	if _, err := d.NewPool(pool.Config{}); err == nil {
		t.Error("a driver takes a second pool")
	}
}

// refusing is a layer that attaches to no pool.
type refusing struct{}

var errRefusing = errors.New("not this pool")

func (refusing) Wrap(next pool.Handler) pool.Handler  { return next }
func (refusing) Attach(pool.PoolInfo) (func(), error) { return nil, errRefusing }

func TestNewRefusesBadConfig(t *testing.T) {
	if _, err := New(Options{Hosts: []string{"h"}, Database: "test"}, pool.Config{MaxSize: -1}); err == nil {
		t.Error("New takes a negative MaxSize")
	}
	if _, err := New(Options{}, pool.Config{}); err == nil {
		t.Error("New takes Options without a database")
	}
}

func TestIdentity(t *testing.T) {
	for _, c := range []struct {
		opts Options
		want driver.Identity
	}{
		{Options{URI: "mongodb://h:1234/db"}, driver.Identity{System: "mongodb", Address: "h", Port: 1234, Namespace: "db"}},
		{Options{URI: "mongodb://h/db"}, driver.Identity{System: "mongodb", Address: "h", Port: 27017, Namespace: "db"}},
		{Options{Database: "db"}, driver.Identity{System: "mongodb", Address: "localhost", Port: 27017, Namespace: "db"}},
		{Options{URI: "mongodb://h,i:1/db"}, driver.Identity{System: "mongodb", Namespace: "db"}},
		{Options{URI: "mongodb://[::1]:1/db"}, driver.Identity{System: "mongodb", Address: "::1", Port: 1, Namespace: "db"}},
		{Options{URI: "mongodb://%2Ftmp%2Fm.sock/db"}, driver.Identity{System: "mongodb", Address: "/tmp/m.sock", Namespace: "db"}},
	} {
		if got := mustDriver(t, c.opts).Identity(); got != c.want {
			t.Errorf("%+v: identity %+v, want %+v", c.opts, got, c.want)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := t.TempDir() + "/m.sock"
	f := newFake(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f.accept(l)
	t.Cleanup(func() { _ = l.Close() })
	_, p := newPool(t, Options{Hosts: []string{path}, Database: "test"}, pool.Config{})
	if err := p.Do(bounded(t), pool.Op{}, ping); err != nil {
		t.Error(err)
	}
}

// After the driver has closed all sockets, the opening of a resource opens a single socket, and no
// sockets for the other resources.
func TestOpenAfterCut(t *testing.T) {
	const size = 8
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: size + 1, CheckAfter: -1})
	if err := p.Warm(bounded(t), size); err != nil {
		t.Fatal(err)
	}
	if n := p.Stat().Opened; n != size {
		t.Skipf("%d resources were opened: on a machine this busy a dial was late, and the pool began another one beside it", n)
	}
	for i := range size {
		lease, err := p.Acquire(bounded(t), pool.Op{})
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Release(nil)
		if i > 0 {
			continue
		}
		f.script("count", reply{drop: true})
		conn, _ := lease.Value()
		if _, err := conn.Collection("c").EstimatedDocumentCount(lease.Context()); err == nil {
			t.Fatal("a command whose reply is lost has succeeded")
		}
		eventually(t, "the driver has given up all sockets", func() bool { return d.Stats().Sockets == 0 })
	}
	pings := len(f.commands("ping"))
	lease, err := p.Acquire(bounded(t), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(nil)
	if n := len(f.commands("ping")) - pings; n != 1 {
		t.Errorf("%d pings to open a resource, want 1", n)
	}
	if n := d.Stats().Sockets; n != 1 {
		t.Errorf("%d sockets after one resource was opened, want 1", n)
	}
}

// A client that has met the server while it was slow lets the driver hold back commands of callers
// with little time. The pool finds out that the server is fast again, and replaces the client.
func TestHeldBackCommand(t *testing.T) {
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{})
	use := func() (client *mongo.Client, pings int) {
		t.Helper()
		// The error of a client that knows the server as slow.
		held := fmt.Errorf("find: %w", mongodriver.ErrDeadlineWouldBeExceeded)
		err := p.Do(bounded(t), pool.Op{}, func(_ context.Context, c *Conn) error { client = c.Client(); return held })
		if !errors.Is(err, held) {
			t.Fatalf("the use ended with %v, want %v", err, held)
		}
		eventually(t, "the resource is idle again", func() bool { return p.Stat().Idle == 1 })
		return client, len(f.commands("ping"))
	}
	first, pings := use()
	if pings != 3 {
		t.Errorf("%d pings, want one for each client that was opened, and one to measure the server", pings)
	}
	if second, again := use(); second == first || again != pings {
		t.Errorf("client %p after %p, %d pings after %d: want another client, and no second measure within a second", second, first, again, pings)
	}
	if n := d.Stats().Clients; n != 1 {
		t.Errorf("%d clients, want 1", n)
	}
}

// A server that needs as long as the client knows keeps the client.
func TestHeldBackWithReason(t *testing.T) {
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{})
	lease, err := p.Acquire(bounded(t), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release(nil)
	conn, _ := lease.Value()
	before := conn.Client()
	conn.heldBack = time.Nanosecond
	if err := d.Reset(bounded(t), conn); err != nil {
		t.Fatal(err)
	}
	if conn.Client() != before || d.Dirty(conn) {
		t.Error("the client was replaced though the server was slower than the caller's time")
	}
}

// The driver sends no command that it takes for too late. So the driver must not know the deadline
// of a check.
func TestPingHasNoDeadline(t *testing.T) {
	f := newFake(t)
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{CheckAfter: time.Nanosecond})
	for range 2 {
		if err := p.Do(bounded(t), pool.Op{}, func(context.Context, *Conn) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	pings := f.commands("ping")
	if _, err := pings[len(pings)-1].doc.LookupErr("maxTimeMS"); err == nil || len(pings) < 2 {
		t.Errorf("%d pings, the last %v, want one without maxTimeMS for a check", len(pings), pings[len(pings)-1].doc)
	}
}
