package mongopool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/earnorm/poolstack/pool"
)

// newFakeBalanced returns a server that a driver takes for a server behind a load balancer. Each
// find opens a cursor with another batch. The cursors have the ids 1, 2, 3 and so on.
func newFakeBalanced(t testing.TB) *fakeServer {
	f := newFake(t)
	f.hello = append(f.hello, bson.E{Key: "serviceId", Value: bson.NewObjectID()}, bson.E{Key: "msg", Value: "isdbgrid"})
	f.scriptCursors()
	return f
}

func (f *fakeServer) scriptCursors() {
	batch := func(id int64, name string) reply {
		return reply{doc: bson.D{{Key: "ok", Value: 1}, {Key: "cursor", Value: bson.D{
			{Key: "id", Value: id}, {Key: "ns", Value: "test.c"}, {Key: name, Value: bson.A{bson.D{{Key: "a", Value: 1}}}},
		}}}}
	}
	var found []reply
	for id := range int64(100) {
		found = append(found, batch(id+1, "firstBatch"))
	}
	f.script("find", found...)
	f.script("getMore", batch(0, "nextBatch"))
}

// forget opens a cursor, and leaves the cursor open.
func forget(ctx context.Context, c *Conn) error {
	cursor, err := c.Collection("c").Find(ctx, bson.D{})
	if err == nil && !cursor.Next(ctx) {
		err = cursor.Err()
	}
	return err
}

// Behind a load balancer a cursor has a socket of its own. A cursor that is left open does not keep
// the socket from the next borrowers.
func TestCursorLeftBehindALoadBalancer(t *testing.T) {
	f := newFakeBalanced(t)
	d, p := newPool(t, Options{URI: f.uri() + "?loadBalanced=true"}, pool.Config{MaxSize: 1})
	for i := range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := p.Do(ctx, pool.Op{}, forget); err != nil {
			t.Fatalf("use %d: %v", i, err)
		}
		cancel()
	}
	if err := p.Do(bounded(t), pool.Op{}, insert); err != nil {
		t.Error(err)
	}
	if n := d.Stats().CursorsLeft; n != 5 {
		t.Errorf("%d cursors were left open, want 5", n)
	}
	eventually(t, "the sockets of the cursors are closed", func() bool { return d.Stats().Clients == 1 && d.Stats().Sockets == 1 })
}

// A cursor that is closed, or read to its end, is not left open. A cursor that is left open is
// reported with the borrower's stack.
func TestCursorsLeftAreTold(t *testing.T) {
	find := func(ctx context.Context, c *Conn) *mongo.Cursor {
		cursor, err := c.Collection("c").Find(ctx, bson.D{})
		if err != nil {
			t.Error(err)
		}
		return cursor
	}
	for name, tc := range map[string]struct {
		use  func(ctx context.Context, c *Conn) error
		left uint64
	}{
		"closed": {func(ctx context.Context, c *Conn) error { return find(ctx, c).Close(ctx) }, 0},
		"closed in another context": {func(ctx context.Context, c *Conn) error {
			return find(ctx, c).Close(context.WithoutCancel(t.Context()))
		}, 0},
		"read": {func(ctx context.Context, c *Conn) error {
			var all []bson.D
			return find(ctx, c).All(ctx, &all)
		}, 0},
		"read in another context": {func(ctx context.Context, c *Conn) error {
			var all []bson.D
			return find(ctx, c).All(t.Context(), &all)
		}, 0},
		"two, and one is read": {func(ctx context.Context, c *Conn) error {
			first := find(ctx, c)
			var all []bson.D
			return errors.Join(find(ctx, c).All(ctx, &all), first.Err())
		}, 1},
		"left":         {forget, 1},
		"two are left": {func(ctx context.Context, c *Conn) error { _ = forget(ctx, c); return forget(ctx, c) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.scriptCursors()
			l := &listener{}
			d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1, LeakAfter: time.Hour}, pool.Bracket(l))
			_ = p.Do(bounded(t), pool.Op{}, tc.use)
			if n := d.Stats().CursorsLeft; n != tc.left {
				t.Errorf("%d cursors were left open, want %d", n, tc.left)
			}
			if tc.left == 0 {
				return
			}
			warning := func() (e pool.Event) {
				l.mu.Lock()
				defer l.mu.Unlock()
				for _, e = range l.events {
					if e.Kind == pool.EventWarning {
						return e
					}
				}
				return pool.Event{}
			}
			eventually(t, "the warning has come", func() bool { return warning().Kind != "" })
			e := warning()
			first, _, _ := strings.Cut(e.Stack, "\n")
			if !strings.Contains(e.Reason, "test.c") || e.Layer != layerName || !strings.Contains(first, "mongopool.") || strings.Contains(first, "cursors)") {
				t.Errorf("the pool said %s: %s\n%s", e.Layer, e.Reason, e.Stack)
			}
		})
	}
}

// Nobody follows the cursors of a pool that does not look for leaks.
func TestCursorsAreNotFollowed(t *testing.T) {
	f := newFake(t)
	f.scriptCursors()
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
	if err := p.Do(bounded(t), pool.Op{}, forget); err != nil {
		t.Error(err)
	}
	if n := d.Stats().CursorsLeft; n != 0 {
		t.Errorf("%d cursors were left open, want 0", n)
	}
}
