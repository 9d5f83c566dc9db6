package mongopool

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/earnorm/poolstack/pool"
)

// transaction inserts something in a transaction.
func transaction(ctx context.Context, c *Conn) error {
	return c.WithTransaction(ctx, func(ctx context.Context) error { return insert(ctx, c) })
}

// A commit or an abort without an answer holds nobody beyond the deadline. The abort does not hold
// up the next borrower for long.
func TestTransactionWithinADeadline(t *testing.T) {
	never := make(chan struct{})
	defer close(never)
	hung := reply{after: never, drop: true}
	for name, tc := range map[string]struct {
		command string
		use     func(ctx context.Context, c *Conn) error
	}{
		"commit": {"commitTransaction", transaction},
		"abort": {"abortTransaction", func(ctx context.Context, c *Conn) error {
			return c.WithTransaction(ctx, func(ctx context.Context) error { return errors.Join(insert(ctx, c), errOwn) })
		}},
		"abort after the deadline": {"abortTransaction", func(ctx context.Context, c *Conn) error {
			return c.WithTransaction(ctx, func(ctx context.Context) error {
				err := insert(ctx, c)
				<-ctx.Done()
				return errors.Join(err, ctx.Err())
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSet(t)
			f.script("insert", document(bson.E{Key: "n", Value: 1}))
			f.script(tc.command, hung)
			_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
			if err := p.Warm(bounded(t), 1); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			began := time.Now()
			err := p.Do(ctx, pool.Op{}, tc.use)
			// Before, the call took two minutes.
			if took := time.Since(began); err == nil || ctx.Err() == nil || took > 5*time.Second {
				t.Errorf("%v after %v", err, took)
			}
			if err := p.Do(bounded(t), pool.Op{}, ping); err != nil {
				t.Errorf("the next borrower: %v", err)
			}
			if name == "commit" && slices.Contains(f.names(), "abortTransaction") {
				t.Errorf("an abort follows a commit that may be on its way: %v", f.names())
			}
			if !slices.Contains(f.names(), tc.command) {
				t.Errorf("%s was not sent: %v", tc.command, f.names())
			}
		})
	}
}

// A transaction aborted by the server is tried again. A commit with an unknown result is sent
// again. Nothing else is repeated.
func TestTransactionTries(t *testing.T) {
	labelled := func(code int, label string) reply {
		return reply{doc: append(rejection(code).doc, bson.E{Key: "errorLabels", Value: bson.A{label}})}
	}
	wrote := document(bson.E{Key: "n", Value: 1})
	for name, tc := range map[string]struct {
		inserts, commits []reply
		want             []string
		fails            bool
	}{
		"at once": {[]reply{wrote}, []reply{succeed}, []string{"insert", "commitTransaction"}, false},
		"a conflict": {[]reply{labelled(112, labelTransient), wrote}, []reply{succeed},
			[]string{"insert", "abortTransaction", "insert", "commitTransaction"}, false},
		"another error": {[]reply{rejection(13)}, nil, []string{"insert", "abortTransaction"}, true},
		"unknown commit": {[]reply{wrote}, []reply{labelled(91, labelUnknownCommit), succeed},
			[]string{"insert", "commitTransaction", "commitTransaction"}, false},
		"a commit that was aborted": {[]reply{wrote}, []reply{labelled(251, labelTransient), succeed},
			[]string{"insert", "commitTransaction", "insert", "commitTransaction"}, false},
		"a commit that is refused": {[]reply{wrote}, []reply{rejection(100)}, []string{"insert", "commitTransaction"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSet(t)
			f.script("insert", tc.inserts...)
			if tc.commits != nil {
				f.script("commitTransaction", tc.commits...)
			}
			_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
			if err := p.Do(bounded(t), pool.Op{}, transaction); (err != nil) != tc.fails {
				t.Errorf("got %v", err)
			}
			if got := f.names(); !slices.Equal(got, tc.want) {
				t.Errorf("sent %v, want %v", got, tc.want)
			}
		})
	}
	t.Run("until the deadline", func(t *testing.T) {
		f := newFakeSet(t)
		f.script("insert", labelled(112, labelTransient))
		_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := p.Do(ctx, pool.Op{}, transaction); err == nil || len(f.commands("insert")) < 3 {
			t.Errorf("%v after %d tries", err, len(f.commands("insert")))
		}
	})
	t.Run("ended by the function", func(t *testing.T) {
		f := newFakeSet(t)
		f.script("insert", wrote)
		_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
		err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
			return c.WithTransaction(ctx, func(ctx context.Context) error {
				return errors.Join(insert(ctx, c), mongo.SessionFromContext(ctx).AbortTransaction(ctx))
			})
		})
		if got := f.names(); err != nil || !slices.Equal(got, []string{"insert", "abortTransaction"}) {
			t.Errorf("%v, %v", err, got)
		}
	})
}

// A set may have no primary for longer than the driver waits for a primary. The commit is still
// sent again until the caller's deadline.
func TestCommitOutlastsAnElection(t *testing.T) {
	refused := rejection(10107)
	refused.doc = append(refused.doc, bson.E{Key: "errorLabels", Value: bson.A{labelRetryableWrite}})
	for name, first := range map[string]reply{"refused": refused, "its reply lost": {drop: true}} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSet(t)
			f.script("insert", document(bson.E{Key: "n", Value: 1}))
			f.script("commitTransaction", first, succeed)
			secondary := slices.Clone(f.hello)
			for i, e := range secondary {
				switch e.Key {
				case "isWritablePrimary", "secondary":
					secondary[i].Value = e.Key == "secondary"
				}
			}
			d, p := newPool(t, Options{URI: f.uri(), ServerSelectionTimeout: 50 * time.Millisecond}, pool.Config{MaxSize: 1})
			if err := p.Do(bounded(t), pool.Op{}, func(ctx context.Context, c *Conn) error {
				return c.WithTransaction(ctx, func(ctx context.Context) error {
					err := insert(ctx, c)
					f.script("hello", reply{doc: secondary})
					time.AfterFunc(time.Second, func() { f.script("hello", reply{doc: f.hello}) })
					return err
				})
			}); err != nil {
				t.Error(err)
			}
			if want := []string{"insert", "commitTransaction", "commitTransaction"}; !slices.Equal(f.names(), want) {
				t.Errorf("sent %v, want %v; %+v", f.names(), want, d.Stats())
			}
		})
	}
}
