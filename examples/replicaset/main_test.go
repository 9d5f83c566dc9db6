package replicaset

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) {
	if uri := os.Getenv("MONGODB_URI"); uri == "" || strings.Contains(uri, "replicaSet=") {
		_ = flag.Set("test.skip", "^Example") // the example needs a server without a replica set
	}
	os.Exit(pooltest.Main(m))
}

// patience bounds every wait on a busy machine.
const patience = time.Minute

func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serverURI returns the address of the server, or skips the test. With CI=true and POOLSTACK_LIVE=1
// it fails the test instead, as in mongopool.
func serverURI(t testing.TB) string {
	t.Helper()
	uri := os.Getenv("MONGODB_URI")
	switch {
	case uri != "":
	case os.Getenv("CI") == "true" && os.Getenv("POOLSTACK_LIVE") == "1":
		t.Fatal("MONGODB_URI is not set, though CI is true and POOLSTACK_LIVE is 1")
	default:
		t.Skip("MONGODB_URI is not set: it needs a server")
	}
	return uri
}

// A deployment is a replica set with a database for a single test.
type deployment struct {
	uri      string
	set      *Set // nil for a real replica set
	database string
	client   *mongo.Client // of the test itself
}

// deploy returns the replica set at MONGODB_URI, or a double in front of the server at MONGODB_URI.
func deploy(t testing.TB) *deployment {
	t.Helper()
	d := &deployment{uri: serverURI(t), database: "poolstack_" + bson.NewObjectID().Hex()}
	if connect(t, d.uri).hello(t).SetName == "" {
		set, err := Start(d.uri, Options{})
		must(t, err)
		t.Cleanup(func() { must(t, set.Close()) })
		d.set, d.uri = set, set.URI()
	}
	d.client = connect(t, d.uri).Client
	t.Cleanup(func() { must(t, d.drop(bounded(t))) })
	return d
}

// drop drops the database. The driver does not retry this command, and after an election the driver
// may still know the old primary.
func (d *deployment) drop(ctx context.Context) error {
	for {
		err := d.client.Database(d.database).Drop(ctx)
		var refusal mongo.ServerError
		if ctx.Err() != nil || !errors.As(err, &refusal) || !refusal.HasErrorCode(notWritablePrimary) {
			return err
		}
	}
}

// double is like deploy, for a test that controls the members.
func double(t testing.TB) *deployment {
	t.Helper()
	d := deploy(t)
	if d.set == nil {
		t.Skip("it needs power over the members, and a real replica set belongs to others, too")
	}
	return d
}

// A bareClient is a client of the driver with its default options.
type bareClient struct{ *mongo.Client }

func connect(t testing.TB, uri string, monitors ...*event.CommandMonitor) bareClient {
	t.Helper()
	o := options.Client().ApplyURI(uri)
	if strings.Contains(uri, "serverMonitoringMode=poll") { // ApplyURI forgets it
		o.SetServerMonitoringMode("poll")
	}
	for _, m := range monitors {
		o.SetMonitor(m)
	}
	client, err := mongo.Connect(o)
	must(t, err)
	t.Cleanup(func() { must(t, client.Disconnect(bounded(t))) })
	return bareClient{client}
}

// greeting is a part of the answer to hello.
type greeting struct {
	SetName           string   `bson:"setName"`
	Hosts             []string `bson:"hosts"`
	Primary           string   `bson:"primary"`
	MaxWriteBatchSize int      `bson:"maxWriteBatchSize"`
	MaxWireVersion    int      `bson:"maxWireVersion"`
}

func (c bareClient) hello(t testing.TB) (g greeting) {
	t.Helper()
	must(t, c.Database("admin").RunCommand(bounded(t), bson.D{{Key: "hello", Value: 1}}).Decode(&g))
	return g
}

func (d *deployment) hello(t testing.TB) greeting { return bareClient{d.client}.hello(t) }

// held counts the documents of a collection by the field name.
func (d *deployment) held(t testing.TB, collection string) map[string]int {
	t.Helper()
	found, err := d.client.Database(d.database).Collection(collection).Find(bounded(t), bson.D{})
	must(t, err)
	var all []struct{ Name string }
	must(t, found.All(bounded(t), &all))
	held := map[string]int{}
	for _, one := range all {
		held[one.Name]++
	}
	return held
}

// application returns the application name of a pool under test. Scripted failures apply only to
// this name, because a real server has other clients.
func (d *deployment) application() string { return d.database }

// fail scripts failures of a command at the primary. A real server needs --setParameter
// enableTestCommands=1.
func (d *deployment) fail(t testing.TB, times int, command string, data ...bson.E) {
	t.Helper()
	configure := func(mode any, data bson.D) error {
		return d.client.Database("admin").RunCommand(bounded(t), bson.D{
			{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}, {Key: "data", Value: data},
		}).Err()
	}
	err := configure(bson.D{{Key: "times", Value: times}}, append(bson.D{
		{Key: "failCommands", Value: bson.A{command}}, {Key: "appName", Value: d.application()},
	}, data...))
	if failure, ok := errors.AsType[mongo.CommandError](err); ok && failure.Code == 59 {
		t.Skip("the server scripts no failures: it needs --setParameter enableTestCommands=1")
	}
	must(t, err)
	t.Cleanup(func() { must(t, configure("off", bson.D{})) })
}

// A sent command, and the member that received the command.
type sent struct {
	name, member string
	doc          bson.Raw
}

// commands are the commands sent by a client.
type commands struct {
	mu     sync.Mutex
	all    []sent
	failed int
	done   map[string]func() // called once, after a command with the name has succeeded
}

// onceDone calls f after the next command with the name has succeeded, before the client sends
// another command.
func (c *commands) onceDone(name string, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = map[string]func(){name: f}
}

func (c *commands) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{
		Started: func(_ context.Context, e *event.CommandStartedEvent) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.all = append(c.all, sent{e.CommandName, memberOf(e.ConnectionID), slices.Clone(e.Command)})
		},
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			c.mu.Lock()
			f := c.done[e.CommandName]
			delete(c.done, e.CommandName)
			c.mu.Unlock()
			if f != nil {
				f()
			}
		},
		Failed: func(context.Context, *event.CommandFailedEvent) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.failed++
		},
	}
}

// of returns the sent commands with the names.
func (c *commands) of(names ...string) (found []sent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.all {
		if slices.Contains(names, one.name) {
			found = append(found, one)
		}
	}
	return found
}

// failures counts the commands that failed.
func (c *commands) failures() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// names returns the names of the sent commands with the names, in order.
func (c *commands) names(names ...string) (found []string) {
	for _, one := range c.of(names...) {
		found = append(found, one.name)
	}
	return found
}

// newPool returns a pool with the standard stack, and the commands sent by the pool.
func (d *deployment) newPool(t testing.TB, o mongopool.Options) (*pool.Pool[*mongopool.Conn], *commands) {
	t.Helper()
	stack, err := middleware.Standard(middleware.Options{
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)}, Without: []string{middleware.KindTracing, middleware.KindMetrics},
	})
	must(t, err)
	c := &commands{}
	if o.URI == "" && o.Hosts == nil {
		o.URI = d.uri
	}
	o.Database, o.AppName = d.database, d.application()
	o.Tune = func(co *options.ClientOptions) { co.SetMonitor(c.monitor()) }
	p, err := mongopool.New(o, pool.Config{MaxSize: 8}, stack.Layers()...)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close(bounded(t))) })
	return p, c
}

// memberOf returns the address in the driver's connection id HOST:PORT[-NUMBER].
func memberOf(connection string) string { return connection[:strings.LastIndex(connection, "[")] }
