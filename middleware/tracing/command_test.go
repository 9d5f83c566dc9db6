package tracing

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

const (
	cacheUse     = "GET sessions internal Unset db.client.connection.pool.name=cache"
	cacheCommand = " client Unset db.client.connection.pool.name=cache db.namespace=3%s db.system.name=redis server.address=10.0.0.1"
)

func TestCommandAttributes(t *testing.T) {
	for _, c := range []struct {
		name string
		text bool
		cmd  driver.Command
		want string
	}{
		{"one", false, driver.Command{Name: "GET", Text: "GET ?"}, "GET" + fmt.Sprintf(cacheCommand, " db.operation.name=GET db.query.summary=GET")},
		{"with text", true, driver.Command{Name: "GET", Text: "GET ?"}, "GET" +
			fmt.Sprintf(cacheCommand, " db.operation.name=GET db.query.summary=GET db.query.text=GET ?")},
		{"no text to be had", true, driver.Command{Name: "GET"}, "GET" +
			fmt.Sprintf(cacheCommand, " db.operation.name=GET db.query.summary=GET")},
		{"pipeline of one", false, driver.Command{Name: "PIPELINE GET", Batch: 1}, "PIPELINE GET" +
			fmt.Sprintf(cacheCommand, " db.operation.name=PIPELINE GET db.query.summary=PIPELINE GET")},
		{"pipeline", false, driver.Command{Name: "PIPELINE", Batch: 2}, "PIPELINE" +
			fmt.Sprintf(cacheCommand, " db.operation.batch.size=2 db.operation.name=PIPELINE db.query.summary=PIPELINE")},
		{"empty pipeline", false, driver.Command{Name: "MULTI", Batch: driver.EmptyBatch}, "MULTI" +
			fmt.Sprintf(cacheCommand, " db.operation.batch.size=0 db.operation.name=MULTI db.query.summary=MULTI")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, redis, Config{Commands: true, CommandText: c.text}, pool.Config{}).warm()
			_ = r.pool.Do(context.Background(), get, func(ctx context.Context, _ *pooltest.Conn) error {
				if driver.ObservingText(ctx) != c.text {
					t.Errorf("the backend is told that text is wanted: %t", !c.text)
				}
				return command(ctx, c.cmd, 0, nil)
			})
			r.want(false, cacheUse, "  "+c.want)
		})
	}
}

// A command of MongoDB is named after its target: the collection, or the database. The server of
// the command replaces the pool's server.
func TestTargetsOfCommands(t *testing.T) {
	const (
		db     = " client Unset db.client.connection.pool.name=orders-db%s db.system.name=mongodb%s"
		server = " server.address=db.example server.port=27018"
	)
	span := func(name, attrs, server string) string { return name + fmt.Sprintf(db, attrs, server) }
	const pinged = " db.namespace=shop db.operation.name=ping"
	for _, c := range []struct {
		name string
		cmd  driver.Command
		want string
	}{
		{"collection", driver.Command{Name: "collStats", Target: "orders"},
			span("collStats orders", " db.collection.name=orders db.namespace=shop db.operation.name=collStats", server)},
		{"database", driver.Command{Name: "dbStats", OnDatabase: true},
			span("dbStats shop", " db.namespace=shop db.operation.name=dbStats", server)},
		{"another database", driver.Command{Name: "dbStats", OnDatabase: true, Namespace: "stock"},
			span("dbStats stock", " db.namespace=stock db.operation.name=dbStats", server)},
		{"neither", driver.Command{Name: "commitTransaction", Namespace: "admin"},
			span("commitTransaction", " db.namespace=admin db.operation.name=commitTransaction", server)},
		{"batch", driver.Command{Name: "BATCH update", Target: "orders", Batch: 2}, span("BATCH update orders",
			" db.collection.name=orders db.namespace=shop db.operation.batch.size=2 db.operation.name=BATCH update", server)},
		{"server with a name", driver.Command{Name: "ping", Server: "db-2.example:27019"},
			span("ping", pinged, " server.address=db-2.example server.port=27019")},
		{"server with an IP address", driver.Command{Name: "ping", Server: "[fd00::7]:27017"},
			span("ping", pinged, " network.peer.address=fd00::7 network.peer.port=27017 server.address=fd00::7")},
		{"server at a socket", driver.Command{Name: "ping", Server: "/run/mongodb-27017.sock"},
			span("ping", pinged, " network.peer.address=/run/mongodb-27017.sock server.address=/run/mongodb-27017.sock")},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, mongodb, Config{Commands: true}, pool.Config{}).warm()
			_ = r.pool.Do(context.Background(), pool.Op{Name: "report"}, func(ctx context.Context, _ *pooltest.Conn) error {
				return command(ctx, c.cmd, 0, nil)
			})
			r.want(false, "report internal Unset db.client.connection.pool.name=orders-db", "  "+c.want)
		})
	}
}

// A backend is not asked for anything unless commands are.
func TestNoCommandsUnlessAsked(t *testing.T) {
	r := newRig(t, redis, Config{}, pool.Config{}).warm()
	_ = r.pool.Do(context.Background(), get, func(ctx context.Context, _ *pooltest.Conn) error {
		if driver.Observing(ctx) || driver.ObservingText(ctx) {
			t.Error("somebody observes commands")
		}
		return nil
	})
}

// A borrower's own span is above the commands that it sent under it.
func TestCommandsBelowOwnSpans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, redis, Config{Commands: true}, pool.Config{}, repeat{2, time.Second})
		tracer := r.provider.Tracer("mine")
		n := 0
		_ = r.pool.Do(context.Background(), get, func(ctx context.Context, _ *pooltest.Conn) error {
			ctx, span := tracer.Start(ctx, "load user")
			defer span.End()
			n++
			return command(ctx, driver.Command{Name: "GET"}, time.Second, []error{pooltest.ErrRefused, nil}[n-1])
		})
		attrs := fmt.Sprintf(cacheCommand, " db.operation.name=GET db.query.summary=GET")
		failed := " client Error db.client.connection.pool.name=cache db.namespace=3 db.operation.name=GET db.query.summary=GET" +
			" db.response.status_code=REFUSED db.system.name=redis error.type=REFUSED server.address=10.0.0.1"
		r.want(true,
			"GET sessions 0s-3s internal Unset db.client.connection.pool.name=cache poolstack.attempts=2",
			"  * poolstack.retry poolstack.attempt=1 poolstack.duration=1 poolstack.layer=retry poolstack.reason=REFUSED",
			"  attempt 0s-1s internal Error db.client.connection.pool.name=cache error.type=REFUSED poolstack.attempt=1",
			"  load user 0s-1s internal Unset",
			"    GET 0s-1s"+failed,
			"  attempt 2s-3s internal Unset db.client.connection.pool.name=cache poolstack.attempt=2",
			"  load user 2s-3s internal Unset",
			"    GET 2s-3s"+attrs)
	})
}

// The commands of an inner use are not shown as commands of the outer use, even if both uses look
// alike and only the outer use is traced.
func TestNestedUses(t *testing.T) {
	quiet := false
	r := newRig(t, redis, Config{Commands: true, Filter: func(pool.Op) bool { return !quiet }}, pool.Config{MaxSize: 2},
		say{event: pool.Event{Kind: pool.EventTimeout, Layer: "x"}})
	if err := r.pool.Warm(context.Background(), 2); err != nil {
		t.Fatal(err)
	}
	send := func(ctx context.Context, _ *pooltest.Conn) error {
		return command(ctx, driver.Command{Name: "GET"}, 0, nil)
	}
	_ = r.pool.Do(context.Background(), get, func(ctx context.Context, _ *pooltest.Conn) error {
		quiet = true
		return r.pool.Do(ctx, get, send)
	})
	r.want(false, cacheUse, "  * poolstack.timeout poolstack.attempt=1 poolstack.layer=x")
}

// A borrower keeps the context of its use after the end of the use. A late command in the context
// is not recorded and disturbs no other use.
func TestLateCommand(t *testing.T) {
	r := newRig(t, redis, Config{Commands: true}, pool.Config{}).warm()
	var late, open context.Context
	_ = r.pool.Do(context.Background(), get, func(ctx context.Context, _ *pooltest.Conn) error {
		late, open = ctx, driver.BeginCommand(ctx, driver.Command{Name: "GET"})
		return nil
	})
	_ = r.pool.Do(context.Background(), get, func(context.Context, *pooltest.Conn) error {
		driver.EndCommand(open, driver.Command{Name: "GET"}, nil)
		return command(late, driver.Command{Name: "GET"}, 0, nil)
	})
	r.want(false, cacheUse, cacheUse)
	if !trace.SpanContextFromContext(late).IsValid() {
		t.Error("the context has lost its span")
	}
}
