package main

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/pool"
)

const mongoDriver = "the driver"

// ofMongo is the factor for the sample duration of FerretDB, which answers a tenth of Redis's
// calls.
const ofMongo = 10

var opFind = pool.Op{Name: "find", Target: collection, Idempotent: true}

// findOne finds a document by its id.
func findOne(ctx context.Context, c *mongo.Collection) (bson.Raw, error) {
	return c.FindOne(ctx, bson.D{{Key: "_id", Value: document}}).Raw()
}

// mongoScenarios compare a find-one with the bare driver.
func mongoScenarios(s *servers) []scenario {
	var all []scenario
	for _, callers := range []int{1, 8, 64} {
		limit := unbound
		if callers == 64 {
			limit = 0.95
		}
		about := fmt.Sprintf("By ObjectID, from FerretDB on loopback, %d sockets each; else as for Redis.", sockets)
		all = append(all, compare(fmt.Sprintf("MongoDB find-one, %d goroutines", callers), about, func() []contestant {
			return []contestant{driverCalls(s, callers), mongoCalls(s, callers)}
		}, throughput(our, mongoDriver, limit), cpu(our, mongoDriver, unbound), latency(our, mongoDriver, unbound)))
	}
	return all
}

func driverCalls(s *servers, callers int) contestant {
	told := newProviders()
	c, err := mongo.Connect(options.Client().ApplyURI(s.mongoURI()).SetMaxPoolSize(sockets))
	check(err)
	things := c.Database(database).Collection(collection)
	all := calls(mongoDriver, callers, ofMongo, func() *requests { return newRequests(told, oneIn) }, func(ctx context.Context) error {
		_, err := findOne(ctx, things)
		return err
	})
	return contestant{all.subject, func() { all.close(); check(c.Disconnect(context.Background())); told.close() }}
}

// mongoCalls returns calls through the standard stack over mongopool.
func mongoCalls(s *servers, callers int) contestant {
	told := newProviders()
	p, err := mongopool.New(mongopool.Options{URI: s.mongoURI(), Database: database}, busyPool(),
		standard(telling(told, true), patience, attemptPatience)...)
	check(err)
	check(p.Warm(context.Background(), sockets))
	find := func(ctx context.Context, c *mongopool.Conn) (bson.Raw, error) {
		return findOne(ctx, c.Collection(collection))
	}
	all := calls(our, callers, ofMongo, func() *requests { return newRequests(told, oneIn) }, func(ctx context.Context) error {
		_, err := pool.Get(ctx, p, opFind, find)
		return err
	})
	return contestant{all.subject, func() { all.close(); check(p.Close(context.Background())); told.close() }}
}
