package main

import (
	"context"
	"os"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// The audit finds data that was written and then damaged on the server.
func TestAuditOfRealServers(t *testing.T) {
	startServers(t)
	redisClient, err := newBareRedis(os.Getenv(control.EnvRedis), newRedisKeys("run", stacked), &wire{})
	if err != nil {
		t.Fatal(err)
	}
	mongoClient, err := newBareMongo(os.Getenv(control.EnvMongoDB), newMongoNames("run", stacked), &wire{})
	if err != nil {
		t.Fatal(err)
	}
	redisOpen, err := newRedisStore(os.Getenv(control.EnvRedis), "run")
	if err != nil {
		t.Fatal(err)
	}
	mongoOpen, err := newMongoStore(os.Getenv(control.EnvMongoDB), "run")
	if err != nil {
		t.Fatal(err)
	}
	documents := mongoClient.client.Database(mongoDatabase)
	for name, tt := range map[string]struct {
		client client
		store  store
		lose   func(ctx context.Context) error // deletes the put with id 0
	}{
		control.Redis: {redisClient, redisOpen, func(ctx context.Context) error {
			return redisClient.client.HDel(ctx, redisClient.keys.puts, "0").Err()
		}},
		control.MongoDB: {mongoClient, mongoOpen, func(ctx context.Context) error {
			_, err := documents.Collection(mongoClient.names.puts).DeleteOne(ctx, bson.D{{Key: "_id", Value: objectID(0)}})
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) { auditSpoiled(t, tt.client, tt.store, tt.lose) })
	}
}

func auditSpoiled(t *testing.T, c client, st store, lose func(context.Context) error) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	defer func() { must(st.close(context.Background())); must(c.close(context.Background())) }()
	must(st.prepare(ctx))

	l := &ledger{}
	var ops []operation
	for i := range 20 {
		op := l.next([]kind{put, add}[i%2], random())
		if _, err := c.do(ctx, op); err != nil {
			t.Fatal(err)
		}
		l.acknowledge(op)
		ops = append(ops, op)
	}
	text, err := c.do(ctx, operation{read, 0})
	must(err)
	if l.wrong(operation{read, 0}, text) {
		t.Errorf("it reads %q", text)
	}
	compare := func(want audit) {
		t.Helper()
		held, err := st.holding(ctx, stacked)
		must(err)
		if got := l.compare(held); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	compare(audit{writes: 20, acknowledged: 20})

	for range 2 {
		_, err := c.do(ctx, ops[1]) // an add
		must(err)
	}
	_, err = c.do(ctx, ops[2]) // a put: harmless
	must(err)
	must(lose(ctx))
	compare(audit{writes: 20, acknowledged: 20, lost: 1, repeated: 1, surplus: 2})

	if text, err := c.do(ctx, operation{read, 0}); err != nil || text != "" {
		t.Errorf("a read of what is not there: %q, %v", text, err)
	}
	must(st.remove(ctx))
	compare(audit{writes: 20, acknowledged: 20, lost: 20})
}
