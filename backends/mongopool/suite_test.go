package mongopool

import (
	"context"
	"net"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/earnorm/poolstack/pool"
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

// suite is for a server at which ping is answered. What the borrower of a lease can leave behind is a session; nothing can break a lease.
func suite(opts Options) pooltest.DriverSuite[*Conn] {
	return pooltest.DriverSuite[*Conn]{
		New: func(t testing.TB) pool.Driver[*Conn] { return mustDriver(t, opts) },
		Use: func(ctx context.Context, c *Conn) error { return c.Client().Ping(ctx, nil) },
		Unreachable: func(t testing.TB) pool.Driver[*Conn] {
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
