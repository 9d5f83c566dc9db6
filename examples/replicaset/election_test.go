package replicaset

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/examples/ledger"
	"github.com/earnorm/poolstack/pool"
)

// without is the time without a primary.
const without = 500 * time.Millisecond

// A writer inserts entries through a single client, and records the result of each insert.
type writer struct {
	name   string
	insert func(ctx context.Context, collection, entry string) error
	sent   *commands

	ledger ledger.Ledger
	failed atomic.Int64
}

// through returns a writer with a pool and the standard stack. The options are options of the URI.
func (d *deployment) through(t testing.TB, name, options string, retryWrites bool) *writer {
	p, sent := d.newPool(t, mongopool.Options{URI: d.uri + options, RetryWrites: &retryWrites})
	return &writer{name: name, sent: sent, insert: func(ctx context.Context, collection, entry string) error {
		return p.Do(ctx, pool.Op{Name: "insert", Target: collection}, func(ctx context.Context, c *mongopool.Conn) error {
			_, err := c.Collection(collection).InsertOne(ctx, bson.D{{Key: "name", Value: entry}})
			return err
		})
	}}
}

// bare returns a writer with the driver and its default options. By default the driver retries
// writes.
func (d *deployment) bare(t testing.TB, options string) *writer {
	sent := &commands{}
	db := connect(t, d.uri+options, sent.monitor()).Database(d.database)
	return &writer{name: "bare", sent: sent, insert: func(ctx context.Context, collection, entry string) error {
		_, err := db.Collection(collection).InsertOne(ctx, bson.D{{Key: "name", Value: entry}})
		return err
	}}
}

const writing = 8 // goroutines of each writer

// suffer runs all writers at the same time, before, during and after the trouble.
func (d *deployment) suffer(t *testing.T, writers []*writer, trouble func()) {
	t.Helper()
	done := make(chan struct{})
	var all sync.WaitGroup
	for _, w := range writers {
		write := func(ctx context.Context, entry string) error {
			err := w.insert(ctx, w.name, entry)
			if err != nil {
				w.failed.Add(1)
				t.Logf("%s: %v", w.name, err)
			}
			return err
		}
		all.Go(func() { w.ledger.Write(t.Context(), writing, patience, done, write) })
	}
	await := func() {
		for _, w := range writers {
			w.ledger.Await(bounded(t), t, 100)
		}
	}
	func() {
		defer all.Wait()
		defer close(done)
		await()
		trouble()
		await()
	}()
	for _, w := range writers {
		if err := w.ledger.Compare(d.held(t, w.name)); err != nil {
			t.Errorf("%s: %v", w.name, err)
		}
		t.Logf("%s: %d acknowledged, %d failed; %d commands, %d of which failed", w.name, w.ledger.Acknowledged(), w.failed.Load(),
			len(w.sent.of("insert")), w.sent.failures())
	}
}

// The primary steps down under load, and another member is elected. No write fails, no acknowledged
// write is lost, and no write is executed twice. The driver learns of the step-down from hello at
// once, or from the first refused write.
func TestStepDownUnderLoad(t *testing.T) {
	for name, tc := range map[string]struct {
		options string
		refused bool
	}{
		"told by hello":           {"", false},
		"told by a refused write": {"&serverMonitoringMode=poll&heartbeatFrequencyMS=60000", true},
	} {
		t.Run(name, func(t *testing.T) {
			d := double(t)
			first := d.set.Primary()
			writers := []*writer{d.through(t, "stack", tc.options, false), d.bare(t, tc.options)}
			d.suffer(t, writers, func() {
				d.set.StepDown()
				<-time.After(without)
				must(t, d.set.Elect())
			})
			for _, w := range writers {
				if n := w.failed.Load(); n > 0 {
					t.Errorf("%s: %d writes failed", w.name, n)
				}
				if tc.refused && w.sent.failures() == 0 {
					t.Errorf("%s: no command was refused", w.name)
				}
			}
			if now := d.set.Primary(); now == first || now == "" {
				t.Errorf("%q is the primary, and was it before", now)
			}
		})
	}
}

// The primary dies under load, another member is elected, and the dead member comes back. No
// acknowledged write is lost, and no write is executed twice. Writes with lost replies fail, unless
// the driver may retry the writes.
func TestPrimaryDiesUnderLoad(t *testing.T) {
	d := double(t)
	first := d.set.Primary()
	plain, retrying, bare := d.through(t, "stack", "", false), d.through(t, "stack with RetryWrites", "", true), d.bare(t, "")
	d.suffer(t, []*writer{plain, retrying, bare}, func() {
		must(t, d.set.KillPrimary())
		<-time.After(without)
		must(t, d.set.Elect())
		must(t, d.set.Revive())
	})
	if n := plain.failed.Load(); n > writing {
		t.Errorf("%s: %d writes failed, where %d can have lost their replies", plain.name, n, writing)
	}
	for _, w := range []*writer{retrying, bare} {
		if n := w.failed.Load(); n > 0 {
			t.Errorf("%s: %d writes failed", w.name, n)
		}
	}
	if now := d.set.Primary(); now == first {
		t.Error("the dead member is the primary")
	}
	p, sent := d.newPool(t, mongopool.Options{URI: "mongodb://" + first + "/?directConnection=true"})
	must(t, p.Do(bounded(t), pool.Op{Name: "find"}, findOne))
	if got := sent.names("find"); !slices.Equal(got, []string{"find"}) {
		t.Errorf("the member that came back was sent %v", got)
	}
}
