package mongolive

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

var servers *local.Servers

func TestMain(m *testing.M) {
	local.Child()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if servers, err = local.Start(ctx, local.Options{}); err != nil {
		panic(err)
	}
	status := m.Run()
	if err := servers.Close(); err != nil {
		panic(err)
	}
	// A fault that cuts a link during a transfer may leave a goroutine of toxiproxy behind.
	if left := pooltest.Leaked("/toxiproxy/v2/toxics."); status == 0 && len(left) > 0 {
		panic(strings.Join(left, "\n\n"))
	}
	return status
}

const (
	patience = 20 * time.Second
	// recovery is the maximum time for the pool to recover after the server's return.
	recovery = 2 * time.Second
	database = "mongolive"
)

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func newPool(t *testing.T, cfg pool.Config) (*mongopool.Driver, *pool.Pool[*mongopool.Conn]) {
	t.Helper()
	d, err := mongopool.NewDriver(mongopool.Options{URI: servers.MongoDBURI(), Database: database})
	if err != nil {
		t.Fatal(err)
	}
	p, err := d.NewPool(cfg)
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

func ping(ctx context.Context, c *mongopool.Conn) error { return c.Client().Ping(ctx, nil) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// whole waits until every resource of a pool serves at the same time. It fails the test after too
// long.
func whole(t *testing.T, p *pool.Pool[*mongopool.Conn]) {
	t.Helper()
	start := time.Now()
	for {
		errs := make(chan error)
		size := p.Effective().MaxSize
		for range size {
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
				defer cancel()
				errs <- p.Do(ctx, pool.Op{Name: "ping"}, ping)
			}()
		}
		var err error
		for range size {
			err = errors.Join(err, <-errs)
		}
		took := time.Since(start)
		if err == nil {
			t.Logf("whole again after %v", took)
			if took > recovery {
				t.Errorf("the pool was whole again after %v, want at most %v", took, recovery)
			}
			return
		}
		if took > patience {
			t.Fatalf("not whole again after %v: %v", took, err)
		}
	}
}

// journal records the result of each write.
type journal struct {
	mu           sync.Mutex
	next         int
	acknowledged map[int]bool
	failed       map[int]error
}

func (j *journal) number() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next++
	return j.next
}

func (j *journal) note(n int, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.failed[n] = err
	} else {
		j.acknowledged[n] = true
	}
}

func (j *journal) acknowledgements() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.acknowledged)
}

// The server is killed under load and comes back. Every write ends in time, every acknowledged
// write is there, and no write is there twice.
func TestKilledUnderLoad(t *testing.T) {
	const writers, limit = 16, time.Second
	d, p := newPool(t, pool.Config{MaxSize: 8})
	must(t, p.Warm(bounded(t), 8))
	must(t, p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *mongopool.Conn) error {
		return c.Collection("numbers").Drop(ctx)
	}))
	j := &journal{acknowledged: map[int]bool{}, failed: map[int]error{}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := j.number()
				ctx, cancel := context.WithTimeout(context.Background(), limit)
				start := time.Now()
				err := p.Do(ctx, pool.Op{Name: "insert", Target: "numbers"}, func(ctx context.Context, c *mongopool.Conn) error {
					_, err := c.Collection("numbers").InsertOne(ctx, bson.D{{Key: "n", Value: n}})
					return err
				})
				cancel()
				j.note(n, err)
				if took := time.Since(start); took > limit+500*time.Millisecond {
					t.Errorf("a write took %v, with a limit of %v", took, limit)
				}
				if class := d.Classify(err); err != nil && class.Broken {
					t.Errorf("the class of %v is %+v, want not broken", err, class)
				}
			}
		})
	}
	loaded := func(n int) {
		t.Helper()
		for start := time.Now(); j.acknowledgements() < n; {
			if time.Since(start) > patience {
				t.Fatalf("only %d writes were acknowledged, want %d", j.acknowledgements(), n)
			}
			must(t, p.Do(bounded(t), pool.Op{}, ping))
		}
	}
	loaded(100)
	must(t, servers.Kill(bounded(t), control.MongoDB))
	must(t, servers.Restart(bounded(t), control.MongoDB))
	whole(t, p)
	loaded(j.acknowledgements() + 100)
	close(stop)
	wg.Wait()

	found := map[int]int{}
	must(t, p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *mongopool.Conn) error {
		cursor, err := c.Collection("numbers").Find(ctx, bson.D{})
		if err != nil {
			return err
		}
		defer func() { _ = cursor.Close(ctx) }()
		for cursor.Next(ctx) {
			found[int(cursor.Current.Lookup("n").AsInt64())]++
		}
		return cursor.Err()
	}))
	for n := range j.acknowledged {
		if found[n] == 0 {
			t.Errorf("write %d was acknowledged and is lost", n)
		}
	}
	unsure := 0
	for n, times := range found {
		if times > 1 {
			t.Errorf("write %d was carried out %d times", n, times)
		}
		if !j.acknowledged[n] {
			unsure++
		}
	}
	if len(j.failed) == 0 {
		t.Error("no write failed while the server was gone")
	}
	t.Logf("%d acknowledged, %d failed, of them %d carried out; %+v", len(j.acknowledged), len(j.failed), unsure, d.Stats())
}

func TestKilledDuringUse(t *testing.T) {
	d, p := newPool(t, pool.Config{MaxSize: 2})
	must(t, p.Warm(bounded(t), 2))
	err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *mongopool.Conn) error {
		if err := ping(ctx, c); err != nil {
			return err
		}
		if err := servers.Kill(ctx, control.MongoDB); err != nil {
			return err
		}
		return ping(ctx, c)
	})
	if class := d.Classify(err); class.Fault != driver.FaultServer || class.Repeat == driver.RepeatNever || class.Broken {
		t.Errorf("the class of %v is %+v, want server, repeatable, not broken", err, class)
	}
	if h := p.Check(bounded(t)); h.Status == pool.StatusOK {
		t.Errorf("health is %v without a server", h.Status)
	}
	must(t, servers.Restart(bounded(t), control.MongoDB))
	whole(t, p)
	if h := p.Check(bounded(t)); h.Status == pool.StatusDown {
		t.Errorf("health is %v %v", h.Status, h.Reasons)
	}
}

func TestFrozen(t *testing.T) {
	d, p := newPool(t, pool.Config{MaxSize: 4})
	must(t, p.Warm(bounded(t), 4))
	_, closing := newPool(t, pool.Config{MaxSize: 2, CheckTimeout: 200 * time.Millisecond})
	must(t, closing.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *mongopool.Conn) error {
		return c.Collection("c").Drop(ctx)
	}))
	must(t, servers.Freeze(bounded(t), control.MongoDB))
	var err error
	for range 1000 { // the signal takes effect a moment after it was sent
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		start := time.Now()
		err = p.Do(ctx, pool.Op{}, ping)
		cancel()
		if took := time.Since(start); took > time.Second {
			t.Errorf("a use with a deadline of 200 ms took %v", took)
		}
		if err != nil {
			break
		}
	}
	// To the pool the error is the caller's, because the deadline has passed. The test is about the
	// driver's error.
	var left *pool.UseError
	if !errors.As(err, &left) {
		t.Fatalf("%v is no failure that has left a use", err)
	}
	if class := d.Classify(left.Err); !errors.Is(err, context.DeadlineExceeded) || class.Repeat == driver.RepeatNever || class.Broken {
		t.Errorf("the class of %v is %+v, want a deadline, repeatable, not broken", err, class)
	}
	start := time.Now()
	must(t, closing.Close(bounded(t)))
	if took := time.Since(start); took > time.Second {
		t.Errorf("Close took %v while the server was frozen", took)
	}
	t.Logf("closed after %v", time.Since(start))
	must(t, servers.Thaw(bounded(t), control.MongoDB))
	whole(t, p)
}

// A network that is slow or broken, between the pool and a server that is well.
func TestNetwork(t *testing.T) {
	proxy, err := toxiproxy.NewClient(servers.ToxiproxyURL()).Proxy(control.MongoDB)
	must(t, err)
	d, p := newPool(t, pool.Config{MaxSize: 2})
	find := func(ctx context.Context, c *mongopool.Conn) error {
		cursor, err := c.Collection("c").Find(ctx, bson.D{})
		if err != nil {
			return err
		}
		return cursor.Close(ctx)
	}
	for _, c := range []struct {
		name   string
		toxic  string
		attrs  toxiproxy.Attributes
		cancel bool
		want   error // nil: a network error
	}{
		{"deadline in a find", "latency", toxiproxy.Attributes{"latency": 2000}, false, context.DeadlineExceeded},
		{"cancel in a find", "latency", toxiproxy.Attributes{"latency": 2000}, true, context.Canceled},
		{"reset in a find", "reset_peer", toxiproxy.Attributes{"timeout": 0}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole(t, p)
			_, err := proxy.AddToxic("live", c.toxic, "downstream", 1, c.attrs)
			must(t, err)
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			if c.cancel {
				ctx, cancel = context.WithCancel(context.Background())
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			defer cancel()
			start := time.Now()
			err = p.Do(ctx, pool.Op{Name: "find", Target: "c"}, find)
			if took := time.Since(start); took > 500*time.Millisecond {
				t.Errorf("it returned after %v", took)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("it ended with %v, want %v", err, c.want)
			}
			if class := d.Classify(err); err == nil || class.Broken || c.want == nil && class.Fault != driver.FaultServer {
				t.Errorf("the class of %v is %+v", err, class)
			}
			must(t, proxy.RemoveToxic("live"))
			whole(t, p)
		})
	}
}
