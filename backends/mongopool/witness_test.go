package mongopool

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// judge is a layer that keeps what the Call says of the outcome.
type judge struct {
	class driver.Class
	asked bool
}

func (*judge) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

func (j *judge) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	j.class, j.asked = c.Classify(err), c.Asked()
}

func document(e ...bson.E) reply { return reply{doc: append(bson.D{{Key: "ok", Value: 1}}, e...)} }

func rejection(code int) reply {
	return reply{doc: bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: code}, {Key: "errmsg", Value: fmt.Sprint("scripted ", code)}}}
}

var nothing = found()

// found is the reply to a find or an aggregate that has these results.
func found(documents ...any) reply {
	return document(bson.E{Key: "cursor", Value: bson.D{
		{Key: "id", Value: int64(0)}, {Key: "ns", Value: "test.c"}, {Key: "firstBatch", Value: append(bson.A{}, documents...)},
	}})
}

func find(ctx context.Context, c *Conn) error {
	return c.Collection("c").FindOne(ctx, bson.D{}).Err()
}

// The commands of a use and their results decide whether a later refusal makes the whole use
// repeatable.
func TestWitnessOfWrites(t *testing.T) {
	one, none := bson.E{Key: "n", Value: 1}, bson.E{Key: "n", Value: 0}
	then := func(first func(ctx context.Context, c *Conn) error) func(ctx context.Context, c *Conn) error {
		return func(ctx context.Context, c *Conn) error {
			err := first(ctx, c)
			return errors.Join(err, c.Database().RunCommand(ctx, bson.D{{Key: "refuse", Value: 1}}).Err())
		}
	}
	coll := func(c *Conn) *mongo.Collection { return c.Collection("c") }
	for _, tc := range []struct {
		name    string
		command string
		answer  reply
		use     func(ctx context.Context, c *Conn) error
		want    driver.Repeat
	}{
		{"nothing before", "", reply{}, func(context.Context, *Conn) error { return nil }, driver.RepeatAlways},
		{"a find", "find", nothing, find, driver.RepeatAlways},
		{"an insert", "insert", document(one), insert, driver.RepeatIfIdempotent},
		{"an insert of a duplicate", "insert", document(none, bson.E{Key: "writeErrors", Value: bson.A{bson.D{{Key: "code", Value: 11000}}}}),
			insert, driver.RepeatAlways},
		{"an insert that is lost", "insert", reply{drop: true}, insert, driver.RepeatIfIdempotent},
		{"an insert that is refused on entry", "insert", rejection(10107), insert, driver.RepeatAlways},
		{"an insert that is interrupted", "insert", rejection(11602), insert, driver.RepeatIfIdempotent},
		{"an unacknowledged insert", "insert", document(), func(ctx context.Context, c *Conn) error {
			_, err := c.Collection("c", options.Collection().SetWriteConcern(writeconcern.Unacknowledged())).InsertOne(ctx, bson.D{})
			return err
		}, driver.RepeatIfIdempotent},
		{"an update", "update", document(one, bson.E{Key: "nModified", Value: 1}), func(ctx context.Context, c *Conn) error {
			_, err := coll(c).UpdateOne(ctx, bson.D{}, bson.D{{Key: "$inc", Value: bson.D{{Key: "a", Value: 1}}}})
			return err
		}, driver.RepeatIfIdempotent},
		{"an update that finds what is there", "update", document(one, bson.E{Key: "nModified", Value: 0}), func(ctx context.Context, c *Conn) error {
			_, err := coll(c).UpdateOne(ctx, bson.D{}, bson.D{{Key: "$set", Value: bson.D{{Key: "a", Value: 1}}}})
			return err
		}, driver.RepeatAlways},
		{"a delete of nothing", "delete", document(none), func(ctx context.Context, c *Conn) error {
			_, err := coll(c).DeleteOne(ctx, bson.D{})
			return err
		}, driver.RepeatAlways},
		{"a findAndModify", "findAndModify", document(bson.E{Key: "lastErrorObject", Value: bson.D{one}}, bson.E{Key: "value", Value: bson.D{}}),
			func(ctx context.Context, c *Conn) error { return coll(c).FindOneAndDelete(ctx, bson.D{}).Err() }, driver.RepeatIfIdempotent},
		{"a findAndModify of nothing", "findAndModify", document(bson.E{Key: "lastErrorObject", Value: bson.D{none}}, bson.E{Key: "value", Value: nil}),
			func(ctx context.Context, c *Conn) error { return coll(c).FindOneAndDelete(ctx, bson.D{}).Err() }, driver.RepeatAlways},
		{"an aggregate that may have an $out", "aggregate", nothing, func(ctx context.Context, c *Conn) error {
			_, err := coll(c).Aggregate(ctx, mongo.Pipeline{})
			return err
		}, driver.RepeatIfIdempotent},
		{"an aggregate with results", "aggregate", found(bson.D{}), func(ctx context.Context, c *Conn) error {
			_, err := coll(c).Aggregate(ctx, mongo.Pipeline{})
			return err
		}, driver.RepeatAlways},
		{"a write in a transaction that is aborted", "insert", document(one), func(ctx context.Context, c *Conn) error {
			err := c.WithTransaction(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, c), errOwn) })
			if errors.Is(err, errOwn) {
				return nil
			}
			return err
		}, driver.RepeatAlways},
		{"a write in a transaction that is committed", "insert", document(one), func(ctx context.Context, c *Conn) error {
			return c.WithTransaction(ctx, func(ctx context.Context) error { return insert(ctx, c) })
		}, driver.RepeatIfIdempotent},
		{"an insert that is too late to be sent", "", reply{}, func(ctx context.Context, c *Conn) error {
			ctx, cancel := context.WithDeadline(ctx, time.Now())
			defer cancel()
			_ = insert(ctx, c)
			return nil
		}, driver.RepeatAlways},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, j := newFakeSet(t), &judge{}
			if tc.command != "" {
				f.script(tc.command, tc.answer)
			}
			f.script("refuse", rejection(13436))
			_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1}, pool.Bracket(j))
			err := p.Do(bounded(t), pool.Op{}, then(tc.use))
			if j.class.Fault != driver.FaultServer || j.class.Repeat != tc.want || !j.asked {
				t.Errorf("%v: got %+v, want repeat %v", err, j.class, tc.want)
			}
		})
	}
}

var errOwn = errors.New("the function's own")

// Whose error is it: of this use's commands, or of another client's?
func TestWitnessOfErrors(t *testing.T) {
	elsewhere := func(class driver.Class) driver.Class {
		return driver.Class{Fault: driver.FaultElsewhere, Miss: class.Miss, Code: class.Code, Type: class.Type}
	}
	f, other := newFakeSet(t), newFakeSet(t)
	f.script("find", nothing)
	other.script("find", nothing)
	other.script("refuse", rejection(13436))
	other.script("lose", reply{drop: true})
	j := &judge{}
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 4}, pool.Bracket(j))
	client, err := mongo.Connect(options.Client().ApplyURI(other.uri()).SetRetryReads(false))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(bounded(t)) }()
	gone := newFakeSet(t)
	lost, err := mongo.Connect(options.Client().ApplyURI(gone.uri()).SetServerSelectionTimeout(50 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lost.Disconnect(bounded(t)) }()
	gone.stop()
	raw := func(name string) func(ctx context.Context, c *Conn) error {
		return func(ctx context.Context, _ *Conn) error {
			return client.Database("test").RunCommand(ctx, bson.D{{Key: name, Value: 1}}).Err()
		}
	}
	own := func(name string) func(ctx context.Context, c *Conn) error {
		return func(ctx context.Context, c *Conn) error {
			return c.Database().RunCommand(ctx, bson.D{{Key: name, Value: 1}}).Err()
		}
	}
	f.script("refuse", rejection(13436))
	f.script("forbid", rejection(13))
	for _, tc := range []struct {
		name  string
		use   func(ctx context.Context, c *Conn) error
		whole bool // the class is that of the error alone
		asked bool
		none  bool // answered well: nobody's fault
	}{
		{"a refusal", own("refuse"), true, true, false},
		{"a miss", find, true, true, false},
		{"another client's refusal", raw("refuse"), false, false, false},
		{"another client's lost reply", raw("lose"), false, false, false},
		{"another client's servers are gone", func(ctx context.Context, _ *Conn) error { return lost.Ping(ctx, nil) }, false, false, false},
		{"another client's miss", func(ctx context.Context, _ *Conn) error {
			return client.Database("test").Collection("c").FindOne(ctx, bson.D{}).Err()
		}, false, false, false},
		{"another client's refusal, after a miss", func(ctx context.Context, c *Conn) error {
			_ = find(ctx, c)
			return raw("refuse")(ctx, c)
		}, false, true, true},
		{"another client's refusal, after a refusal of another code", func(ctx context.Context, c *Conn) error {
			_ = own("forbid")(ctx, c)
			return raw("refuse")(ctx, c)
		}, false, true, false},
		{"the function's own", func(context.Context, *Conn) error { return errOwn }, false, false, false},
		{"nothing", func(context.Context, *Conn) error { return nil }, true, false, false},
	} {
		var outcome error
		err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
			outcome = tc.use(ctx, c)
			return outcome
		})
		want := driver.Class{}
		if outcome != nil {
			want = d.Classify(outcome)
		}
		if !tc.whole {
			want = elsewhere(want)
		}
		if tc.none {
			want.Fault = driver.FaultNone
		}
		if want.Type = j.class.Type; j.class != want || j.asked != tc.asked {
			t.Errorf("%s: %v: got %+v, asked %t, want %+v, %t", tc.name, err, j.class, j.asked, want, tc.asked)
		}
	}
}

// A use whose client is short of a server or a socket has met that itself.
func TestWitnessOfWhatIsNotSent(t *testing.T) {
	f, j := newFakeSet(t), &judge{}
	_, p := newPool(t, Options{URI: f.uri(), ServerSelectionTimeout: 50 * time.Millisecond}, pool.Config{MaxSize: 1}, pool.Bracket(j))
	if err := p.Warm(bounded(t), 1); err != nil {
		t.Fatal(err)
	}
	f.stop()
	for range 5 {
		err := p.Do(bounded(t), pool.Op{}, insert)
		if j.class.Fault != driver.FaultServer || !j.asked {
			t.Errorf("%v: got %+v, asked %t", err, j.class, j.asked)
		}
	}
}

// If a borrower sends commands in a context of its own, the witness cannot tell. Then the outcome
// is judged by itself.
func TestWitnessCannotTell(t *testing.T) {
	f, j := newFakeSet(t), &judge{}
	f.script("find", rejection(13436))
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1}, pool.Bracket(j))
	err := p.Do(bounded(t), pool.Op{}, func(_ context.Context, c *Conn) error { return find(bounded(t), c) })
	if j.class.Fault != driver.FaultServer || j.class.Repeat != driver.RepeatAlways || !j.asked {
		t.Errorf("%v: got %+v, asked %t", err, j.class, j.asked)
	}
	// What the pool does for itself, such as to end a session, is nobody's command.
	l, err := p.Acquire(bounded(t), pool.Op{})
	if err != nil {
		t.Fatal(err)
	}
	c, _ := l.Value()
	s, err := c.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.StartTransaction(); err != nil {
		t.Fatal(err)
	}
	f.script("insert", document(bson.E{Key: "n", Value: 1}))
	if err := insert(mongo.NewSessionContext(l.Context(), s), c); err != nil {
		t.Fatal(err)
	}
	before := d.commands.orphans.Load()
	l.Release(nil)
	eventually(t, "the transaction has been aborted", func() bool { return len(f.commands("abortTransaction")) == 1 })
	if n := d.commands.orphans.Load() - before; n != 0 {
		t.Errorf("%d commands of the pool's are nobody's", n)
	}
}
