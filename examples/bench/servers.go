package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/examples/servers/local"
)

// servers are a redis-server and a FerretDB on loopback, as separate processes. The subjects
// connect directly, not through the proxies for faults.
type servers struct {
	running *local.Servers // nil before start
	redis   string         // host:port
	mongo   string         // host:port
	version string         // from redis-server --version
}

// The data for the calls.
const (
	key        = "bench"
	database   = "bench"
	collection = "things"
	documents  = 1000
)

var (
	value    = strings.Repeat("x", 128)
	document = bson.NewObjectID()
)

// start starts the servers and writes the data, unless the servers are already running.
func (s *servers) start() error {
	if s.running != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	running, err := local.Start(ctx, local.Options{Redis: local.RedisServer})
	if err != nil {
		return err
	}
	s.running = running
	all, err := running.Status(ctx)
	if err != nil {
		return err
	}
	for _, st := range all {
		if st.Name == control.Redis {
			s.redis = st.Addr
		} else {
			s.mongo = st.Addr
		}
	}
	if version, err := exec.CommandContext(ctx, "redis-server", "--version").Output(); err == nil {
		s.version = strings.TrimSpace(string(version))
	}
	if err := s.fillRedis(ctx); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	if err := s.fillMongo(ctx); err != nil {
		return fmt.Errorf("mongodb: %w", err)
	}
	return nil
}

// fillRedis writes the key, and turns off the append-only file. Otherwise a SET would measure the
// disk, because each write goes to the disk before the answer.
func (s *servers) fillRedis(ctx context.Context) error {
	c := redis.NewClient(&redis.Options{Addr: s.redis})
	defer c.Close()
	if err := c.ConfigSet(ctx, "appendonly", "no").Err(); err != nil {
		return err
	}
	return c.Set(ctx, key, value, 0).Err()
}

func (s *servers) fillMongo(ctx context.Context) error {
	c, err := mongo.Connect(options.Client().ApplyURI(s.mongoURI()))
	if err != nil {
		return err
	}
	defer func() { _ = c.Disconnect(ctx) }()
	docs := make([]bson.D, documents)
	for i := range docs {
		docs[i] = bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "text", Value: value}}
	}
	docs[documents/2][0].Value = document
	_, err = c.Database(database).Collection(collection).InsertMany(ctx, docs)
	return err
}

func (s *servers) mongoURI() string { return "mongodb://" + s.mongo + "/" }

// about returns a line with the version of redis-server, or "" without servers.
func (s *servers) about() string {
	if s.running == nil {
		return ""
	}
	return "- " + s.version + "\n"
}

// close stops the servers.
func (s *servers) close() error {
	if s.running == nil {
		return nil
	}
	return s.running.Close()
}
