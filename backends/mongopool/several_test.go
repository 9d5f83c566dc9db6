package mongopool

import (
	"bytes"
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
)

// A call of the driver may send several commands. If a command has changed something, a later
// refusal does not make the whole call repeatable: the first command would be carried out twice. If
// nothing has been changed yet, the call is repeated.
func TestCallsOfSeveralCommands(t *testing.T) {
	wrote := document(bson.E{Key: "n", Value: 1}, bson.E{Key: "nModified", Value: 1})
	bulkWrote := document(bson.E{Key: "nInserted", Value: 2}, bson.E{Key: "nErrors", Value: 0}, bson.E{Key: "nMatched", Value: 0},
		bson.E{Key: "nModified", Value: 0}, bson.E{Key: "nUpserted", Value: 0}, bson.E{Key: "nDeleted", Value: 0},
		bson.E{Key: "cursor", Value: bson.D{
			{Key: "id", Value: int64(0)}, {Key: "ns", Value: "admin.$cmd.bulkWrite"}, {Key: "firstBatch", Value: bson.A{}},
		}})
	overloaded := reply{doc: bson.D{
		{Key: "ok", Value: 0}, {Key: "code", Value: 462}, {Key: "errmsg", Value: "too many requests"},
		{Key: "errorLabels", Value: bson.A{labelOverloaded, labelRetryable}},
	}}
	models := []mongo.WriteModel{
		mongo.NewInsertOneModel().SetDocument(bson.D{}),
		mongo.NewUpdateOneModel().SetFilter(bson.D{}).SetUpdate(bson.D{{Key: "$inc", Value: bson.D{{Key: "a", Value: 1}}}}),
	}
	bulk := func(ordered bool) func(ctx context.Context, c *Conn) error {
		return func(ctx context.Context, c *Conn) error {
			_, err := c.Collection("c").BulkWrite(ctx, models, options.BulkWrite().SetOrdered(ordered))
			return err
		}
	}
	many := func(ctx context.Context, c *Conn) error {
		_, err := c.Collection("c").InsertMany(ctx, []any{bson.D{}, bson.D{}, bson.D{}})
		return err
	}
	clientBulk := func(ctx context.Context, c *Conn) error {
		var writes []mongo.ClientBulkWrite
		for range 3 {
			writes = append(writes, mongo.ClientBulkWrite{Database: "test", Collection: "c", Model: mongo.NewClientInsertOneModel().SetDocument(bson.D{})})
		}
		_, err := c.Client().BulkWrite(ctx, writes)
		return err
	}
	upload := func(ctx context.Context, c *Conn) error {
		_, err := c.Database().GridFSBucket().UploadFromStream(ctx, "file", bytes.NewReader([]byte("contents")))
		return err
	}
	for _, tc := range []struct {
		name    string
		use     func(ctx context.Context, c *Conn) error
		command string // the one that is refused
		before  []reply
		first   string // the one that must not be sent twice
		once    int    // how often it is sent
		alone   bool   // nothing else is sent when the first is refused
	}{
		{"bulk", bulk(true), "update", nil, "insert", 1, true},
		{"unordered bulk", bulk(false), "update", nil, "insert", 1, false},
		{"more than a batch", many, "insert", []reply{wrote}, "insert", 2, true},
		{"bulk of a client", clientBulk, "bulkWrite", []reply{bulkWrote}, "bulkWrite", 2, true},
		{"upload", upload, "insert", []reply{wrote}, "insert", 2, false}, // which makes indexes before
	} {
		for name, refusal := range map[string]reply{"10107": rejection(10107), "overload": overloaded} {
			t.Run(tc.name+", "+name, func(t *testing.T) {
				fresh := func() (*fakeServer, *pool.Pool[*Conn]) {
					f := newFakeSet(t)
					for i, e := range f.hello {
						switch e.Key {
						case "maxWriteBatchSize":
							f.hello[i].Value = 2
						case "maxWireVersion":
							f.hello[i].Value = 25 // bulkWrite
						}
					}
					f.script("insert", wrote)
					f.script("update", wrote)
					f.script("bulkWrite", bulkWrote)
					f.script("find", nothing)
					f.script("listIndexes", nothing)
					r, err := retry.New(retry.Config{InitialDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond})
					if err != nil {
						t.Fatal(err)
					}
					_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1}, r)
					return f, p
				}
				f, p := fresh()
				f.script(tc.command, append(append([]reply(nil), tc.before...), refusal)...)
				if err := p.Do(bounded(t), pool.Op{}, tc.use); err == nil {
					t.Error("a refusal is no error")
				}
				if n := len(f.commands(tc.first)); n != tc.once {
					t.Errorf("%s was sent %d times, want %d", tc.first, n, tc.once)
				}
				if !tc.alone {
					return
				}
				// Refused at once, nothing has been done: the call is repeated, and succeeds.
				f, p = fresh()
				f.script(tc.first, refusal, wrote)
				if tc.first == "bulkWrite" {
					f.script(tc.first, refusal, bulkWrote)
				}
				if err := p.Do(bounded(t), pool.Op{}, tc.use); err != nil {
					t.Errorf("a call that was refused before it did anything: %v", err)
				}
			})
		}
	}
}

// A command outside of every use's context must not hide the effects of a use: the changes of the
// use are not made twice.
func TestCommandsInOtherContexts(t *testing.T) {
	elsewhere := context.Background()
	for name, tc := range map[string]struct {
		stray func(t *testing.T, ctx context.Context, c *Conn) error
		write bool // the stray is the write
	}{
		"cursor closed": {stray: func(_ *testing.T, ctx context.Context, c *Conn) error {
			cursor, err := c.Collection("c").Find(ctx, bson.D{})
			if err != nil {
				return err
			}
			return cursor.Close(elsewhere)
		}},
		"ping": {stray: func(_ *testing.T, _ context.Context, c *Conn) error { return c.Client().Ping(elsewhere, nil) }},
		"failed count": {stray: func(_ *testing.T, _ context.Context, c *Conn) error {
			_, _ = c.Collection("c").CountDocuments(elsewhere, bson.D{})
			return nil
		}},
		"write": {stray: func(_ *testing.T, _ context.Context, c *Conn) error { return insert(elsewhere, c) }, write: true},
		"write in a session": {stray: func(t *testing.T, _ context.Context, c *Conn) error {
			s, err := c.Client().StartSession()
			if err != nil {
				return err
			}
			defer s.EndSession(t.Context())
			return insert(mongo.NewSessionContext(elsewhere, s), c)
		}, write: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSet(t)
			f.scriptCursors()
			f.script("insert", document(bson.E{Key: "n", Value: 1}))
			f.script("aggregate", rejection(10107))
			f.script("update", rejection(10107))
			r, err := retry.New(retry.Config{InitialDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 2}, r)
			err = p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
				if !tc.write {
					if err := insert(ctx, c); err != nil {
						return err
					}
				}
				if err := tc.stray(t, ctx, c); err != nil {
					return err
				}
				_, err := c.Collection("c").UpdateOne(ctx, bson.D{}, bson.D{{Key: "$inc", Value: bson.D{{Key: "a", Value: 1}}}})
				return err
			})
			if n := len(f.commands("insert")); err == nil || n != 1 {
				t.Errorf("%d inserts, %v", n, err)
			}
		})
	}
}
