package mongopool

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	mongodriver "go.mongodb.org/mongo-driver/v2/x/mongo/driver"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/description"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

func network(cause error) mongo.CommandError {
	inner := mongodriver.Error{Labels: []string{labelNetwork}, Wrapped: topology.ConnectionError{Wrapped: cause}}
	return mongo.CommandError{Labels: inner.Labels, Wrapped: inner}
}

func writeError(codes ...int) mongo.WriteException {
	var e mongo.WriteException
	for _, code := range codes {
		e.WriteErrors = append(e.WriteErrors, mongo.WriteError{Code: code})
	}
	return e
}

func bulkError(codes ...int) mongo.BulkWriteException {
	var e mongo.BulkWriteException
	for _, code := range codes {
		e.WriteErrors = append(e.WriteErrors, mongo.BulkWriteError{WriteError: mongo.WriteError{Code: code}})
	}
	return e
}

func unconfirmed(code int) *mongo.WriteConcernError { return &mongo.WriteConcernError{Code: code} }

var errRefused = errors.New("connection refused")

// described is what the driver knows of servers with these errors, nil for none.
func described(errs ...error) (d description.Topology) {
	for _, err := range errs {
		d.Servers = append(d.Servers, description.Server{LastError: err})
	}
	return d
}

func TestClassify(t *testing.T) {
	const (
		none, server, caller, local = driver.FaultNone, driver.FaultServer, driver.FaultCaller, driver.FaultLocal
		never, ifIdempotent, always = driver.RepeatNever, driver.RepeatIfIdempotent, driver.RepeatAlways
	)
	command := func(code int32, labels ...string) error { return mongo.CommandError{Code: code, Labels: labels} }
	cleared := cleared(t)
	for _, c := range []struct {
		name string
		err  error
		want driver.Class
	}{
		// Nobody's fault.
		{"no documents", mongo.ErrNoDocuments, driver.Class{Miss: true}},
		{"no file", mongo.ErrFileNotFound, driver.Class{Miss: true}},
		{"no documents, under the borrower's own name", fmt.Errorf("%w: %w", errors.New("no such user"), mongo.ErrNoDocuments),
			driver.Class{Miss: true}},
		{"no documents, and a duplicate key", errors.Join(mongo.ErrNoDocuments, writeError(11000)), driver.Class{Code: "11000"}},
		{"borrower's own", errors.New("mine"), driver.Class{Fault: driver.FaultElsewhere}},
		{"borrower's own end of file", io.ErrUnexpectedEOF, driver.Class{Fault: driver.FaultElsewhere}},
		{"borrower's own network error", &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}},
			driver.Class{Fault: driver.FaultElsewhere}},
		{"borrower's own, that it may be tried again", retryable{}, driver.Class{Fault: driver.FaultElsewhere}},
		{"nil document", mongo.ErrNilDocument, driver.Class{Fault: driver.FaultElsewhere}},
		{"duplicate key", writeError(11000), driver.Class{Code: "11000"}},
		{"duplicate key on update", writeError(11001), driver.Class{Code: "11000"}},
		{"duplicate key by findAndModify", command(11000), driver.Class{Code: "11000"}},
		{"several duplicate keys", bulkError(11000, 11000), driver.Class{Code: "11000"}},
		{"bad value", command(2), driver.Class{Code: "2"}},
		{"document fails validation", writeError(121), driver.Class{Code: "121"}},
		{"not allowed", command(13), driver.Class{Fault: server, Narrow: true, Code: "13"}},
		{"unknown command", command(59), driver.Class{Code: "59"}},
		{"transaction on a standalone", command(20), driver.Class{Code: "20"}},
		{"cursor is gone", command(43), driver.Class{Repeat: ifIdempotent, Code: "43"}},
		{"write conflict", command(112), driver.Class{Repeat: ifIdempotent, Code: "112"}},
		{"query plan killed", command(175), driver.Class{Repeat: ifIdempotent, Code: "175"}},
		{"stale config", command(13388), driver.Class{Repeat: ifIdempotent, Code: "13388"}},
		{"snapshot unavailable", command(246), driver.Class{Repeat: always, Code: "246"}},
		{"a label that only the driver can heed", command(112, "RetryableWriteError"), driver.Class{Repeat: ifIdempotent, Code: "112"}},
		{"write conflict in a transaction", command(112, labelTransient), driver.Class{Repeat: always, Code: "112"}},

		// Not sent.
		{"no server", topology.ServerSelectionError{Wrapped: context.DeadlineExceeded},
			driver.Class{Fault: server, Repeat: always, Type: "server_selection"}},
		{"no server, and all have failed", topology.ServerSelectionError{Wrapped: context.DeadlineExceeded, Desc: described(errRefused, errRefused)},
			driver.Class{Fault: server, Repeat: always, Type: "server_selection", Certain: true}},
		{"no server, and one has not failed", topology.ServerSelectionError{Wrapped: context.DeadlineExceeded, Desc: described(errRefused, nil)},
			driver.Class{Fault: server, Repeat: always, Type: "server_selection"}},
		{"no server in a transaction",
			mongo.CommandError{Labels: []string{labelTransient}, Wrapped: topology.ServerSelectionError{Wrapped: context.DeadlineExceeded}},
			driver.Class{Fault: server, Repeat: always, Type: "server_selection"}},
		{"no socket", topology.WaitQueueTimeoutError{Wrapped: context.DeadlineExceeded},
			driver.Class{Fault: server, Repeat: always, Type: "wait_queue"}},
		{"pool cleared", cleared, driver.Class{Fault: server, Repeat: always, Type: "pool_cleared"}},
		{"pool cleared, in a transaction", mongodriver.Error{Labels: []string{labelTransient}, Wrapped: cleared},
			driver.Class{Fault: server, Repeat: always, Type: "pool_cleared"}},
		{"pool closed", topology.ErrPoolClosed, driver.Class{Fault: server, Repeat: always, Type: "pool_cleared"}},
		{"server closed", topology.ErrServerClosed, driver.Class{Fault: server, Repeat: always, Type: "pool_cleared"}},
		{"dial failed", mongodriver.Error{
			Labels:  []string{labelOverloaded, labelRetryable, labelNetwork},
			Wrapped: topology.ConnectionError{Wrapped: io.EOF},
		}, driver.Class{Fault: server, Repeat: always, Type: "connect"}},
		{"dial cancelled by the driver itself", mongodriver.Error{
			Labels:  []string{labelOverloaded, labelRetryable, labelNetwork},
			Wrapped: topology.ConnectionError{Wrapped: context.Canceled},
		}, driver.Class{Fault: server, Repeat: always, Type: "connect"}},
		{"name not resolved", topology.ConnectionError{Wrapped: errors.New("no such host")},
			driver.Class{Fault: server, Repeat: always, Type: "connect"}},
		{"certificate refused",
			topology.ConnectionError{Wrapped: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}},
			driver.Class{Fault: server, Repeat: never, Type: "certificate"}},
		{"handshake cut short",
			mongo.CommandError{Labels: []string{labelNetwork}, Wrapped: topology.ConnectionError{Wrapped: mongodriver.Error{Wrapped: io.EOF}}},
			driver.Class{Fault: server, Repeat: always, Type: "connect"}},
		{"opening takes too long", &openError{fmt.Errorf("mongopool: connect: %w", context.DeadlineExceeded)},
			driver.Class{Fault: server, Repeat: always, Type: "connect"}},
		{"all servers down", &downError{errors.New("refused")}, driver.Class{Fault: server, Repeat: always, Type: "connect"}},
		{"too little time left", fmt.Errorf("rtt: %w", mongodriver.ErrDeadlineWouldBeExceeded), driver.Class{Fault: caller, Repeat: always}},

		// Refused by the server before it did anything.
		{"not primary", command(10107), driver.Class{Fault: server, Narrow: true, Repeat: always, Code: "10107"}},
		{"not primary, for a read", command(13435), driver.Class{Fault: server, Narrow: true, Repeat: always, Code: "13435"}},
		{"recovering", command(13436), driver.Class{Fault: server, Repeat: always, Code: "13436"}},
		{"overloaded", mongodriver.Error{Code: 462, Labels: []string{labelOverloaded, labelRetryable}, BaseBackoff: time.Second},
			driver.Class{Fault: server, Repeat: always, Code: "462", RetryAfter: time.Second}},
		{"stepped down, no writes", command(189, "RetryableWriteError", labelNoWrites),
			driver.Class{Fault: server, Narrow: true, Repeat: always, Code: "189"}},

		// Maybe done, maybe not.
		{"reply lost", network(io.EOF), driver.Class{Fault: server, Repeat: ifIdempotent, Type: "network"}},
		{"reply lost after a miss", errors.Join(mongo.ErrNoDocuments, network(io.EOF)),
			driver.Class{Fault: server, Repeat: ifIdempotent, Type: "network"}},
		{"reply late", network(context.DeadlineExceeded), driver.Class{Fault: server, Repeat: ifIdempotent}},
		{"reply lost in a transaction", mongo.CommandError{Labels: []string{labelTransient, labelNetwork}},
			driver.Class{Fault: server, Repeat: ifIdempotent, Type: "network"}},
		{"commit's reply lost", mongo.CommandError{Labels: []string{labelNetwork, labelUnknownCommit}},
			driver.Class{Fault: server, Repeat: ifIdempotent, Type: "network"}},
		{"commit unknown", command(64, labelUnknownCommit), driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "64"}},
		{"as monitors see it", mongodriver.Error{Labels: []string{labelNetwork}, Wrapped: io.EOF},
			driver.Class{Fault: server, Repeat: ifIdempotent, Type: "network"}},
		{"time limit on the server", mongo.CommandError{Code: 50, Wrapped: mongodriver.Error{Code: 50, Wrapped: context.DeadlineExceeded}},
			driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "50"}},
		{"shutting down", command(91), driver.Class{Fault: server, Repeat: ifIdempotent, Code: "91"}},
		{"stepped down", command(189, "RetryableWriteError"), driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "189"}},
		{"interrupted", command(11602), driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "11602"}},
		{"not confirmed in time", mongo.WriteException{WriteConcernError: unconfirmed(64)},
			driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "64"}},
		{"not confirmed, and a duplicate",
			mongo.WriteException{WriteConcernError: unconfirmed(64), WriteErrors: writeError(11000).WriteErrors},
			driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "64"}},
		{"bulk: a duplicate, then not primary", bulkError(11000, 10107), driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "10107"}},
		{"bulk not confirmed", mongo.BulkWriteException{WriteConcernError: unconfirmed(91)},
			driver.Class{Fault: server, Repeat: ifIdempotent, Code: "91"}},
		{"client's bulk", mongo.ClientBulkWriteException{
			WriteErrors: map[int]mongo.WriteError{3: {Code: 11000}}, WriteConcernErrors: []mongo.WriteConcernError{{Code: 64}},
		}, driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "64"}},
		{"client's bulk as a whole", mongo.ClientBulkWriteException{WriteError: &mongo.WriteError{Code: 13}},
			driver.Class{Fault: server, Narrow: true, Code: "13"}},
		{"client's bulk, server full", mongo.ClientBulkWriteException{WriteError: &mongo.WriteError{Code: 14031}},
			driver.Class{Fault: server, Narrow: true, Repeat: never, Code: "14031"}},

		// The server's, and for good.
		{"authentication failed", mongo.CommandError{Code: 18, Wrapped: topology.ConnectionError{Wrapped: mongodriver.Error{Code: 18}}},
			driver.Class{Fault: server, Repeat: never, Code: "18"}},
		{"recovering", command(13436), driver.Class{Fault: server, Repeat: always, Code: "13436"}},
		{"overloaded", command(433), driver.Class{Fault: server, Repeat: always, Code: "433"}},
		{"overloaded, not to be repeated", command(433, labelOverloaded), driver.Class{Fault: server, Code: "433"}},
		{"overloaded by work of one kind", command(10107, labelOverloaded, labelRetryable), driver.Class{Fault: server, Repeat: always, Code: "10107"}},
		{"writes are blocked", command(371), driver.Class{Fault: server, Narrow: true, Code: "371"}},
		{"not confirmed, for the server shuts down", mongo.WriteException{WriteConcernError: unconfirmed(91)},
			driver.Class{Fault: server, Repeat: ifIdempotent, Code: "91"}},
		{"not confirmed, for no known reason", mongo.WriteException{WriteConcernError: unconfirmed(12345)},
			driver.Class{Fault: server, Narrow: true, Repeat: ifIdempotent, Code: "12345"}},
		{"bulk: not primary, then shutting down", bulkError(10107, 91), driver.Class{Fault: server, Repeat: ifIdempotent, Code: "91"}},
		{"internal error", command(1), driver.Class{Fault: server, Narrow: true, Repeat: never, Code: "1"}},
		{"no such write concern", mongo.WriteException{WriteConcernError: unconfirmed(79)},
			driver.Class{Fault: server, Narrow: true, Repeat: never, Code: "79"}},
		{"too few members for the write concern", mongo.WriteException{WriteConcernError: unconfirmed(100)},
			driver.Class{Fault: server, Narrow: true, Repeat: never, Code: "100"}},

		// This process's own.
		{"cancelled", network(context.Canceled), driver.Class{Fault: caller, Repeat: never}},
		{"cancelled after a miss", errors.Join(mongo.ErrNoDocuments, context.Canceled), driver.Class{Fault: caller, Repeat: never}},
		{"cancelled while it looked for a server", topology.ServerSelectionError{Wrapped: context.Canceled},
			driver.Class{Fault: caller, Repeat: never}},
		{"deadline without more", context.DeadlineExceeded, driver.Class{Fault: caller, Repeat: never}},
		{"deadline of another service's client", &url.Error{Op: "Get", Err: context.DeadlineExceeded}, driver.Class{Fault: caller, Repeat: never}},
		{"deadline of another service's client beside a lost reply", errors.Join(context.DeadlineExceeded, network(io.EOF)),
			driver.Class{Fault: server, Repeat: ifIdempotent}},
		{"client disconnected", mongo.ErrClientDisconnected,
			driver.Class{Fault: local, Repeat: never, Broken: true, Type: "client_disconnected"}},
	} {
		if c.want.Fault == none && c.want.Broken {
			t.Fatal("a class that cannot be")
		}
		d := &Driver{}
		if got := d.Classify(c.err); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if got := d.Classify(fmt.Errorf("wrapped: %w", c.err)); got != c.want {
			t.Errorf("%s, wrapped: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// cleared returns the driver's own error for closed sockets. The type of the error is not exported.
func cleared(t testing.TB) error {
	t.Helper()
	s := topology.NewServer("127.0.0.1:1", bson.NewObjectID(), time.Second)
	if err := s.Connect(nil); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Disconnect(bounded(t)) }()
	var own interface {
		error
		mongodriver.RetryablePoolError
	}
	eventually(t, "a check of the server has failed", func() bool {
		// The first check may have failed before the driver could close the sockets.
		s.RequestImmediateCheck()
		_, err := s.Connection(bounded(t))
		return errors.As(err, &own)
	})
	return own
}

// retryable is another package's error with a method like that of the driver's.
type retryable struct{}

func (retryable) Error() string   { return "of another package" }
func (retryable) Retryable() bool { return true }

// The same classes as the driver's own errors have them when a server provokes them.
func TestClassifyProvoked(t *testing.T) {
	failing := func(code int, labels ...any) reply {
		return reply{doc: bson.D{
			{Key: "ok", Value: 0}, {Key: "code", Value: code}, {Key: "errmsg", Value: "scripted"}, {Key: "errorLabels", Value: bson.A(labels)},
		}}
	}
	writes := func(field string, value any) reply {
		return reply{doc: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}, {Key: field, Value: value}}}
	}
	server := func(r driver.Repeat, code string) driver.Class {
		return driver.Class{Fault: driver.FaultServer, Repeat: r, Code: code}
	}
	narrow := func(r driver.Repeat, code string) driver.Class {
		return driver.Class{Fault: driver.FaultServer, Narrow: true, Repeat: r, Code: code}
	}
	for _, c := range []struct {
		name   string
		answer reply
		want   driver.Class
	}{
		{"reply lost", reply{drop: true}, driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Type: "network"}},
		{"not primary", failing(10107, "RetryableWriteError"), narrow(driver.RepeatAlways, "10107")},
		{"stepped down", failing(189, "RetryableWriteError"), narrow(driver.RepeatIfIdempotent, "189")},
		{"stepped down, no writes", failing(189, "RetryableWriteError", labelNoWrites), narrow(driver.RepeatAlways, "189")},
		{"shutting down", failing(91), server(driver.RepeatIfIdempotent, "91")},
		{"time limit", failing(50), narrow(driver.RepeatIfIdempotent, "50")},
		{"not allowed", failing(13), narrow(driver.RepeatNever, "13")},
		{"unknown command", failing(59), driver.Class{Code: "59"}},
		{"duplicate key", writes("writeErrors", bson.A{bson.D{{Key: "index", Value: 0}, {Key: "code", Value: 11000}}}),
			driver.Class{Code: "11000"}},
		{"not confirmed", writes("writeConcernError", bson.D{{Key: "code", Value: 64}, {Key: "errmsg", Value: "timed out"}}),
			narrow(driver.RepeatIfIdempotent, "64")},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeSet(t)
			f.script("insert", c.answer)
			d, p := newPool(t, Options{URI: f.uri()}, pool.Config{})
			err := p.Do(bounded(t), pool.Op{}, insert)
			if got := d.Classify(err); got != c.want {
				t.Errorf("the class of %v is %+v, want %+v", err, got, c.want)
			}
			if n := len(f.commands("insert")); n != 1 {
				t.Errorf("the insert was sent %d times, want once", n)
			}
		})
	}
}

// A borrower's deadline that passes before the driver has sent anything proves nothing about the
// server. The deadline of another service proves nothing either.
func TestClassifyDeadlineUnsent(t *testing.T) {
	f := newFakeSet(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
	if err := p.Warm(bounded(t), 1); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer web.Close()
	for _, c := range []struct {
		name string
		do   func(context.Context, *Conn) error
	}{
		{"find, too late", func(ctx context.Context, conn *Conn) error {
			ctx, cancel := context.WithDeadline(ctx, time.Now())
			defer cancel()
			_, err := conn.Collection("c").Find(ctx, bson.D{})
			return err
		}},
		{"transaction, over before the commit", func(ctx context.Context, conn *Conn) error {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			return conn.WithTransaction(ctx, func(ctx context.Context) error {
				<-ctx.Done()
				return nil
			})
		}},
		{"another service", func(ctx context.Context, _ *Conn) error {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL, nil)
			if err != nil {
				return err
			}
			answer, err := web.Client().Do(r)
			if err == nil {
				_ = answer.Body.Close()
			}
			return err
		}},
	} {
		err := p.Do(bounded(t), pool.Op{}, c.do)
		if class, want := d.Classify(err), (driver.Class{Fault: driver.FaultCaller}); !errors.Is(err, context.DeadlineExceeded) || class != want {
			t.Errorf("%s: the class of %v is %+v, want %+v", c.name, err, class, want)
		}
	}
	if n := len(f.commands("find")) + len(f.commands("commitTransaction")); n != 0 {
		t.Errorf("%d commands were sent, want none", n)
	}
}

// An opening that takes too long is not the borrower's fault, even if only a deadline shows the
// failure.
func TestClassifyOpenTimeout(t *testing.T) {
	_, p := newPool(t, Options{
		Hosts: []string{"127.0.0.1:1"}, Database: "test",
		Credentials: func(ctx context.Context) (string, string, error) {
			<-ctx.Done()
			return "", "", ctx.Err()
		},
	}, pool.Config{OpenTimeout: 10 * time.Millisecond})
	err := p.Do(bounded(t), pool.Op{}, ping)
	own, ok := errors.AsType[*pool.Error](err)
	if !ok || own.Class().Fault != driver.FaultServer || own.Class().Repeat != driver.RepeatAlways {
		t.Errorf("the use ended with %v, want an open failure of the class server, always", err)
	}
}

// Sockets that cannot be made while others live: the borrower's command was not sent.
func TestClassifyHandshake(t *testing.T) {
	for _, c := range []struct {
		name  string
		hello reply
		want  driver.Class
	}{
		{"cut short", reply{drop: true}, driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Type: "connect"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			// OpenConcurrency is 1, so a late dial is not followed by another dial.
			d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 2, OpenConcurrency: 1})
			if err := p.Warm(bounded(t), 1); err != nil {
				t.Fatal(err)
			}
			f.script("hello", c.hello)
			busy := make(chan struct{})
			f.script("count", reply{after: busy, doc: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}}})
			err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, conn *Conn) error {
				done := make(chan struct{})
				go func() { // takes the only socket there is
					defer close(done)
					_, _ = conn.Collection("c").EstimatedDocumentCount(ctx)
				}()
				eventually(t, "the socket is taken", func() bool { return d.Stats().SocketsBusy == 1 })
				err := insert(ctx, conn)
				close(busy)
				<-done
				return err
			})
			if got := d.Classify(err); got != c.want {
				t.Errorf("the class of %v is %+v, want %+v", err, got, c.want)
			}
			if n := len(f.commands("insert")); n != 0 {
				t.Errorf("the insert was sent %d times, want never", n)
			}
		})
	}
}
