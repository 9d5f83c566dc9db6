package mongopool

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/pool"
)

// The driver's Disconnect waits for a connection that its monitor has begun. An Open that fails
// does not wait for that connection: a black hole would hold the connection for ConnectTimeout.
func TestOpenInABlackHole(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	d := mustDriver(t, Options{Hosts: []string{"127.0.0.1:1"}, Database: "test", Tune: func(co *options.ClientOptions) {
		co.SetDialer(dialerFunc(func() (net.Conn, error) {
			once.Do(func() { close(begun) })
			<-release
			return nil, errors.New("the black hole is over")
		}))
	}})
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() {
		_, err := d.Open(ctx)
		opened <- err
	}()
	<-begun
	cancel()
	select {
	case err := <-opened:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Open has failed with %v, want context.Canceled", err)
		}
	case <-bounded(t).Done():
		t.Error("Open waits for the connection that the monitor has begun")
	}
	close(release)
}

// dialerFunc connects, whatever the address, and heeds no context.
type dialerFunc func() (net.Conn, error)

func (f dialerFunc) DialContext(context.Context, string, string) (net.Conn, error) { return f() }

// A server that needs three seconds for each connection is opened if OpenTimeout leaves time for
// two connections: first the driver's own connection, and then the socket.
func TestSlowConnections(t *testing.T) {
	f := newFake(t)
	d, p := newPool(t, Options{URI: f.uri(), Tune: func(co *options.ClientOptions) {
		co.SetDialer(slowDialer(3 * time.Second))
	}}, pool.Config{MaxSize: 1, OpenTimeout: 10 * time.Second})
	f.script("insert", document(bson.E{Key: "n", Value: 1}))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Do(ctx, pool.Op{}, insert); err != nil || d.Stats().Clients != 1 {
		t.Errorf("%v; %d clients", err, d.Stats().Clients)
	}
}

// slowDialer connects after a while.
type slowDialer time.Duration

func (d slowDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	select {
	case <-time.After(time.Duration(d)):
		return (&net.Dialer{}).DialContext(ctx, network, address)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
