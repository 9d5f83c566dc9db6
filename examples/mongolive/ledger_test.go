package mongolive

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/examples/ledger"
	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/pool"
)

// The server fails in every possible way. No write acknowledged by the standard stack is lost, and
// no insert is executed twice unless the insert may be repeated.
func TestLedger(t *testing.T) {
	stack, err := middleware.Standard(middleware.Options{
		Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)}, Without: []string{middleware.KindTracing, middleware.KindMetrics},
	})
	must(t, err)
	p, err := mongopool.New(mongopool.Options{URI: servers.MongoDBURI(), Database: database}, pool.Config{MaxSize: 8}, stack.Layers()...)
	must(t, err)
	defer func() { must(t, p.Close(bounded(t))) }()
	for _, fault := range ledger.Faults(servers, control.MongoDB) {
		t.Run(fault.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			collection := "ledger_" + strings.ReplaceAll(fault.Name, " ", "_")
			op := pool.Op{Name: "insert", Target: collection}
			l := ledger.During(ctx, t, fault, func(ctx context.Context, name string) error {
				return p.Do(ctx, op, func(ctx context.Context, c *mongopool.Conn) error {
					_, err := c.Collection(collection).InsertOne(ctx, bson.D{{Key: "name", Value: name}})
					return err
				})
			})
			bare, err := mongo.Connect(options.Client().ApplyURI(servers.MongoDBURI()))
			must(t, err)
			defer func() { must(t, bare.Disconnect(bounded(t))) }()
			found, err := bare.Database(database).Collection(collection).Find(ctx, bson.D{})
			must(t, err)
			var entries []struct{ Name string }
			must(t, found.All(ctx, &entries))
			held := map[string]int{}
			for _, e := range entries {
				held[e.Name]++
			}
			if err := l.Compare(held); err != nil {
				t.Error(err)
			}
			t.Logf("%d acknowledged, %d held", l.Acknowledged(), len(held))
		})
	}
}
