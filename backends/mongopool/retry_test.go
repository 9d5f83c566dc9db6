package mongopool

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// How often is a command sent if its reply is lost, or if the server gives up? The driver by itself
// sends the command twice. In a context with a deadline the driver repeats the command until then.
// Here the command is sent once, unless the options say otherwise, and Stats shows the number.
func TestDriverRetries(t *testing.T) {
	const limit = 200 * time.Millisecond
	lost := reply{drop: true}
	gaveUp := reply{doc: bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: 262}, {Key: "errmsg", Value: "exceeded time limit"}}}
	find := func(ctx context.Context, c *Conn) error { return c.Collection("c").FindOne(ctx, bson.D{}).Err() }
	for _, c := range []struct {
		name     string
		opts     Options
		do       func(context.Context, *Conn) error
		command  string
		answer   reply
		deadline bool
		exactly  int // 0: more than once
	}{
		{"lost write", Options{}, insert, "insert", lost, false, 1},
		{"lost write, deadline", Options{}, insert, "insert", lost, true, 1},
		{"lost read", Options{}, find, "find", lost, false, 1},
		{"lost read, deadline", Options{}, find, "find", lost, true, 1},
		{"read given up, deadline", Options{}, find, "find", gaveUp, true, 1},
		{"lost write, on", Options{RetryWrites: new(true)}, insert, "insert", lost, false, 2},
		{"lost write, on by URI", Options{URI: "?retryWrites=true"}, insert, "insert", lost, false, 2},
		{"lost read, on", Options{RetryReads: new(true)}, find, "find", lost, false, 2},
		{"read given up, deadline, on", Options{RetryReads: new(true)}, find, "find", gaveUp, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFakeSet(t)
			f.script(c.command, c.answer)
			c.opts.URI = f.uri() + c.opts.URI
			d, p := newPool(t, c.opts, pool.Config{MaxSize: 1})
			if err := p.Warm(bounded(t), 1); err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			if c.deadline {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			if err := p.Do(ctx, pool.Op{}, c.do); err == nil {
				t.Error("a use succeeds whose reply was lost")
			}
			sent := len(f.commands(c.command))
			if c.exactly != 0 && sent != c.exactly || sent < 2 && c.exactly == 0 {
				t.Errorf("%s was sent %d times, want %d (0: more than once)", c.command, sent, c.exactly)
			}
			seen := d.Stats()
			if n := int(seen.Commands); n != sent && (n != sent+1 || !c.deadline) || seen.CommandsFailed != seen.Commands {
				t.Errorf("stats %+v, want %d commands, or one more that was too late to be sent; all failed", seen, sent)
			}
			t.Logf("%s was sent %d times", c.command, sent)
		})
	}
}

// An overloaded server refuses before it does anything. The driver by itself would ask three times.
func TestOverloadRetries(t *testing.T) {
	f := newFakeSet(t)
	f.script("insert", reply{doc: bson.D{
		{Key: "ok", Value: 0}, {Key: "code", Value: 462}, {Key: "errmsg", Value: "too many requests"}, {Key: "baseBackoffMS", Value: 20},
		{Key: "errorLabels", Value: bson.A{labelOverloaded, labelRetryable}},
	}})
	d, p := newPool(t, Options{URI: f.uri()}, pool.Config{})
	err := p.Do(bounded(t), pool.Op{}, insert)
	want := driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Code: "462", RetryAfter: 20 * time.Millisecond}
	if class := d.Classify(err); class != want {
		t.Errorf("the class of %v is %+v, want %+v", err, class, want)
	}
	if n := len(f.commands("insert")); n != 1 {
		t.Errorf("the insert was sent %d times, want once", n)
	}
}
