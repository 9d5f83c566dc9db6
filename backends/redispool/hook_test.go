package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// watcher is a layer that records the commands it observes.
type watcher struct{ seen, servers []string }

type watcherKey struct{}

func (w *watcher) Wrap(next pool.Handler) pool.Handler { return next }

func (w *watcher) BeginCommand(ctx context.Context, _ *pool.Call, cmd driver.Command) context.Context {
	return context.WithValue(ctx, watcherKey{}, cmd)
}

func (w *watcher) EndCommand(ctx context.Context, c *pool.Call, cmd driver.Command, err error) {
	w.servers = append(w.servers, cmd.Server)
	outcome := "ok"
	if ctx.Value(watcherKey{}) != cmd {
		outcome = "a context that is not ours"
	} else if err != nil {
		class := c.Classify(err)
		outcome = class.Type
		if class.Miss {
			outcome = "miss"
		}
	}
	w.seen = append(w.seen, fmt.Sprintf("%s/%d %s", cmd.Name, cmd.Batch, outcome))
}

func TestCommandsAreSeen(t *testing.T) {
	s := need(t)
	w := &watcher{}
	p := open(t, redispool.Options{Address: s.addr, DB: 1}, pool.Config{MaxSize: 1}, w)
	for _, test := range []struct {
		do   lendFunc
		want string
	}{
		{do("set", "seen", "v"), "SET/0 ok"},
		{do("Get", "seen"), "GET/0 ok"},
		{do("get", "missing"), "GET/0 miss"},
		{do("lpush", "seen", "v"), "LPUSH/0 WRONGTYPE"},
		{do("client", "setname", "x"), "CLIENT/0 ok"},
		{do("user:1:s3cret"), "_OTHER/0 ERR"},
		{do("s3cret"), "_OTHER/0 ERR"},
		{do("json.get", "seen"), "JSON.GET/0 ERR"}, // of a module that the server does not have
		{pipelined((*redispool.Conn).Pipelined, "get seen", "get seen"), "PIPELINE GET/2 ok"},
		{pipelined((*redispool.Conn).Pipelined, "get seen"), "GET/0 ok"},
		{pipelined((*redispool.Conn).Pipelined, "s3cret"), "_OTHER/0 ERR"},
		{pipelined((*redispool.Conn).Pipelined, "s3cret", "s3cret"), "PIPELINE _OTHER/2 ERR"},
		{pipelined((*redispool.Conn).Pipelined, "get seen", "exists seen"), "PIPELINE/2 ok"},
		{pipelined((*redispool.Conn).Pipelined, "get missing", "exists seen"), "PIPELINE/2 miss"},
		{pipelined((*redispool.Conn).Pipelined, "get missing", "lpush seen v"), "PIPELINE/2 WRONGTYPE"},
		{pipelined((*redispool.Conn).Pipelined, "multi", "exec"), "MULTI/-1 ok"},
		{pipelined((*redispool.Conn).Pipelined), ""}, // nothing is sent
		{pipelined((*redispool.Conn).TxPipelined, "get seen", "exists seen"), "MULTI/2 ok"},
		{pipelined((*redispool.Conn).TxPipelined, "get seen", "get seen", "get seen"), "MULTI GET/3 ok"},
		{pipelined((*redispool.Conn).TxPipelined, "get seen"), "MULTI GET/1 ok"},
		{pipelined((*redispool.Conn).TxPipelined, "nonsense", "get seen"), "MULTI/2 ERR"},
		{func(ctx context.Context, c *redispool.Conn) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return c.Get(ctx, "seen").Err()
		}, "GET/0 canceled"},
		{func(ctx context.Context, c *redispool.Conn) error {
			return c.Set(ctx, "seen", panicking{}, 0).Err()
		}, "SET/0 aborted"},
	} {
		w.seen = nil
		func() {
			defer func() { _ = recover() }()
			_ = p.Do(t.Context(), pool.Op{}, test.do)
		}()
		if got := strings.Join(w.seen, ", "); got != test.want {
			t.Errorf("seen %s, want %s", got, test.want)
		}
	}
	for _, server := range w.servers {
		if server != s.addr {
			t.Errorf("a command was sent to %q, want %q", server, s.addr)
		}
	}
}

// A miss at the head of a pipeline or a transaction hides no later failure from the borrower and
// the layers.
func TestMissHidesNoFailure(t *testing.T) {
	s := need(t)
	d := newDriver(t, redispool.Options{})
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	const outOfMemory = "return redis.error_reply('OOM command not allowed')"
	for name, send := range map[string]func(*redispool.Conn, context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error){
		"pipeline": (*redispool.Conn).Pipelined, "transaction": (*redispool.Conn).TxPipelined,
	} {
		var cmds []redis.Cmder
		err := p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) (err error) {
			cmds, err = send(c, ctx, func(p redis.Pipeliner) error {
				p.Get(ctx, "missing")
				p.Eval(ctx, outOfMemory, nil)
				p.Get(ctx, "missing")
				return nil
			})
			return err
		})
		if class := d.Classify(err); class != narrow(permanent, "OOM") {
			t.Errorf("%s: %v is %+v", name, err, class)
		}
		if len(cmds) != 3 || cmds[0].Err() != redis.Nil || cmds[2].Err() != redis.Nil {
			t.Errorf("%s: the commands' own errors are %v", name, cmds)
		}
		err = p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
			_, err := send(c, ctx, func(p redis.Pipeliner) error { p.Exists(ctx, "k"); p.Get(ctx, "missing"); return nil })
			return err
		})
		if err != redis.Nil {
			t.Errorf("%s: a mere miss is %v", name, err)
		}
	}
}

type panicking struct{}

func (panicking) MarshalBinary() ([]byte, error) { panic("cannot") }

func pipelined(send func(*redispool.Conn, context.Context, func(redis.Pipeliner) error) ([]redis.Cmder, error), cmds ...string) lendFunc {
	return func(ctx context.Context, c *redispool.Conn) error {
		_, err := send(c, ctx, func(p redis.Pipeliner) error {
			for _, cmd := range cmds {
				var words []any
				for word := range strings.FieldsSeq(cmd) {
					words = append(words, word)
				}
				p.Do(ctx, words...)
			}
			return nil
		})
		return err
	}
}

// After Watch the session of the borrower is clean.
func TestWatch(t *testing.T) {
	s := need(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	other := s.redis(t)
	resets(t, p)
	failure := errors.New("changed my mind")
	use(t, p, func(ctx context.Context, c *redispool.Conn) error {
		increment := func(tx redis.Cmdable) error {
			n, err := tx.Get(ctx, "w").Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "w", n+1, 0); return nil })
			return err
		}
		if err := c.Watch(ctx, increment, "w"); err != nil {
			t.Error(err)
		}
		err := c.Watch(ctx, func(tx redis.Cmdable) error {
			other.Set(ctx, "w", 10, 0)
			return increment(tx)
		}, "w")
		if !errors.Is(err, redis.TxFailedErr) {
			t.Errorf("got %v", err)
		}
		if err := c.Watch(ctx, func(redis.Cmdable) error { return failure }, "w"); err != failure {
			t.Errorf("got %v", err)
		}
		other.Set(ctx, "w", 20, 0)
		_, err = c.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "w"); return nil })
		if err != nil {
			t.Errorf("a later transaction still watches: %v", err)
		}
		if n := c.Get(ctx, "w").Val(); n != "21" {
			t.Errorf("w is %s", n)
		}
		return nil
	})
	if n := resets(t, p); n != 0 {
		t.Errorf("%d resets", n)
	}
}

func getMiss(ctx context.Context, c *redispool.Conn) error {
	if err := c.Get(ctx, "alloc:missing").Err(); err != redis.Nil {
		return err
	}
	return nil
}

func getHit(ctx context.Context, c *redispool.Conn) error { return c.Get(ctx, "alloc").Err() }

func doHit(ctx context.Context, c *redispool.Conn) error { return c.Do(ctx, "GET", "alloc").Err() }

// A command through the pool allocates no more than a command on a pinned connection of go-redis.
func TestAllocations(t *testing.T) {
	s := need(t)
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: s.addr, PoolSize: 1, ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	bare := client.EphemeralConn()
	defer func() { _ = bare.Close() }()
	if err := bare.Set(ctx, "alloc", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	for _, test := range []struct {
		name string
		bare func() error
		fn   lendFunc
	}{
		{"hit", func() error { return bare.Get(ctx, "alloc").Err() }, getHit},
		{"miss", func() error { return bare.Get(ctx, "alloc:missing").Err() }, getMiss},
		{"Do", func() error { return bare.Do(ctx, "GET", "alloc").Err() }, doHit},
	} {
		theirs := testing.AllocsPerRun(200, func() { _ = test.bare() })
		ours := testing.AllocsPerRun(200, func() {
			if err := p.Do(ctx, pool.Op{}, test.fn); err != nil {
				t.Error(err)
			}
		})
		t.Logf("%s: %.0f allocations, bare %.0f", test.name, ours, theirs)
		if ours > theirs {
			t.Errorf("%s: %.0f allocations, bare %.0f", test.name, ours, theirs)
		}
	}
}
