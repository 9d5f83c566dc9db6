package mongopool

import (
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/earnorm/poolstack/pool/driver"
)

func TestDescribe(t *testing.T) {
	list := func(n int) bson.A { return slices.Repeat(bson.A{bson.D{{Key: "q", Value: 1}}}, n) }
	doc := func(name string, value any, more ...bson.E) bson.D {
		return append(bson.D{{Key: name, Value: value}}, more...)
	}
	for _, c := range []struct {
		doc  bson.D
		want driver.Command
	}{
		{doc("find", "people"), driver.Command{Name: "find", Target: "people"}},
		{doc("collStats", "people"), driver.Command{Name: "collStats", Target: "people"}},
		{doc("collstats", "people"), driver.Command{Name: "collstats", Target: "people"}},
		{doc("validate", "people"), driver.Command{Name: "validate", Target: "people"}},
		{doc("getMore", int64(7), bson.E{Key: "collection", Value: "people"}), driver.Command{Name: "getMore", Target: "people"}},
		{doc("getMore", int64(7), bson.E{Key: "collection", Value: "$cmd.aggregate"}), driver.Command{Name: "getMore", OnDatabase: true}},
		{doc("killCursors", "$cmd.listCollections"), driver.Command{Name: "killCursors", OnDatabase: true}},
		{doc("dbStats", 1), driver.Command{Name: "dbStats", OnDatabase: true}},
		{doc("aggregate", 1), driver.Command{Name: "aggregate", OnDatabase: true}},
		{doc("createUser", "bob"), driver.Command{Name: "createUser", OnDatabase: true}},
		{doc("ping", 1), driver.Command{Name: "ping"}},
		{doc("commitTransaction", 1), driver.Command{Name: "commitTransaction"}},
		{doc("renameCollection", "test.a"), driver.Command{Name: "renameCollection"}},
		{doc("update", "people", bson.E{Key: "updates", Value: list(1)}), driver.Command{Name: "update", Target: "people"}},
		{doc("update", "people", bson.E{Key: "updates", Value: list(2)}), driver.Command{Name: "BATCH update", Target: "people", Batch: 2}},
		{doc("delete", "people", bson.E{Key: "deletes", Value: list(3)}), driver.Command{Name: "BATCH delete", Target: "people", Batch: 3}},
		{doc("insert", "people", bson.E{Key: "documents", Value: list(3)}), driver.Command{Name: "insert", Target: "people"}},
		{doc("bulkWrite", 1, bson.E{Key: "ops", Value: list(2)}), driver.Command{Name: "bulkWrite", Batch: 2}},
		{doc("s3cret", "people"), driver.Command{Name: "_OTHER"}},
		{doc("Find", "people"), driver.Command{Name: "_OTHER"}}, // the server does not know it either
		{doc("", 1), driver.Command{Name: "_OTHER"}},
	} {
		name := c.doc[0].Key
		if got := describe(name, marshal(t, c.doc)); got != c.want {
			t.Errorf("%v is %+v, want %+v", c.doc, got, c.want)
		}
	}
}

// All commands of a server have names.
func TestNamesOfAServer(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI(liveURI(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(t.Context()) }()
	var reply struct {
		Commands map[string]bson.Raw `bson:"commands"`
	}
	if err := client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "listCommands", Value: 1}}).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	if n := len(reply.Commands); n < 40 {
		t.Errorf("the server has only %d commands", n)
	}
	for name := range reply.Commands {
		internal := strings.HasPrefix(name, "_") || name == "debugError" // between servers, and FerretDB's own
		if got := displayName(name); got != name && !internal {
			t.Errorf("%s is shown as %s", name, got)
		}
	}
}

// Each command that changes nothing, and each command in the tables of this package, has a name.
func TestNamesOfTables(t *testing.T) {
	for name := range readOnly {
		if displayName(name) != name {
			t.Errorf("%s has no name", name)
		}
	}
	for name := range statements {
		if displayName(name) != name {
			t.Errorf("%s has no name", name)
		}
	}
}
