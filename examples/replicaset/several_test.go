package replicaset

import (
	"bytes"
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/pool"
)

// A call of the driver that sends at least two commands.
type call struct {
	use           func(ctx context.Context, c *mongopool.Conn) error
	first, second string // commands
	collection    string // the first command inserts here
	documents     int    // number of documents of the first command
	all           int    // number of documents of the whole call
	stops         bool   // after a refusal of the first command nothing else is sent
}

func bulk(ordered bool) call {
	models := []mongo.WriteModel{
		mongo.NewInsertOneModel().SetDocument(bson.D{}),
		mongo.NewUpdateOneModel().SetFilter(bson.D{}).SetUpdate(bson.D{{Key: "$inc", Value: bson.D{{Key: "a", Value: 1}}}}),
	}
	return call{
		use: func(ctx context.Context, c *mongopool.Conn) error {
			_, err := c.Collection("c").BulkWrite(ctx, models, options.BulkWrite().SetOrdered(ordered))
			return err
		},
		first: "insert", second: "update", collection: "c", documents: 1, all: 1, stops: ordered,
	}
}

func moreThanABatch(batch int) call {
	return call{
		use: func(ctx context.Context, c *mongopool.Conn) error {
			all := make([]bson.D, batch+1)
			for i := range all {
				all[i] = bson.D{}
			}
			_, err := c.Collection("c").InsertMany(ctx, all)
			return err
		},
		first: "insert", second: "insert", collection: "c", documents: batch, all: batch + 1, stops: true,
	}
}

func bulkOfAClient(database string, batch int) call {
	return call{
		use: func(ctx context.Context, c *mongopool.Conn) error {
			one := mongo.ClientBulkWrite{Database: database, Collection: "c", Model: mongo.NewClientInsertOneModel().SetDocument(bson.D{})}
			all := make([]mongo.ClientBulkWrite, batch+1)
			for i := range all {
				all[i] = one
			}
			_, err := c.Client().BulkWrite(ctx, all)
			return err
		},
		first: "bulkWrite", second: "bulkWrite", collection: "c", documents: batch, all: batch + 1, stops: true,
	}
}

// upload inserts a part of the file, and then the file's name and size.
func upload() call {
	return call{
		use: func(ctx context.Context, c *mongopool.Conn) error {
			_, err := c.Database().GridFSBucket().UploadFromStream(ctx, "file", bytes.NewReader([]byte("contents")))
			return err
		},
		first: "insert", second: "insert", collection: "fs.chunks", documents: 1, all: 1, stops: true,
	}
}

// bulkWriteVersion is the maxWireVersion of MongoDB 8.0, the first version with bulkWrite.
const bulkWriteVersion = 25

// If the first command of a call has changed data and the second command is refused, the standard
// stack does not repeat the call: the first command would be executed twice. If the first command
// is refused, nothing has changed, and the stack repeats the call.
func TestCallsOfSeveralCommands(t *testing.T) {
	for name, calling := range map[string]func(t *testing.T, d *deployment) call{
		"bulk":              func(*testing.T, *deployment) call { return bulk(true) },
		"unordered bulk":    func(*testing.T, *deployment) call { return bulk(false) },
		"more than a batch": func(t *testing.T, d *deployment) call { return moreThanABatch(d.hello(t).MaxWriteBatchSize) },
		"bulk of a client": func(t *testing.T, d *deployment) call {
			set := d.hello(t)
			if set.MaxWireVersion < bulkWriteVersion {
				t.Skip("the server does not know bulkWrite, as MongoDB 8.0 does: mongopool's own tests have a scripted server that does")
			}
			return bulkOfAClient(d.database, set.MaxWriteBatchSize)
		},
		"upload": func(*testing.T, *deployment) call { return upload() },
	} {
		for reason, refusal := range map[string]bson.D{
			"10107": {{Key: "errorCode", Value: 10107}},
			"462": {
				{Key: "errorCode", Value: 462}, {Key: "errorLabels", Value: bson.A{"SystemOverloadedError", "RetryableError"}},
			},
		} {
			t.Run(name+", "+reason, func(t *testing.T) {
				d := deploy(t)
				c := calling(t, d)
				p, sent := d.newPool(t, mongopool.Options{})
				documents := d.client.Database(d.database).Collection(c.collection)
				check := func(want int) {
					t.Helper()
					if n, err := documents.CountDocuments(bounded(t), bson.D{}); err != nil || int(n) != want {
						t.Errorf("%d documents are held, want %d (%v)", n, want, err)
					}
				}
				sent.onceDone(c.first, func() { d.fail(t, 1, c.second, refusal...) })
				if err := p.Do(bounded(t), pool.Op{Name: name}, c.use); err == nil {
					t.Error("the refusal is no error")
				}
				check(c.documents)
				if !c.stops {
					return
				}
				d.fail(t, 1, c.first, refusal...)
				before := len(sent.of(c.first))
				must(t, p.Do(bounded(t), pool.Op{Name: name}, c.use))
				check(c.documents + c.all)
				if n := len(sent.of(c.first)) - before; n < 2 {
					t.Errorf("%s was sent %d times in a call that had to be repeated", c.first, n)
				}
			})
		}
	}
}
