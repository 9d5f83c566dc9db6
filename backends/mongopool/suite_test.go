package mongopool

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func mustDriver(t testing.TB, opts Options) *Driver {
	t.Helper()
	d, err := NewDriver(opts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// suite is for a server that answers ping. The borrower of a lease can leave a session behind;
// nothing can break a lease.
func suite(opts Options) pooltest.DriverSuite[*Conn] {
	return pooltest.DriverSuite[*Conn]{
		New: func(t testing.TB) driver.Driver[*Conn] { return mustDriver(t, opts) },
		Use: func(ctx context.Context, c *Conn) error { return c.Client().Ping(ctx, nil) },
		Unreachable: func(t testing.TB) driver.Driver[*Conn] {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			nobody := l.Addr().String()
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return mustDriver(t, Options{Hosts: []string{nobody}, Database: "test"})
		},
		Soil: func(ctx context.Context, c *Conn) error {
			s, err := c.StartSession()
			if err != nil {
				return err
			}
			return c.Client().Ping(mongo.NewSessionContext(ctx, s), nil)
		},
		Soiled: func(_ context.Context, c *Conn) (bool, error) { return c.inSession(), nil },
	}
}

func TestSuiteOnFake(t *testing.T) {
	f := newFake(t)
	f.script("saslStart", welcome)
	never := make(chan struct{})
	defer close(never)
	f.script("count", reply{after: never, drop: true})
	const password = "s3cret!%"
	s := suite(Options{
		Hosts: []string{f.address}, Database: "test", Username: "app", Password: password, AuthMechanism: "PLAIN", AuthSource: "$external",
	})
	s.Secrets = []string{password}
	s.Block = func(ctx context.Context, c *Conn) error {
		_, err := c.Collection("c").EstimatedDocumentCount(ctx)
		return err
	}
	pooltest.RunDriver(t, s)
}

func TestSuiteLive(t *testing.T) {
	pooltest.RunDriver(t, suite(Options{URI: liveURI(t), Database: "poolstack_suite"}))
}

// A test that fails while a reply is held back must not wait for the reply.
func TestFakeStopsWithRepliesToCome(t *testing.T) {
	f := newFake(t)
	f.script("find", reply{after: make(chan struct{})})
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := p.Do(ctx, pool.Op{}, find); err == nil {
		t.Error("a find was served")
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); f.stop() }()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("the fake has not stopped")
	}
}

// A connection that is accepted while the fake stops must not outlive the stop.
func TestFakeStopsWithDialsToCome(t *testing.T) {
	for range 200 {
		f := newFake(t)
		var dials sync.WaitGroup
		var d net.Dialer
		for range 4 {
			dials.Go(func() {
				if c, err := d.DialContext(t.Context(), "tcp", f.address); err == nil {
					_, _ = c.Read(make([]byte, 1)) // until the fake closes it
					_ = c.Close()
				}
			})
		}
		f.stop()
		dials.Wait()
	}
}
