package main

import (
	"context"
	"errors"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/pool"
)

const (
	mongoRead = "values"
	mongoID   = "value" // of the document that is read
)

// fillMongo writes the document for reads into a new database, and creates the lanes' collections.
func fillMongo(ctx context.Context, addr, database string, lanes []string) error {
	c, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + addr + "/"))
	if err != nil {
		return err
	}
	defer func() { _ = c.Disconnect(ctx) }()
	db := c.Database(database)
	_, err = db.Collection(mongoRead).InsertOne(ctx, bson.D{{Key: "_id", Value: mongoID}, {Key: "text", Value: strings.Repeat("x", 128)}})
	for _, lane := range lanes {
		err = errors.Join(err, db.CreateCollection(ctx, where{lane: lane}.collection()))
	}
	return err
}

func (w where) collection() string { return "lane_" + w.lane }

// mongoDo executes a use with any client of the driver. The error is the client's own.
func mongoDo(ctx context.Context, db *mongo.Database, w where, u use) error {
	find := func(id string) error {
		return db.Collection(mongoRead).FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Err()
	}
	update := func(id any, change string) error {
		_, err := db.Collection(w.collection()).UpdateOne(ctx, bson.D{{Key: "_id", Value: id}},
			bson.D{{Key: change, Value: bson.D{{Key: "n", Value: 1}}}}, options.UpdateOne().SetUpsert(true))
		return err
	}
	switch u.kind {
	case write:
		return update("written", "$set")
	case add:
		return update(u.id, "$inc")
	case several:
		for range 2 {
			if err := find(mongoID); err != nil {
				return err
			}
		}
	case miss:
		return find("nothing")
	case mistake:
		_, err := db.Collection(mongoRead).InsertOne(ctx, bson.D{{Key: "_id", Value: mongoID}})
		return err
	}
	return find(mongoID)
}

// asExpectedMongo returns nil for the error expected for the kind.
func asExpectedMongo(k kind, err error) error {
	switch {
	case k == miss && errors.Is(err, mongo.ErrNoDocuments):
		return nil
	case k == mistake && mongo.IsDuplicateKeyError(err):
		return nil
	}
	return err
}

// mongoOps are the names of the operations in the stack.
var mongoOps = map[kind]string{
	read: "find", write: "update", add: "update", several: "find", miss: "find", mistake: "insert", nested: "find",
}

// stackedMongo is the default stack.
type stackedMongo struct {
	where
	mongoCounters
	outer, inner *pool.Pool[*mongopool.Conn]
}

func newStackedMongo(w where) (client, error) {
	s := &stackedMongo{where: w, mongoCounters: mongoCounters{w}}
	var err error
	if s.outer, err = newMongoPool(w, w.addr, "mongodb"); err != nil {
		return nil, err
	}
	if w.inner != "" {
		s.inner, err = newMongoPool(w, w.inner, "inner")
	}
	return s, err
}

func newMongoPool(w where, addr, name string) (*pool.Pool[*mongopool.Conn], error) {
	stack, err := newStack(w.preset)
	if err != nil {
		return nil, err
	}
	return mongopool.New(mongopool.Options{URI: "mongodb://" + addr + "/", Database: w.db}, poolConfig(w, name), stack.Layers()...)
}

func (s *stackedMongo) do(ctx context.Context, u use) error {
	target := mongoRead
	if u.kind == write || u.kind == add {
		target = s.collection()
	}
	op := pool.Op{Name: mongoOps[u.kind], Target: target, Idempotent: u.kind.repeatable()}
	return asExpectedMongo(u.kind, s.outer.Do(ctx, op, func(ctx context.Context, c *mongopool.Conn) error {
		err := mongoDo(ctx, c.Database(), s.where, u)
		if err == nil && u.kind == nested {
			err = s.inner.Do(ctx, op, func(ctx context.Context, c *mongopool.Conn) error { return mongoDo(ctx, c.Database(), s.where, u) })
		}
		return err
	}))
}

func (s *stackedMongo) warm(ctx context.Context) (bool, error) {
	return true, s.outer.Warm(ctx, s.size)
}

func (s *stackedMongo) close() {
	closing(s.outer.Close)
	if s.inner != nil {
		closing(s.inner.Close)
	}
}

// bareMongo is the driver.
type bareMongo struct {
	where
	mongoCounters
	outer, inner *mongo.Client
}

func newBareMongo(w where) (client, error) {
	connect := func(addr string) (*mongo.Client, error) {
		return mongo.Connect(options.Client().ApplyURI("mongodb://" + addr + "/").SetMaxPoolSize(uint64(w.size)))
	}
	b := &bareMongo{where: w, mongoCounters: mongoCounters{w}}
	var err error
	if b.outer, err = connect(w.addr); err != nil {
		return nil, err
	}
	if w.inner != "" {
		b.inner, err = connect(w.inner)
	}
	return b, err
}

func (b *bareMongo) do(ctx context.Context, u use) error {
	err := mongoDo(ctx, b.outer.Database(b.db), b.where, u)
	if err == nil && u.kind == nested {
		err = mongoDo(ctx, b.inner.Database(b.db), b.where, u)
	}
	return asExpectedMongo(u.kind, err)
}

func (b *bareMongo) warm(context.Context) (bool, error) { return false, nil }

func (b *bareMongo) close() {
	closing(b.outer.Disconnect)
	if b.inner != nil {
		closing(b.inner.Disconnect)
	}
}

// mongoCounters reads the counters of a lane without the proxy.
type mongoCounters struct{ at where }

func (m mongoCounters) twice(ctx context.Context, _ []int) (map[int]bool, error) {
	c, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + m.at.direct + "/"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Disconnect(ctx) }()
	cursor, err := c.Database(m.at.db).Collection(m.at.collection()).Find(ctx, bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: 1}}}})
	if err != nil {
		return nil, err
	}
	var documents []struct {
		ID any `bson:"_id"`
	}
	if err := cursor.All(ctx, &documents); err != nil {
		return nil, err
	}
	found := map[int]bool{}
	for _, d := range documents {
		if id, ok := d.ID.(int32); ok {
			found[int(id)] = true
		} else if id, ok := d.ID.(int64); ok {
			found[int(id)] = true
		}
	}
	return found, nil
}
