package mongopool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/pool"
)

// exampleDatabase is dropped at the end of each example.
const exampleDatabase = "poolstack_example"

// open makes a pool over the server at MONGODB_URI. close drops what the example has written.
func open() (p *pool.Pool[*mongopool.Conn], closeAll func()) {
	p, err := mongopool.New(
		mongopool.Options{URI: os.Getenv("MONGODB_URI"), Database: exampleDatabase, AppName: "example"},
		pool.Config{MinIdle: 1, MaxSize: 10},
	)
	if err != nil {
		log.Panic(err)
	}
	return p, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		drop := func(ctx context.Context, c *mongopool.Conn) error { return c.Database().Drop(ctx) }
		if err := errors.Join(p.Do(ctx, pool.Op{Name: "dropDatabase"}, drop), p.Close(ctx)); err != nil {
			log.Panic(err)
		}
	}
}

// Create, read, update and delete, each in a use of its own.
func Example() {
	p, closeAll := open()
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	john := bson.D{{Key: "name", Value: "John"}}

	err := p.Do(ctx, pool.Op{Name: "insert", Target: "users"}, func(ctx context.Context, c *mongopool.Conn) error {
		_, err := c.Collection("users").InsertOne(ctx, john)
		return err
	})
	fmt.Println("insert:", err)

	type user struct {
		Name string
		Age  int
	}
	find := func(ctx context.Context, c *mongopool.Conn) (u user, err error) {
		err = c.Collection("users").FindOne(ctx, john).Decode(&u)
		return u, err
	}
	read := pool.Op{Name: "find", Target: "users", Idempotent: true}
	u, err := pool.Get(ctx, p, read, find)
	fmt.Println("find:", u, err)

	// The update is idempotent: an age set twice is the same age.
	update := pool.Op{Name: "update", Target: "users", Idempotent: true}
	modified, err := pool.Get(ctx, p, update, func(ctx context.Context, c *mongopool.Conn) (int64, error) {
		r, err := c.Collection("users").UpdateOne(ctx, john, bson.D{{Key: "$set", Value: bson.D{{Key: "age", Value: 30}}}})
		if err != nil {
			return 0, err
		}
		return r.ModifiedCount, nil
	})
	fmt.Println("update:", modified, err)

	u, err = pool.Get(ctx, p, read, find)
	fmt.Println("find:", u, err)

	deleted, err := pool.Get(ctx, p, pool.Op{Name: "delete", Target: "users"},
		func(ctx context.Context, c *mongopool.Conn) (int64, error) {
			r, err := c.Collection("users").DeleteOne(ctx, john)
			if err != nil {
				return 0, err
			}
			return r.DeletedCount, nil
		})
	fmt.Println("delete:", deleted, err)

	_, err = pool.Get(ctx, p, read, find)
	fmt.Println("find:", err)

	// Output:
	// insert: <nil>
	// find: {John 0} <nil>
	// update: 1 <nil>
	// find: {John 30} <nil>
	// delete: 1 <nil>
	// find: mongo: no documents in result
}

// A lease in two steps, for work that does not fit into a single function. A cursor lives as long
// as the lease.
func ExampleConn_Collection() {
	p, closeAll := open()
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	lease, err := p.Acquire(ctx, pool.Op{Name: "import", Target: "numbers"})
	if err != nil {
		log.Panic(err)
	}
	ctx = lease.Context()
	conn, _ := lease.Value()
	err = func() error {
		numbers := conn.Collection("numbers")
		_, err := numbers.InsertMany(ctx, []any{bson.D{{Key: "n", Value: 1}}, bson.D{{Key: "n", Value: 2}}, bson.D{{Key: "n", Value: 3}}})
		if err != nil {
			return err
		}
		cursor, err := numbers.Find(ctx, bson.D{{Key: "n", Value: bson.D{{Key: "$gt", Value: 1}}}},
			options.Find().SetSort(bson.D{{Key: "n", Value: 1}}))
		if err != nil {
			return err
		}
		defer func() { _ = cursor.Close(ctx) }()
		for cursor.Next(ctx) {
			fmt.Println(cursor.Current.Lookup("n").AsInt64())
		}
		return cursor.Err()
	}()
	lease.Release(err)
	fmt.Println(err)
	// Output:
	// 2
	// 3
	// <nil>
}

// In a causally consistent session, a read sees the earlier writes, also on another server.
func ExampleConn_StartSession() {
	p, closeAll := open()
	defer closeAll()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	err := p.Do(ctx, pool.Op{Name: "register"}, func(ctx context.Context, c *mongopool.Conn) error {
		session, err := c.StartSession() // ends with the lease
		if err != nil {
			return err
		}
		ctx = mongo.NewSessionContext(ctx, session)
		if _, err := c.Collection("users").InsertOne(ctx, bson.D{{Key: "name", Value: "Ann"}}); err != nil {
			return err
		}
		n, err := c.Collection("users").CountDocuments(ctx, bson.D{{Key: "name", Value: "Ann"}})
		fmt.Println("found:", n)
		return err
	})
	fmt.Println(err)
	// Output:
	// found: 1
	// <nil>
}

// What an error means is for the driver to say; layers ask it by themselves.
func ExampleDriver_Classify() {
	d, err := mongopool.NewDriver(mongopool.Options{URI: os.Getenv("MONGODB_URI"), Database: exampleDatabase})
	if err != nil {
		log.Panic(err)
	}
	p, err := d.NewPool(pool.Config{})
	if err != nil {
		log.Panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = p.Do(ctx, pool.Op{Name: "insert"}, func(ctx context.Context, c *mongopool.Conn) error {
		defer func() { _ = c.Database().Drop(ctx) }()
		id := bson.D{{Key: "_id", Value: bson.NewObjectID()}}
		_, err := c.Collection("users").InsertOne(ctx, id)
		if err != nil {
			return err
		}
		_, err = c.Collection("users").InsertOne(ctx, id)
		return err
	})
	class := d.Classify(err)
	fmt.Println("fault:", class.Fault)
	fmt.Println("repeat:", class.Repeat)
	fmt.Println("code:", class.Code)
	fmt.Println("commands:", d.Stats().Commands)
	fmt.Println(p.Close(ctx))
	// Output:
	// fault: none
	// repeat: never
	// code: 11000
	// commands: 3
	// <nil>
}

// A transaction needs a replica set or a sharded cluster.
func ExampleConn_WithTransaction() {
	transfer := func(ctx context.Context, p *pool.Pool[*mongopool.Conn], from, to string, amount int) error {
		return p.Do(ctx, pool.Op{Name: "transfer", Target: "accounts"}, func(ctx context.Context, c *mongopool.Conn) error {
			return c.WithTransaction(ctx, func(ctx context.Context) error {
				for account, change := range map[string]int{from: -amount, to: amount} {
					_, err := c.Collection("accounts").UpdateByID(ctx, account, bson.D{{Key: "$inc", Value: bson.D{{Key: "balance", Value: change}}}})
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	_ = transfer
}

// What a URI says can be looked at, and completed.
func ExampleParseURI() {
	opts, err := mongopool.ParseURI("mongodb://app:secret@db1,db2:27018/?replicaSet=rs0&readPreference=secondaryPreferred")
	if err != nil {
		log.Panic(err)
	}
	opts.Database = "shop"
	fmt.Println(opts.ReplicaSet, opts.ReadPreference, opts.Validate())
	fmt.Println(opts)

	_, err = mongopool.ParseURI("mongodb://app:secret@db1/shop?read_preference=secondary&maxPoolSize=50")
	fmt.Println(err)
	// Output:
	// rs0 secondaryPreferred <nil>
	// mongopool.Options(hosts "db1,db2:27018", database "shop")
	// mongopool: URI: option maxpoolsize is "50": must be left out: pool.Config.MaxSize says how many sockets there are
	// mongopool: URI: option read_preference is unknown: must be readPreference
}
