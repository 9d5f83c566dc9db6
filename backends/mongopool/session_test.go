package mongopool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

func insert(ctx context.Context, c *Conn) error {
	_, err := c.Collection("c").InsertOne(ctx, bson.D{{Key: "a", Value: 1}})
	return err
}

// names returns the names of the commands that have arrived, without the pool's and the driver's
// own.
func (f *fakeServer) names() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.seen {
		if c.name != "ping" && c.name != "endSessions" {
			names = append(names, c.name)
		}
	}
	return names
}

func TestSessionEndsWithLease(t *testing.T) {
	f := newFakeSet(t)
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
	var session *mongo.Session
	err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) (err error) {
		if session, err = c.StartSession(); err != nil {
			return err
		}
		ctx = mongo.NewSessionContext(ctx, session)
		if err := insert(ctx, c); err != nil {
			return err
		}
		_, err = c.Collection("c").Find(ctx, bson.D{})
		// The fake has no cursors.
		if class := d.Classify(err); err != nil && class.Fault == driver.FaultServer {
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{session.ID().Lookup("id").String(): true}
	for _, name := range []string{"insert", "find"} {
		for _, c := range f.commands(name) {
			ids[c.doc.Lookup("lsid", "id").String()] = true
		}
	}
	if len(ids) != 1 {
		t.Errorf("%d sessions for one: %v", len(ids), ids)
	}
	err = p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
		if c.inSession() {
			t.Error("the next borrower finds a session")
		}
		return ping(mongo.NewSessionContext(ctx, session), c)
	})
	if err == nil {
		t.Error("the session has not ended")
	}
}

func TestOpenTransactionIsAborted(t *testing.T) {
	f := newFakeSet(t)
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
	lease, err := p.Acquire(bounded(t), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	conn, _ := lease.Value()
	session, err := conn.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.StartTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := insert(mongo.NewSessionContext(lease.Context(), session), conn); err != nil {
		t.Fatal(err)
	}
	lease.Release(nil)
	if err := p.Do(bounded(t), pool.Op{}, ping); err != nil {
		t.Fatal(err)
	}
	if want, got := []string{"insert", "abortTransaction"}, f.names(); !slices.Equal(got, want) {
		t.Errorf("the server has seen %v, want %v", got, want)
	}
}

func TestWithTransaction(t *testing.T) {
	mine := errors.New("mine")
	conflict := reply{doc: bson.D{
		{Key: "ok", Value: 0}, {Key: "code", Value: 112}, {Key: "codeName", Value: "WriteConflict"}, {Key: "errmsg", Value: "conflict"},
		{Key: "errorLabels", Value: bson.A{labelTransient}},
	}}
	for _, c := range []struct {
		name    string
		inserts []reply
		outcome error
		want    []string
		wantErr error
	}{
		{"commits", nil, nil, []string{"insert", "commitTransaction"}, nil},
		{"aborts on an error", nil, mine, []string{"insert", "abortTransaction"}, mine},
		{"runs again after a conflict", []reply{conflict, succeed}, nil,
			[]string{"insert", "abortTransaction", "insert", "commitTransaction"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeSet(t)
			_, p := newPool(t, Options{URI: f.uri()}, pool.Config{})
			f.script("insert", append(c.inserts, succeed)...)
			err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, conn *Conn) error {
				return conn.WithTransaction(ctx, func(ctx context.Context) error {
					if err := insert(ctx, conn); err != nil {
						return err
					}
					return c.outcome
				})
			})
			if !errors.Is(err, c.wantErr) || c.wantErr == nil && err != nil {
				t.Errorf("the transaction ended with %v, want %v", err, c.wantErr)
			}
			if got := f.names(); !slices.Equal(got, c.want) {
				t.Errorf("the server has seen %v, want %v", got, c.want)
			}
			for _, cmd := range f.commands("insert") {
				if cmd.doc.Lookup("autocommit").Boolean() {
					t.Error("the insert is not part of the transaction")
				}
			}
		})
	}
}

// A use may leave a transaction open in a session begun by the client, and not by the lease. The
// transaction is aborted as well, and the session goes on. A committed transaction is left alone.
func TestOpenTransactionOfTheClientIsAborted(t *testing.T) {
	for name, layers := range map[string][]pool.Middleware{"bare": nil, "layered": {pool.Bracket(&judge{})}} {
		for _, commits := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", commits ", commits), func(t *testing.T) {
				f := newFakeSet(t)
				f.script("insert", document(bson.E{Key: "n", Value: 1}))
				_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1}, layers...)
				var s *mongo.Session
				begun := func(ctx context.Context, c *Conn) (err error) {
					if s == nil {
						s, err = c.Client().StartSession()
					}
					if err == nil {
						err = s.StartTransaction()
					}
					if err == nil {
						err = insert(mongo.NewSessionContext(ctx, s), c)
					}
					if err == nil && commits {
						err = s.CommitTransaction(ctx)
					}
					return err
				}
				want := []string{"insert", "abortTransaction", "insert", "abortTransaction"}
				if commits {
					want = []string{"insert", "commitTransaction", "insert", "commitTransaction"}
				}
				for range 2 {
					if err := p.Do(bounded(t), pool.Op{}, begun); err != nil {
						t.Fatal(err)
					}
					if err := p.Do(bounded(t), pool.Op{}, ping); err != nil { // after the reset
						t.Fatal(err)
					}
				}
				if got := f.names(); !slices.Equal(got, want) {
					t.Errorf("sent %v, want %v", got, want)
				}
				s.EndSession(bounded(t))
			})
		}
	}
}
