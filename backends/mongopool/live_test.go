package mongopool

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// forwarder passes connections on to a real server and counts them.
type forwarder struct {
	l    net.Listener
	to   string
	wg   sync.WaitGroup
	open atomic.Int64
	most atomic.Int64
}

// forward returns a forwarder to the server of uri, and the URI that leads through it.
func forward(t testing.TB, uri string) (*forwarder, string) {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{l: l, to: u.Host}
	f.wg.Go(f.accept)
	t.Cleanup(func() {
		_ = l.Close()
		f.wg.Wait()
	})
	u.Host = l.Addr().String()
	return f, u.String()
}

func (f *forwarder) accept() {
	for {
		in, err := f.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", f.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		n := f.open.Add(1)
		f.most.Store(max(f.most.Load(), n)) // one goroutine accepts
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
		both.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
		f.wg.Go(func() {
			both.Wait()
			f.open.Add(-1)
		})
	}
}

// monitoring is how many connections the driver keeps to a server besides those for commands. One
// is for hello. If the server streams its answers, another measures the round trip.
const monitoring = 2

func TestLiveSockets(t *testing.T) {
	const size, borrowers, uses = 8, 32, 50
	f, uri := forward(t, liveURI(t))
	d, p := newPool(t, Options{URI: uri, Database: "poolstack_live_sockets"}, pool.Config{MaxSize: size})
	if err := p.Warm(bounded(t), size); err != nil {
		t.Fatal(err)
	}
	if n := f.open.Load(); n < size+1 || n > size+monitoring {
		t.Errorf("%d connections after Warm(%d), want that many and the driver's own", n, size)
	}
	var wg sync.WaitGroup
	for range borrowers {
		wg.Go(func() {
			for range uses {
				if err := p.Do(bounded(t), pool.Op{Name: "ping"}, ping); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := f.most.Load(); n > size+monitoring {
		t.Errorf("up to %d connections, want at most %d and the driver's own", n, size)
	}
	s := d.Stats()
	if s.Commands != borrowers*uses || s.CommandsFailed != 0 || s.Sockets != size {
		t.Errorf("stats %+v, want %d commands, none failed, %d sockets", s, borrowers*uses, size)
	}
	if err := p.Close(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every connection is closed", func() bool { return f.open.Load() == 0 })
}

// What a real server says, in the classes of the driver's own errors.
func TestLiveClassify(t *testing.T) {
	d, p := newPool(t, Options{URI: liveURI(t), Database: "poolstack_live_classify"}, pool.Config{})
	for _, c := range []struct {
		name string
		do   func(context.Context, *Conn) error
		want driver.Class
	}{
		{"no documents", func(ctx context.Context, c *Conn) error {
			return c.Collection("c").FindOne(ctx, bson.D{{Key: "name", Value: "nobody"}}).Err()
		}, driver.Class{Miss: true}},
		{"duplicate key", func(ctx context.Context, c *Conn) error {
			id := bson.D{{Key: "_id", Value: bson.NewObjectID()}}
			_, err := c.Collection("c").InsertOne(ctx, id)
			if err != nil {
				return errors.New("the first insert failed")
			}
			_, err = c.Collection("c").InsertOne(ctx, id)
			return err
		}, driver.Class{Code: "11000"}},
		{"duplicate keys in bulk", func(ctx context.Context, c *Conn) error {
			id := bson.D{{Key: "_id", Value: bson.NewObjectID()}}
			_, err := c.Collection("c").InsertMany(ctx, []any{id, id})
			return err
		}, driver.Class{Code: "11000"}},
		{"unknown command", func(ctx context.Context, c *Conn) error {
			return c.Database().RunCommand(ctx, bson.D{{Key: "noSuchCommand", Value: 1}}).Err()
		}, driver.Class{Code: "59"}},
		{"bad value", func(ctx context.Context, c *Conn) error {
			return c.Collection("c").FindOne(ctx, bson.D{{Key: "$noSuchOperator", Value: 1}}).Err()
		}, driver.Class{Code: "2"}},
		{"nil document", func(ctx context.Context, c *Conn) error {
			_, err := c.Collection("c").InsertOne(ctx, nil)
			return err
		}, driver.Class{Fault: driver.FaultElsewhere}},
	} {
		err := p.Do(bounded(t), pool.Op{}, c.do)
		if got := d.Classify(err); err == nil || got != c.want {
			t.Errorf("%s: the class of %v is %+v, want %+v", c.name, err, got, c.want)
		}
	}
	if err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error { return c.Database().Drop(ctx) }); err != nil {
		t.Error(err)
	}
}

func TestLiveHealth(t *testing.T) {
	_, p := newPool(t, Options{URI: liveURI(t), Database: "poolstack_live_health"}, pool.Config{})
	h := p.Check(bounded(t))
	if h.Status != pool.StatusOK || h.Details["version"] == "" || h.Details["role"] == "" || h.Details["servers_up"] == "0" {
		t.Errorf("health %v %v, details %v, want ok, a version, a role and a server", h.Status, h.Reasons, h.Details)
	}
	t.Logf("details: %v", h.Details)
}

// A lease may run several commands at once, in a session of its own or without.
func TestLiveConcurrentCommands(t *testing.T) {
	const n = 16
	d, p := newPool(t, Options{URI: liveURI(t), Database: "poolstack_live_concurrent"}, pool.Config{MaxSize: 4})
	err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
		session, err := c.StartSession()
		if err != nil {
			return err
		}
		errs := make(chan error, n)
		for i := range n {
			go func() {
				_, err := c.Collection("c").InsertOne(ctx, bson.D{{Key: "i", Value: i}})
				errs <- err
			}()
		}
		for range n {
			err = errors.Join(err, <-errs)
		}
		found, countErr := c.Collection("c").CountDocuments(mongo.NewSessionContext(ctx, session), bson.D{})
		if found != n {
			t.Errorf("%d documents, want %d", found, n)
		}
		return errors.Join(err, countErr, c.Database().Drop(ctx))
	})
	if err != nil {
		t.Error(err)
	}
	if s := d.Stats(); s.Sockets > 4 || s.Commands != n+2 {
		t.Errorf("stats %+v, want at most 4 sockets and %d commands", s, n+2)
	}
}
