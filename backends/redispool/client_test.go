package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// client makes a Client of a pool that is closed at the end of the test.
func client(t *testing.T, p *pool.Pool[*redispool.Conn], cfg redispool.ClientConfig) *redispool.Client {
	t.Helper()
	c, err := redispool.NewClient(p, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ops is a layer that records the Ops of uses.
type ops struct {
	mu   sync.Mutex
	seen []pool.Op
}

func (o *ops) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		o.mu.Lock()
		o.seen = append(o.seen, c.Op())
		o.mu.Unlock()
		return next(ctx, c)
	}
}

func (o *ops) take() []pool.Op {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer func() { o.seen = nil }()
	return o.seen
}

// Each command, pipeline and transaction is a single use with its own name. The use is repeated
// only if a second execution leaves the same state.
func TestClientUses(t *testing.T) {
	s := need(t)
	var o ops
	p := open(t, redispool.Options{Address: s.addr, DB: 5}, pool.Config{MaxSize: 2}, &o)
	rdb := client(t, p, redispool.ClientConfig{Target: func(key string) string { family, _, _ := strings.Cut(key, ":"); return family }})
	ctx := t.Context()
	pipe := func(fill func(p redis.Pipeliner)) func() error {
		return func() error {
			_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { fill(p); return nil })
			return err
		}
	}
	for name, test := range map[string]struct {
		send func() error
		want pool.Op
	}{
		"SET": {func() error { return rdb.Set(ctx, "user:1", "v", 0).Err() }, pool.Op{Name: "SET", Target: "user", Idempotent: true}},
		"SET with expiry": {func() error { return rdb.Set(ctx, "user:1", "v", time.Minute).Err() },
			pool.Op{Name: "SET", Target: "user", Idempotent: true}},
		"SET of a number": {func() error { return rdb.Set(ctx, "user:1", 17, redis.KeepTTL).Err() },
			pool.Op{Name: "SET", Target: "user", Idempotent: true}},
		"SET NX": {func() error { return rdb.SetNX(ctx, "lock:1", "v", time.Minute).Err() }, pool.Op{Name: "SET", Target: "lock"}},
		"SET GET": {func() error { return rdb.SetArgs(ctx, "user:1", "v", redis.SetArgs{Get: true}).Err() },
			pool.Op{Name: "SET", Target: "user"}},
		"GET":  {func() error { return rdb.Get(ctx, "user:1").Err() }, pool.Op{Name: "GET", Target: "user", Idempotent: true}},
		"INCR": {func() error { return rdb.Incr(ctx, "hits:1").Err() }, pool.Op{Name: "INCR", Target: "hits"}},
		"ZADD": {func() error { return rdb.ZAdd(ctx, "rank:1", redis.Z{Score: 1, Member: "m"}).Err() },
			pool.Op{Name: "ZADD", Target: "rank", Idempotent: true}},
		"ZADD INCR": {func() error {
			return rdb.ZAddArgsIncr(ctx, "rank:1", redis.ZAddArgs{Members: []redis.Z{{Score: 1, Member: "m"}}}).Err()
		}, pool.Op{Name: "ZADD", Target: "rank"}},
		"by words": {func() error { return rdb.Do(ctx, "hgetall", "user:2").Err() }, pool.Op{Name: "HGETALL", Target: "user", Idempotent: true}},
		"meant to block": {func() error { return rdb.BLPop(ctx, 10*time.Millisecond, "queue:1").Err() },
			pool.Op{Name: "BLPOP", Target: "queue", Limit: -1}},
		"pipeline of reads": {pipe(func(p redis.Pipeliner) { p.Get(ctx, "user:1"); p.Get(ctx, "user:2") }),
			pool.Op{Name: "PIPELINE GET", Target: "user", Idempotent: true}},
		"pipeline of one": {pipe(func(p redis.Pipeliner) { p.Get(ctx, "user:1") }), pool.Op{Name: "GET", Target: "user", Idempotent: true}},
		"transaction of one": {func() error {
			_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "hits:1"); return nil })
			return err
		}, pool.Op{Name: "MULTI INCR", Target: "hits"}},
		"no command": {func() error {
			if err := rdb.Do(ctx, "s3cret", "user:1").Err(); err == nil || !strings.Contains(err.Error(), "unknown command") {
				t.Errorf("got %v", err)
			}
			return nil
		}, pool.Op{Name: "_OTHER", Target: "user"}},
		"pipeline with a write": {pipe(func(p redis.Pipeliner) { p.Get(ctx, "user:1"); p.Incr(ctx, "hits:1") }), pool.Op{Name: "PIPELINE"}},
		"transaction": {func() error {
			_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "hits:1"); p.Incr(ctx, "hits:2"); return nil })
			return err
		}, pool.Op{Name: "MULTI INCR", Target: "hits"}},
	} {
		if err := test.send(); err != nil && !errors.Is(err, redis.Nil) {
			t.Errorf("%s: %v", name, err)
		}
		if got := o.take(); !slices.Equal(got, []pool.Op{test.want}) {
			t.Errorf("%s: the uses are %+v, want %+v", name, got, test.want)
		}
	}
}

// The Client behaves like a client of go-redis: the same random commands have the same replies,
// alone, in pipelines and in transactions.
func TestClientBesideGoRedis(t *testing.T) {
	s := launch(t)
	bare := s.redis(t)
	rdb := client(t, open(t, redispool.Options{Address: s.addr, DB: 1}, pool.Config{MaxSize: 3}), redispool.ClientConfig{})
	seed := rand.Uint64()
	run := func(c redis.UniversalClient) []string {
		r := rand.New(rand.NewPCG(seed, 1))
		var out []string
		for range 400 {
			switch ctx := t.Context(); r.IntN(5) {
			case 0:
				cmds, err := c.Pipelined(ctx, func(p redis.Pipeliner) error { several(ctx, r, p); return nil })
				out = append(out, told(cmds, err))
			case 1:
				cmds, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error { several(ctx, r, p); return nil })
				out = append(out, told(cmds, err))
			default:
				cmd := one(ctx, r, c)
				out = append(out, told([]redis.Cmder{cmd}, cmd.Err()))
			}
		}
		return out
	}
	ours, theirs := run(rdb), run(bare)
	for i := range theirs {
		if ours[i] != theirs[i] {
			t.Fatalf("seed %d, step %d:\nours   %s\ntheirs %s", seed, i, ours[i], theirs[i])
		}
	}
}

// told returns the result seen by a caller. It leaves out the error of a pipeline with a failed
// command: in go-redis this error may be a miss, in this package never.
func told(cmds []redis.Cmder, err error) string {
	var b strings.Builder
	failed := false
	for _, cmd := range cmds {
		fmt.Fprintln(&b, cmd)
		failed = failed || cmd.Err() != nil && !errors.Is(cmd.Err(), redis.Nil)
	}
	if !failed {
		fmt.Fprintln(&b, err == redis.Nil, err)
	}
	return b.String()
}

func several(ctx context.Context, r *rand.Rand, c redis.Cmdable) {
	for range 1 + r.IntN(4) {
		one(ctx, r, c)
	}
}

// one sends a command, which may be of the wrong type for its key.
func one(ctx context.Context, r *rand.Rand, c redis.Cmdable) redis.Cmder {
	key, value := fmt.Sprint("k", r.IntN(6)), fmt.Sprint("v", r.IntN(9))
	switch r.IntN(14) {
	case 0:
		return c.Set(ctx, key, value, 0)
	case 1:
		return c.Get(ctx, key)
	case 2:
		return c.Incr(ctx, key)
	case 3:
		return c.Del(ctx, key)
	case 4:
		return c.HSet(ctx, key, value, "x")
	case 5:
		return c.HGetAll(ctx, key)
	case 6:
		return c.RPush(ctx, key, value)
	case 7:
		return c.LPop(ctx, key)
	case 8:
		return c.LRange(ctx, key, 0, -1)
	case 9:
		return c.ZAdd(ctx, key, redis.Z{Score: float64(r.IntN(5)), Member: value})
	case 10:
		return c.ZRangeWithScores(ctx, key, 0, -1)
	case 11:
		return c.MGet(ctx, key, "k1")
	case 12:
		return c.SetNX(ctx, key, value, 0)
	}
	return c.Eval(ctx, "return {redis.call('type', KEYS[1]), false, 1}", []string{key})
}

// Other uses of a client beside commands: misses, kinds of replies, scripts, iterators.
func TestClientAsUsersUseIt(t *testing.T) {
	s := launch(t)
	rdb := client(t, open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 2}), redispool.ClientConfig{})
	ctx := t.Context()
	if err := rdb.Get(ctx, "missing").Err(); err != redis.Nil {
		t.Errorf("a miss is %v", err)
	}
	rdb.RPush(ctx, "list", "a")
	if err := rdb.Get(ctx, "list").Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
		t.Errorf("the wrong type is %v", err)
	}
	for range 2 {
		if v, err := redis.NewScript("return ARGV[1]").Run(ctx, rdb, nil, "x").Text(); v != "x" || err != nil {
			t.Errorf("a script gives %q, %v", v, err)
		}
	}
	for i := range 50 {
		rdb.Set(ctx, fmt.Sprint("key ", i), i, 0)
	}
	found := 0
	for it := rdb.Scan(ctx, 0, "key *", 10).Iterator(); it.Next(ctx); {
		found++
	}
	if found != 50 {
		t.Errorf("an iterator finds %d keys", found)
	}
	if st := rdb.PoolStats(); st.Hits+st.Misses == 0 || st.TotalConns == 0 {
		t.Errorf("%+v", st)
	}
}

// A transaction is carried out as a whole: no reader sees only one of two keys changed together.
func TestClientTransactions(t *testing.T) {
	s := launch(t)
	rdb := client(t, open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 6}), redispool.ClientConfig{})
	ctx := t.Context()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for range 200 {
				if _, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Incr(ctx, "a"); p.Incr(ctx, "b"); return nil }); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			for range 200 {
				if v := rdb.MGet(ctx, "a", "b").Val(); len(v) != 2 || v[0] != v[1] {
					t.Errorf("a and b are %v", v)
				}
			}
		})
	}
	all.Wait()
	if v := rdb.Get(ctx, "b").Val(); v != "600" {
		t.Errorf("b is %s", v)
	}
}

// A Watch is a single lease: its reads and its transaction use a single connection. A change in
// between makes the transaction fail, and no update is lost.
func TestClientWatch(t *testing.T) {
	s := launch(t)
	var o ops
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 8}, &o)
	rdb := client(t, p, redispool.ClientConfig{})
	ctx := t.Context()
	// This function follows an example for users of go-redis:
	// https://redis.uptrace.dev/guide/go-redis-pipelines.html#watch .
	increment := func(key string) error {
		return rdb.Watch(ctx, func(tx *redis.Tx) error {
			n, err := tx.Get(ctx, key).Int()
			if err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
			_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, key, n+1, 0); return nil })
			return err
		}, key)
	}
	const workers, times = 6, 30
	failed := 0
	var mu sync.Mutex
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for done := 0; done < times; {
				switch err := increment("n"); err {
				case nil:
					done++
				case redis.TxFailedErr:
					mu.Lock()
					failed++
					mu.Unlock()
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if v := rdb.Get(ctx, "n").Val(); v != fmt.Sprint(workers*times) {
		t.Errorf("n is %s", v)
	}
	for _, op := range o.take()[:workers] {
		if op.Name != "WATCH" || op.Idempotent {
			t.Errorf("%+v", op)
		}
	}
	if st := p.Stat(); st.Closed.Total() != 0 || st.InUse != 0 {
		t.Errorf("%d transactions failed; %+v", failed, st)
	}
}

// Another client changes the key between WATCH and EXEC in every run.
func TestClientWatchFails(t *testing.T) {
	s := launch(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1})
	rdb, other := client(t, p, redispool.ClientConfig{}), s.redis(t)
	ctx := t.Context()
	err := rdb.Watch(ctx, func(tx *redis.Tx) error {
		first, second := tx.ClientID(ctx).Val(), tx.ClientID(ctx).Val()
		if first == 0 || first != second {
			t.Errorf("connections %d and %d", first, second)
		}
		other.Set(ctx, "k", "theirs", 0)
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "k", "ours", 0); return nil })
		return err
	}, "k")
	if err != redis.TxFailedErr || rdb.Get(ctx, "k").Val() != "theirs" {
		t.Errorf("got %v, %q", err, rdb.Get(ctx, "k").Val())
	}
	// The next use does not inherit the changes of fn.
	own := errors.New("mine")
	err = rdb.Watch(ctx, func(tx *redis.Tx) error { tx.Watch(ctx, "other"); tx.Select(ctx, 3); return own }, "k")
	if !errors.Is(err, own) || rdb.Get(ctx, "k").Val() != "theirs" {
		t.Errorf("got %v, %q", err, rdb.Get(ctx, "k").Val())
	}
	mine, cancel := context.WithCancel(ctx)
	err = rdb.Watch(ctx, func(tx *redis.Tx) error {
		defer time.AfterFunc(20*time.Millisecond, cancel).Stop()
		return tx.BLPop(mine, 0, "nothing").Err()
	}, "k")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a BLPOP that was cancelled: %v", err)
	}
	func() {
		defer func() {
			if recover() != "mine" {
				t.Error("the panic is lost")
			}
		}()
		_ = rdb.Watch(ctx, func(*redis.Tx) error { panic("mine") }, "k")
	}()
	if v := rdb.Get(ctx, "k").Val(); v != "theirs" || p.Stat().InUse != 0 {
		t.Errorf("afterwards: %q, %+v", v, p.Stat())
	}
}

// A command about the session is refused alone, and works within a pipeline.
func TestClientSessions(t *testing.T) {
	s := launch(t)
	rdb := client(t, open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1}), redispool.ClientConfig{})
	ctx := t.Context()
	for _, words := range [][]any{{"select", 1}, {"multi"}, {"watch", "k"}, {"subscribe", "c"},
		{"client", "setname", "n"}, {"auth", "pw"}, {"quit"}} {
		if err := rdb.Do(ctx, words...).Err(); err == nil || !strings.Contains(err.Error(), "changes the session of one connection") {
			t.Errorf("%v: %v", words, err)
		}
	}
	cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Do(ctx, "multi")
		p.Do(ctx, "incr", "n")
		p.Do(ctx, "exec")
		return nil
	})
	if err != nil || fmt.Sprint(cmds) != "[multi: OK incr n: QUEUED exec: [1]]" {
		t.Errorf("a transaction by hand: %v, %v", cmds, err)
	}
	_, err = rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Select(ctx, 1); p.Set(ctx, "k", "in 1", 0); return nil })
	if v := rdb.Get(ctx, "k"); err != nil || v.Err() == nil {
		t.Errorf("%v; the next command gets %v", err, v)
	}
	if _, err := rdb.AutoPipeline(); err == nil {
		t.Error("AutoPipeline makes something")
	}
}

// A subscription has its own connection, opened like the connections of the pool. It goes on when
// the server comes back.
func TestClientSubscriptions(t *testing.T) {
	s := launch(t, "--requirepass", "pw")
	w := &watch{}
	p := open(t, redispool.Options{Address: s.addr, Password: "pw", ClientName: "sub"}, pool.Config{MaxSize: 1}, w)
	rdb := client(t, p, redispool.ClientConfig{})
	ctx := t.Context()
	level := p.Levels()[0]
	if n, ok := level.Read(); n != 0 || !ok || level.Layer != "subscription" || level.Name != "connections" {
		t.Errorf("before the first subscription the pool has %+v", level)
	}
	sub := rdb.Subscribe(ctx, "news")
	defer func() { _ = sub.Close() }()
	messages := sub.Channel()
	heard := func(text string) {
		t.Helper()
		eventually(t, func() error {
			if err := rdb.Publish(ctx, "news", text).Err(); err != nil {
				return err
			}
			select {
			case m := <-messages:
				if m.Payload == text {
					return nil
				}
			default:
			}
			return errors.New("nothing was heard of " + text)
		})
	}
	heard("first")
	if n := rdb.PoolStats().PubSubStats.Active; n != 1 {
		t.Errorf("%d subscriptions", n)
	}
	s.kill()
	eventually(t, func() error {
		if len(w.said(pool.EventOpenFailed)) == 0 {
			return errors.New("the subscription has not tried to come back")
		}
		return nil
	})
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	heard("second")
	if e := w.said(pool.EventOpenFailed)[0]; !strings.HasPrefix(e.Reason, "connection_re") || e.Layer != "redispool" {
		t.Errorf("the pool said %+v", e)
	}
	if n, ok := level.Read(); n != 1 || !ok {
		t.Errorf("%v connections of subscriptions", n)
	}
	pattern := rdb.PSubscribe(ctx, "n*")
	if _, err := pattern.ReceiveTimeout(ctx, 5*time.Second); err != nil {
		t.Error(err)
	}
	if err := pattern.Close(); err != nil {
		t.Error(err)
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	opened, closed := w.said(redispool.EventSubscriptionOpened), w.said(redispool.EventSubscriptionClosed)
	if n, _ := level.Read(); n != 0 || len(opened) < 3 || len(closed) != len(opened) {
		t.Errorf("%v connections of subscriptions; %d were opened, %d closed", n, len(opened), len(closed))
	}
}

// After Close every command returns an error, also each command of a pipeline. Subscriptions have
// ended, and the pool is open.
func TestClientClose(t *testing.T) {
	p := open(t, redispool.Options{Address: need(t).addr}, pool.Config{MaxSize: 1})
	rdb := client(t, p, redispool.ClientConfig{})
	ctx := t.Context()
	sub := rdb.Subscribe(ctx, "c")
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := sub.Receive(ctx); err == nil {
			t.Error("a subscription goes on")
		}
		_ = sub.Close()
	}()
	if err := rdb.Close(); err != nil {
		t.Error(err)
	}
	cmds, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); return nil })
	for _, err := range []error{

		err, cmds[0].Err(), rdb.Get(ctx, "k").Err(), rdb.Close(), rdb.Watch(ctx, func(*redis.Tx) error { return nil }), rdb.Subscribe(ctx, "c").Ping(ctx),
	} {
		if !errors.Is(err, redis.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	use(t, p, do("ping"))
}

// Each command of a pipeline that was not sent returns the error.
func TestClientPipelineNotSent(t *testing.T) {
	p := open(t, redispool.Options{Address: need(t).addr}, pool.Config{MaxSize: 1})
	rdb := client(t, p, redispool.ClientConfig{})
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	cmds, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "a"); p.Get(ctx, "b"); return nil })
	for _, err := range []error{err, cmds[0].Err(), cmds[1].Err()} {
		if !errors.Is(err, pool.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

// counting is a hook that counts its calls.
type counting struct {
	name string
	to   *[]string
}

func (c counting) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		*c.to = append(*c.to, c.name+" "+cmd.Name())
		return next(ctx, cmd)
	}
}

func (c counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		*c.to = append(*c.to, fmt.Sprint(c.name, " ", len(cmds)))
		return next(ctx, cmds)
	}
}

// passing is a hook without functions, so go-redis skips it.
type passing struct{}

func (passing) DialHook(redis.DialHook) redis.DialHook                                  { return nil }
func (passing) ProcessHook(redis.ProcessHook) redis.ProcessHook                         { return nil }
func (passing) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook { return nil }

// Hooks are called in the order of AddHook, and only once for a use repeated by a layer.
func TestClientHooks(t *testing.T) {
	tries := 0
	addr := script(t, func(words []string) (string, bool) {
		switch words[0] {
		case "hello":
			return "%0\r\n", true
		case "ping":
			return "+PONG\r\n", true
		case "get":
			if tries++; tries == 1 || tries == 3 {
				return "-LOADING the data set\r\n", true
			}
			return "$1\r\nv\r\n", true
		}
		return "+OK\r\n", true
	})
	r, err := retry.New(retry.Config{InitialDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	rdb := client(t, open(t, redispool.Options{Address: addr}, pool.Config{MaxSize: 1}, r), redispool.ClientConfig{})
	var calls []string
	rdb.AddHook(counting{"outer", &calls})
	rdb.AddHook(passing{})
	rdb.AddHook(counting{"inner", &calls})
	ctx := t.Context()
	v, err := rdb.Get(ctx, "k").Result()
	_, piped := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, "k"); p.Get(ctx, "k"); return nil })
	watched := rdb.Watch(ctx, func(tx *redis.Tx) error { return tx.Ping(ctx).Err() })
	if err := errors.Join(err, piped, watched); err != nil || v != "v" || tries != 6 {
		t.Errorf("%q, %v after %d tries", v, err, tries)
	}
	if want := []string{"outer get", "inner get", "outer 2", "inner 2", "outer ping", "inner ping"}; !slices.Equal(calls, want) {
		t.Errorf("the calls are %q, want %q", calls, want)
	}
}

// A command with a reply to a writer must not be sent again: it is sent once.
func TestClientNoRetry(t *testing.T) {
	sent := 0
	addr := script(t, func(words []string) (string, bool) {
		switch words[0] {
		case "hello":
			return "%0\r\n", true
		case "get":
			if sent++; sent == 1 {
				return "$10\r\nabc", false // and hangs up
			}
			return "$2\r\nxy\r\n", true
		}
		return "+PONG\r\n", true
	})
	r, err := retry.New(retry.Config{InitialDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	rdb := client(t, open(t, redispool.Options{Address: addr}, pool.Config{MaxSize: 1}, r), redispool.ClientConfig{})
	ctx := t.Context()
	var b strings.Builder
	if err := rdb.Process(ctx, redis.NewRawWriteToCmd(ctx, &b, "get", "k")); err == nil || sent != 1 {
		t.Errorf("%v, %q after %d times", err, b.String(), sent)
	}
	sent = 0
	_, err = rdb.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Process(ctx, redis.NewRawWriteToCmd(ctx, &b, "get", "k")) })
	if err == nil || sent != 1 {
		t.Errorf("in a pipeline: %v after %d times", err, sent)
	}
}

// The functions of go-redis recognize the error of an aborted transaction.
func TestClientExecAbort(t *testing.T) {
	rdb := client(t, open(t, redispool.Options{Address: need(t).addr}, pool.Config{MaxSize: 1}), redispool.ClientConfig{})
	ctx := t.Context()
	_, err := rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { p.Set(ctx, "a", 1, 0); p.Do(ctx, "nosuch"); return nil })
	if !redis.HasErrorPrefix(err, "EXECABORT") || !redis.IsExecAbortError(err) || !strings.Contains(err.Error(), "unknown command") {
		t.Errorf("got %v", err)
	}
}

// wrapped is a driver around another one.
type wrapped struct{ driver.Driver[*redispool.Conn] }

func TestNewClient(t *testing.T) {
	p, err := pool.New(wrapped{newDriver(t, redispool.Options{})}, pool.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.Close(t.Context()) }()
	if _, err := redispool.NewClient(p, redispool.ClientConfig{}); err == nil || !strings.Contains(err.Error(), "redispool_test.wrapped") {
		t.Errorf("got %v", err)
	}
}
