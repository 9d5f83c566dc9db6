package local_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// A client connects to a server through its proxy, as a user's program does.
type client interface {
	ping(ctx context.Context) error
	write(ctx context.Context, i int) error
	numbers(t *testing.T) map[int]bool // the numbers written to the server
}

// A backing has servers: local.Servers or local.Remote.
type backing interface {
	RedisURL() string
	MongoDBURI() string
}

// connect returns a client that is closed with the test.
func connect(t *testing.T, s backing, name string) client {
	t.Helper()
	if name == control.Redis {
		opts, err := redis.ParseURL(s.RedisURL())
		if err != nil {
			t.Fatal(err)
		}
		opts.MaxRetries, opts.ContextTimeoutEnabled = -1, true
		c := redis.NewClient(opts)
		t.Cleanup(func() { _ = c.Close() })
		return redisClient{c}
	}
	opts := options.Client().ApplyURI(s.MongoDBURI()).SetRetryWrites(false).SetServerSelectionTimeout(5 * time.Second)
	c, err := mongo.Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(context.Background()) })
	return mongoClient{c.Database("test").Collection("numbers")}
}

type redisClient struct{ *redis.Client }

func (c redisClient) ping(ctx context.Context) error { return c.Ping(ctx).Err() }

func (c redisClient) write(ctx context.Context, i int) error {
	return c.Set(ctx, "number:"+strconv.Itoa(i), i, 0).Err()
}

func (c redisClient) numbers(t *testing.T) map[int]bool {
	t.Helper()
	found := make(map[int]bool)
	all := c.Scan(t.Context(), 0, "number:*", 1000).Iterator()
	for all.Next(t.Context()) {
		i, err := strconv.Atoi(strings.TrimPrefix(all.Val(), "number:"))
		if err != nil {
			t.Fatal(err)
		}
		found[i] = true
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

type mongoClient struct{ *mongo.Collection }

func (c mongoClient) ping(ctx context.Context) error { return c.Database().Client().Ping(ctx, nil) }

func (c mongoClient) write(ctx context.Context, i int) error {
	_, err := c.InsertOne(ctx, bson.D{{Key: "number", Value: i}})
	return err
}

func (c mongoClient) numbers(t *testing.T) map[int]bool {
	t.Helper()
	cursor, err := c.Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	var docs []struct{ Number int }
	if err := cursor.All(t.Context(), &docs); err != nil {
		t.Fatal(err)
	}
	found := make(map[int]bool)
	for _, doc := range docs {
		found[doc.Number] = true
	}
	return found
}
