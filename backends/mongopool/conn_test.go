package mongopool

import (
	"context"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/earnorm/poolstack/pool"
)

// A kept handle is that of the name, of the client in use, and of no options.
func TestCollection(t *testing.T) {
	f := newFake(t)
	_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
	kept := func(ctx context.Context, c *Conn) error {
		things := c.Collection("things")
		if again := c.Collection("things"); again != things {
			t.Error("a handle was made again")
		}
		for name, other := range map[string]interface {
			Name() string
		}{"others": c.Collection("others"), "things": c.Collection("things", options.Collection().SetReadPreference(readpref.Secondary()))} {
			if other == things || other.Name() != name {
				t.Errorf("for %q there is a handle of %q", name, other.Name())
			}
		}
		if client := c.Collection("things").Database().Client(); client != c.Client() {
			t.Error("a handle belongs to a client that is not in use")
		}
		return ping(ctx, c)
	}
	if err := p.Do(bounded(t), pool.Op{}, kept); err != nil {
		t.Error(err)
	}
	err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
		if err := c.Client().Disconnect(ctx); err != nil {
			t.Error(err)
		}
		return ping(ctx, c)
	})
	if err == nil {
		t.Error("a disconnected client answers")
	}
	eventually(t, "a use succeeds", func() bool { return p.Do(bounded(t), pool.Op{}, kept) == nil })
}
