package main

import (
	"context"
	"encoding/binary"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const mongoDatabase = "outage"

// mongoNames are the collections with a lane's writes in MongoDB. A put has its own document. An
// add has its own document with the number of executions.
type mongoNames struct{ puts, adds string }

func newMongoNames(run string, s side) mongoNames {
	prefix := run + "_" + string(s)
	return mongoNames{puts: prefix + "_puts", adds: prefix + "_adds"}
}

// document holds a write.
type document struct {
	ID    bson.ObjectID `bson:"_id"`
	Text  string        `bson:"text,omitempty"`
	Times int           `bson:"times,omitempty"`
}

// do executes op with any client of the driver.
func (n mongoNames) do(ctx context.Context, db *mongo.Database, op operation) (string, error) {
	id := objectID(op.id)
	switch op.kind {
	case put:
		_, err := db.Collection(n.puts).InsertOne(ctx, document{ID: id, Text: op.text()})
		// An id is used only once. A duplicate key means an earlier attempt succeeded and its answer was
		// lost.
		if mongo.IsDuplicateKeyError(err) {
			return "", nil
		}
		return "", err
	case add:
		_, err := db.Collection(n.adds).UpdateOne(ctx, bson.D{{Key: "_id", Value: id}},
			bson.D{{Key: "$inc", Value: bson.D{{Key: "times", Value: 1}}}}, options.UpdateOne().SetUpsert(true))
		return "", err
	default:
		var d document
		err := db.Collection(n.puts).FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Decode(&d)
		if errors.Is(err, mongo.ErrNoDocuments) {
			return "", nil
		}
		return d.Text, err
	}
}

// objectID returns the id of an operation as an ObjectID. Each lane has new collections, so the id
// must be unique only within a lane.
func objectID(id int) (o bson.ObjectID) {
	binary.BigEndian.PutUint64(o[4:], uint64(id))
	return o
}

// A mongoStore reads the lanes' writes.
type mongoStore struct {
	client *mongo.Client
	run    string
}

func newMongoStore(uri, run string) (*mongoStore, error) {
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return nil, err
	}
	return &mongoStore{client: client, run: run}, nil
}

func (s *mongoStore) both(do func(n mongoNames, db *mongo.Database) error) error {
	db := s.client.Database(mongoDatabase)
	return errors.Join(do(newMongoNames(s.run, stacked), db), do(newMongoNames(s.run, bare), db))
}

func (s *mongoStore) prepare(ctx context.Context) error {
	return s.both(func(n mongoNames, db *mongo.Database) error { return n.prepare(ctx, db) })
}

func (s *mongoStore) holding(ctx context.Context, of side) (holding, error) {
	return newMongoNames(s.run, of).holding(ctx, s.client.Database(mongoDatabase))
}

func (s *mongoStore) remove(ctx context.Context) error {
	return s.both(func(n mongoNames, db *mongo.Database) error { return n.remove(ctx, db) })
}

func (s *mongoStore) close(ctx context.Context) error { return s.client.Disconnect(ctx) }

// holding reads the lane's data from the server.
func (n mongoNames) holding(ctx context.Context, db *mongo.Database) (holding, error) {
	h := holding{puts: map[int]string{}, adds: map[int]int{}}
	err := each(ctx, db.Collection(n.puts), func(id int, d document) { h.puts[id] = d.Text })
	if err == nil {
		err = each(ctx, db.Collection(n.adds), func(id int, d document) { h.adds[id] = d.Times })
	}
	return h, err
}

// each calls f with every document of a collection.
func each(ctx context.Context, c *mongo.Collection, f func(id int, d document)) error {
	cursor, err := c.Find(ctx, bson.D{})
	if err != nil {
		return err
	}
	defer func() { _ = cursor.Close(ctx) }()
	for cursor.Next(ctx) {
		var d document
		if err := cursor.Decode(&d); err != nil {
			return err
		}
		f(int(binary.BigEndian.Uint64(d.ID[4:])), d)
	}
	return cursor.Err()
}

// prepare creates the collections before the first operation.
func (n mongoNames) prepare(ctx context.Context, db *mongo.Database) error {
	return errors.Join(db.CreateCollection(ctx, n.puts), db.CreateCollection(ctx, n.adds))
}

// remove deletes the lane's writes.
func (n mongoNames) remove(ctx context.Context, db *mongo.Database) error {
	return errors.Join(db.Collection(n.puts).Drop(ctx), db.Collection(n.adds).Drop(ctx))
}
