package replicaset

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/pool"
)

// entry inserts a document with the name.
func entry(ctx context.Context, c *mongopool.Conn, name string) error {
	_, err := c.Collection("c").InsertOne(ctx, bson.D{{Key: "name", Value: name}})
	return err
}

// rename changes the document created by stored. Concurrent transactions conflict at this write.
func rename(ctx context.Context, c *mongopool.Conn, to string) error {
	_, err := c.Collection("c").UpdateByID(ctx, 1, bson.D{{Key: "$set", Value: bson.D{{Key: "name", Value: to}}}})
	return err
}

// stored creates the collection with a single document.
func (d *deployment) stored(t testing.TB, name string) {
	t.Helper()
	_, err := d.client.Database(d.database).Collection("c").InsertOne(bounded(t), bson.D{{Key: "_id", Value: 1}, {Key: "name", Value: name}})
	must(t, err)
}

func (d *deployment) holds(t testing.TB, want ...string) {
	t.Helper()
	held := d.held(t, "c")
	for _, name := range want {
		if held[name] != 1 {
			t.Errorf("%q is held %d times", name, held[name])
		}
	}
	if len(held) != len(want) {
		t.Errorf("held are %v, want %v", held, want)
	}
}

// Until its commit, only the transaction itself sees its writes. After an abort no client sees the
// writes.
func TestTransaction(t *testing.T) {
	errOwn := errors.New("no")
	for name, tc := range map[string]struct {
		outcome error
		want    []string
		sent    string
	}{
		"commits": {nil, []string{"two", "three"}, "commitTransaction"},
		"aborts":  {errOwn, []string{"one"}, "abortTransaction"},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			d.stored(t, "one")
			p, sent := d.newPool(t, mongopool.Options{})
			err := p.Do(bounded(t), pool.Op{Name: "transaction"}, func(ctx context.Context, c *mongopool.Conn) error {
				return c.WithTransaction(ctx, func(ctx context.Context) error {
					if err := errors.Join(rename(ctx, c, "two"), entry(ctx, c, "three")); err != nil {
						return err
					}
					d.holds(t, "one") // outside of the transaction
					n, err := c.Collection("c").CountDocuments(ctx, bson.D{{Key: "name", Value: bson.D{{Key: "$in", Value: bson.A{"two", "three"}}}}})
					if err != nil || n != 2 {
						t.Errorf("inside are %d of two documents, %v", n, err)
					}
					return tc.outcome
				})
			})
			if !errors.Is(err, tc.outcome) {
				t.Errorf("got %v, want %v", err, tc.outcome)
			}
			d.holds(t, tc.want...)
			if got := sent.names("commitTransaction", "abortTransaction"); !slices.Equal(got, []string{tc.sent}) {
				t.Errorf("sent was %v, want %s", got, tc.sent)
			}
		})
	}
}

// A transaction that violates a unique index fails. A real server fails at the write, and the
// double fails at the commit.
func TestTransactionBreaksAUniqueIndex(t *testing.T) {
	d := deploy(t)
	d.stored(t, "one")
	_, err := d.client.Database(d.database).Collection("c").Indexes().CreateOne(bounded(t), mongo.IndexModel{
		Keys: bson.D{{Key: "name", Value: 1}}, Options: options.Index().SetUnique(true),
	})
	must(t, err)
	p, _ := d.newPool(t, mongopool.Options{})
	if err := p.Do(bounded(t), pool.Op{Name: "transaction"}, func(ctx context.Context, c *mongopool.Conn) error {
		return c.WithTransaction(ctx, func(ctx context.Context) error { return entry(ctx, c, "one") })
	}); err == nil {
		t.Error("the transaction is committed")
	}
	d.holds(t, "one")
}

// A transaction in conflict with another transaction at a document is retried. A write without a
// transaction waits.
func TestTransactionsMeet(t *testing.T) {
	d := deploy(t)
	d.stored(t, "one")
	p, _ := d.newPool(t, mongopool.Options{})
	transact := func(fn func(ctx context.Context, c *mongopool.Conn) error) error {
		return p.Do(bounded(t), pool.Op{Name: "transaction"}, func(ctx context.Context, c *mongopool.Conn) error {
			return c.WithTransaction(ctx, func(ctx context.Context) error { return fn(ctx, c) })
		})
	}
	tries := 0
	met, others := make(chan struct{}), make(chan error, 2)
	meet := sync.OnceFunc(func() {
		go func() {
			others <- transact(func(ctx context.Context, c *mongopool.Conn) error {
				err := rename(ctx, c, "three")
				if tries++; tries == 1 {
					close(met)
				}
				return err
			})
		}()
		go func() {
			<-met
			others <- p.Do(bounded(t), pool.Op{Name: "update"}, func(ctx context.Context, c *mongopool.Conn) error {
				_, err := c.Collection("c").UpdateByID(ctx, 1, bson.D{{Key: "$set", Value: bson.D{{Key: "touched", Value: true}}}})
				return err
			})
		}()
		<-met
	})
	must(t, transact(func(ctx context.Context, c *mongopool.Conn) error {
		err := rename(ctx, c, "two")
		meet()
		return err
	}))
	if err := errors.Join(<-others, <-others); err != nil {
		t.Error(err)
	}
	if tries < 2 {
		t.Errorf("the second transaction was tried %d times", tries)
	}
	d.holds(t, "three")
	n, err := d.client.Database(d.database).Collection("c").CountDocuments(bounded(t), bson.D{{Key: "touched", Value: true}})
	if err != nil || n != 1 {
		t.Errorf("the write that waited has changed %d documents, %v", n, err)
	}
}

// The error labels decide the retry: the whole transaction, the commit alone, or nothing.
func TestTransactionIsTriedByLabels(t *testing.T) {
	for name, tc := range map[string]struct {
		command string
		data    bson.D
		sent    []string
		ok      bool
	}{
		"TransientTransactionError, of a write": {
			"insert", bson.D{{Key: "errorCode", Value: 112}},
			[]string{"insert", "abortTransaction", "insert", "commitTransaction"}, true,
		},
		"TransientTransactionError, of a commit": {
			"commitTransaction", bson.D{{Key: "errorCode", Value: 251}},
			[]string{"insert", "commitTransaction", "insert", "commitTransaction"}, true,
		},
		"UnknownTransactionCommitResult, of an error": {
			"commitTransaction", bson.D{{Key: "errorCode", Value: 91}},
			[]string{"insert", "commitTransaction", "commitTransaction"}, true,
		},
		"UnknownTransactionCommitResult, of a lost reply": {
			"commitTransaction", bson.D{{Key: "closeConnection", Value: true}},
			[]string{"insert", "commitTransaction", "commitTransaction"}, true,
		},
		"UnknownTransactionCommitResult, of a commit that is carried out": {
			"commitTransaction", bson.D{{Key: "writeConcernError", Value: bson.D{
				{Key: "code", Value: 91}, {Key: "errmsg", Value: "shutting down"},
			}}},
			[]string{"insert", "commitTransaction", "commitTransaction"}, true,
		},
		"no label": {
			"insert", bson.D{{Key: "errorCode", Value: 13}}, []string{"insert", "abortTransaction"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy(t)
			d.stored(t, "one")
			d.fail(t, 1, tc.command, tc.data...)
			p, sent := d.newPool(t, mongopool.Options{})
			err := p.Do(bounded(t), pool.Op{Name: "transaction"}, func(ctx context.Context, c *mongopool.Conn) error {
				return c.WithTransaction(ctx, func(ctx context.Context) error { return entry(ctx, c, "two") })
			})
			if (err == nil) != tc.ok {
				t.Errorf("got %v", err)
			}
			want := []string{"one"}
			if tc.ok {
				want = append(want, "two")
			}
			d.holds(t, want...)
			if got := sent.names("insert", "commitTransaction", "abortTransaction"); !slices.Equal(got, tc.sent) {
				t.Errorf("sent was %v, want %v", got, tc.sent)
			}
		})
	}
}

// An unanswered commit or abort ends at the caller's deadline. The transaction is undone or is
// executed once.
func TestTransactionHeedsItsDeadline(t *testing.T) {
	errOwn := errors.New("no")
	for command, outcome := range map[string]error{"commitTransaction": nil, "abortTransaction": errOwn} {
		t.Run(command, func(t *testing.T) {
			const hangs = 30 * time.Second
			d := deploy(t)
			d.stored(t, "one")
			p, sent := d.newPool(t, mongopool.Options{})
			d.fail(t, 1, command, bson.E{Key: "blockConnection", Value: true}, bson.E{Key: "blockTimeMS", Value: hangs.Milliseconds()})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			err := p.Do(ctx, pool.Op{Name: "transaction"}, func(ctx context.Context, c *mongopool.Conn) error {
				return c.WithTransaction(ctx, func(ctx context.Context) error { return errors.Join(entry(ctx, c, "two"), outcome) })
			})
			if took := time.Since(began); err == nil || took > hangs/2 {
				t.Errorf("%v after %v", err, took)
			}
			if got := sent.of(command); len(got) == 0 {
				t.Errorf("%s was not sent", command)
			}
			must(t, p.Do(bounded(t), pool.Op{Name: "find"}, findOne)) // the lease is free for others
		})
	}
}

// A step-down aborts the open transactions. The transactions are retried at the next primary.
func TestTransactionOverAStepDown(t *testing.T) {
	d := double(t)
	d.stored(t, "one")
	p, sent := d.newPool(t, mongopool.Options{})
	tries := 0
	must(t, p.Do(bounded(t), pool.Op{Name: "transaction"}, func(ctx context.Context, c *mongopool.Conn) error {
		return c.WithTransaction(ctx, func(ctx context.Context) error {
			err := rename(ctx, c, "two")
			if tries++; tries == 1 {
				must(t, d.set.Elect())
			}
			return err
		})
	}))
	d.holds(t, "two")
	commits := sent.of("commitTransaction")
	if last := commits[len(commits)-1]; tries != 2 || last.member != d.set.Primary() {
		t.Errorf("%d tries; the last commit went to %s, where %s is the primary", tries, last.member, d.set.Primary())
	}
}

// stepDownForASecond is for a trouble without calls of the test.
func (d *deployment) stepDownForASecond() {
	d.set.StepDown()
	time.AfterFunc(time.Second, func() { _ = d.set.Elect() })
}

// An election may take longer than the driver waits for a primary. The transaction still succeeds
// if its caller waits long enough: at a write, at the commit, or after a lost reply to the commit.
func TestTransactionOutlastsAnElection(t *testing.T) {
	for name, at := range map[string]func(ctx context.Context, t *testing.T, d *deployment, c *mongopool.Conn) error{
		"a write": func(ctx context.Context, _ *testing.T, d *deployment, c *mongopool.Conn) error {
			d.set.StepDown()
			return rename(ctx, c, "two")
		},
		"the commit": func(ctx context.Context, _ *testing.T, d *deployment, c *mongopool.Conn) error {
			defer d.stepDownForASecond()
			return rename(ctx, c, "two")
		},
		"a lost reply to the commit": func(ctx context.Context, t *testing.T, d *deployment, c *mongopool.Conn) error {
			defer d.stepDownForASecond()
			d.fail(t, 1, "commitTransaction", bson.E{Key: "closeConnection", Value: true})
			return rename(ctx, c, "two")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := double(t)
			d.stored(t, "one")
			p, err := mongopool.New(mongopool.Options{
				URI: d.uri, Database: d.database, AppName: d.application(), ServerSelectionTimeout: 100 * time.Millisecond,
			}, pool.Config{MaxSize: 1})
			must(t, err)
			defer func() { must(t, p.Close(bounded(t))) }()
			tries := 0
			must(t, p.Do(bounded(t), pool.Op{Name: "transaction"}, func(ctx context.Context, c *mongopool.Conn) error {
				return c.WithTransaction(ctx, func(ctx context.Context) error {
					switch tries++; {
					case tries == 1:
						return at(ctx, t, d, c)
					case tries == 3 && d.set.Primary() == "": // the driver has waited in vain twice
						must(t, d.set.Elect())
					}
					return rename(ctx, c, "two")
				})
			}))
			d.holds(t, "two")
		})
	}
}

// In a session, a read from a secondary names the writes that the read must see, and sees the
// writes.
func TestCausalConsistency(t *testing.T) {
	d := deploy(t)
	primary := d.hello(t).Primary
	p, sent := d.newPool(t, mongopool.Options{ReadPreference: "secondary", ReadConcern: "majority", WriteConcern: "majority"})
	for range 10 {
		name := bson.NewObjectID().Hex()
		must(t, p.Do(bounded(t), pool.Op{Name: "session"}, func(ctx context.Context, c *mongopool.Conn) error {
			s, err := c.StartSession()
			if err != nil {
				return err
			}
			ctx = mongo.NewSessionContext(ctx, s)
			if err := entry(ctx, c, name); err != nil {
				return err
			}
			written := s.OperationTime()
			if err := c.Collection("c").FindOne(ctx, bson.D{{Key: "name", Value: name}}).Err(); err != nil {
				return err
			}
			reads := sent.of("find")
			read := reads[len(reads)-1]
			seconds, counter, ok := read.doc.Lookup("readConcern", "afterClusterTime").TimestampOK()
			if after := (bson.Timestamp{T: seconds, I: counter}); !ok || written == nil || after != *written {
				t.Errorf("the read is after %v, %t, and the write was at %v", after, ok, written)
			}
			if read.member == primary {
				t.Error("the read went to the primary")
			}
			return nil
		}))
	}
	outside := sent.of("find")
	must(t, p.Do(bounded(t), pool.Op{Name: "find"}, findOne))
	if reads := sent.of("find"); len(reads) != len(outside)+1 || reads[len(outside)].doc.Lookup("readConcern", "afterClusterTime").Type != 0 {
		t.Error("a read in no session is after something")
	}
}
