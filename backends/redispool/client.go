package redispool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/earnorm/poolstack/pool"
)

// ClientConfig says how a [Client] describes its commands to the layers. The zero ClientConfig is ready for use.
type ClientConfig struct {
	// Target, if not nil, returns the [pool.Op].Target of a command by its first key: a family of keys, such as "session" for "session:17". It
	// must return few different words, and may be called concurrently. A command without keys has no Target. nil means none at all.
	Target func(key string) string
}

// Client is a go-redis client whose commands go through a pool and its layers. It is a [redis.UniversalClient], so code and libraries that are
// written for go-redis use a pool without a change. It is made by [NewClient], and its methods may be called concurrently.
//
// Each command is one use of the pool, and so is each pipeline and each transaction (TxPipelined). The name of the use's Op is the command's: "GET",
// "PIPELINE GET", "MULTI". A read may be repeated, and a write that leaves the same state when it is carried out twice (SET, HSET, DEL, EXPIRE; see
// [Client.Process]). A [Client.Watch] is one lease.
//
// A miss is [redis.Nil], and a reply that is an answer, such as WRONGTYPE, comes as go-redis makes it. Any other error is a [pool.UseError], which
// wraps what go-redis or the layers returned: ask by errors.Is and errors.As.
//
// A command that changes the session of its connection (SELECT, AUTH, MULTI, SUBSCRIBE, ...) is an error by itself, for the next command has
// another connection. In a pipeline it acts until the pipeline ends.
type Client struct {
	redis.Cmdable

	pool   *pool.Pool[*Conn]
	driver *Driver
	target func(key string) string

	mu     sync.Mutex // guards what follows but for reads of chain
	hooks  []redis.Hook
	chain  atomic.Pointer[chain]
	pubsub *redis.Client // of subscriptions; nil until the first
	closed atomic.Bool
}

// chain is the hooks of a Client around its uses of the pool.
type chain struct {
	process  redis.ProcessHook
	pipeline redis.ProcessPipelineHook
}

var _ redis.UniversalClient = (*Client)(nil)

// NewClient makes a client of a pool that was made by this package. The pool stays the caller's, who closes it. An error says that the pool has
// another driver than a [Driver], such as one that wraps a Driver.
func NewClient(p *pool.Pool[*Conn], cfg ClientConfig) (*Client, error) {
	d, ok := p.Driver().(*Driver)
	if !ok {
		return nil, fmt.Errorf("redispool: the pool's driver is a %T: must be a *redispool.Driver", p.Driver())
	}
	c := &Client{pool: p, driver: d, target: cfg.Target}
	// The methods of commands are go-redis' own. They come to the hook, and never to this client's connections: there are none.
	methods := redis.NewClient(&redis.Options{
		PoolSize: 1, MaxRetries: -1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return nil, errRedial },
	})
	methods.AddHook(clientHook{c})
	c.Cmdable = methods
	c.chain.Store(&chain{c.use, c.useAll})
	return c, nil
}

// clientHook leads what go-redis sends to the pool.
type clientHook struct{ c *Client }

func (h clientHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h clientHook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h.c.chain.Load().process(ctx, cmd) }
}

func (h clientHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.c.chain.Load().pipeline(ctx, cmds) }
}

// AddHook adds a hook around the uses of the pool, inside of the hooks before: a hook sees one call for each use, however often a layer repeats
// it. DialHook is not called.
func (c *Client) AddHook(hook redis.Hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hooks = append(c.hooks, hook)
	all := &chain{c.use, c.useAll}
	for _, h := range slices.Backward(c.hooks) {
		if process := h.ProcessHook(all.process); process != nil { // nil passes all on, as with go-redis
			all.process = process
		}
		if pipeline := h.ProcessPipelineHook(all.pipeline); pipeline != nil {
			all.pipeline = pipeline
		}
	}
	c.chain.Store(all)
}

// Do sends a command given by its words.
func (c *Client) Do(ctx context.Context, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	_ = c.Process(ctx, cmd)
	return cmd
}

// Process sends a command that was made by one of go-redis' constructors, and stores the reply in it.
//
// An attempt of a write may have been carried out though its reply was lost. Layers repeat the write all the same if the state of the server is
// then the same as after one: SET, SETEX, MSET, DEL, UNLINK, HSET, HDEL, SADD, SREM, ZADD without INCR, ZREM, EXPIRE, PERSIST, LSET, SETBIT,
// SETRANGE, GEOADD, PFADD, XACK, XDEL and their like. A reply that counts what has changed counts the last attempt's changes only. What
// takes away or adds each time (INCR, LPUSH, SPOP), and what tells by its reply who was first (SETNX, GETSET), is not repeated.
func (c *Client) Process(ctx context.Context, cmd redis.Cmder) error {
	err := c.chain.Load().process(ctx, cmd)
	cmd.SetErr(err)
	return err
}

// use is one use of the pool for a command.
func (c *Client) use(ctx context.Context, cmd redis.Cmder) error {
	if c.closed.Load() {
		return redis.ErrClosed
	}
	known := *c.driver.commands.Load()
	k := known.of(cmd)
	if k&traces != 0 {
		return &Error{Command: displayName(cmd.Name()), Err: errSession}
	}
	op := pool.Op{Name: displayName(cmd.Name()), Idempotent: repeatable(k, cmd), Target: c.targetOf(cmd)}
	if k&unkept != 0 {
		op.Limit = -1
	}
	return c.pool.Do(ctx, op, func(ctx context.Context, conn *Conn) error { return conn.Process(ctx, cmd) })
}

// useAll is one use of the pool for a pipeline or a transaction.
func (c *Client) useAll(ctx context.Context, cmds []redis.Cmder) error {
	if c.closed.Load() {
		return notSent(cmds, redis.ErrClosed)
	}
	known := *c.driver.commands.Load()
	whole, inside := transaction(cmds), cmds
	if whole {
		inside = cmds[1 : len(cmds)-1]
	}
	op := pool.Op{Name: batchCommand(cmds).Name, Idempotent: true}
	for i, cmd := range inside {
		k := known.of(cmd)
		op.Idempotent = op.Idempotent && repeatable(k, cmd)
		if k&unkept != 0 && !whole { // nothing blocks in a transaction
			op.Limit = -1
		}
		if target := c.targetOf(cmd); i == 0 {
			op.Target = target
		} else if target != op.Target {
			op.Target = "" // of several
		}
	}
	sent := false
	err := c.pool.Do(ctx, op, func(ctx context.Context, conn *Conn) (err error) {
		sent = true
		send := conn.Pipelined
		if whole {
			send = conn.TxPipelined
		}
		_, err = send(ctx, func(p redis.Pipeliner) error {
			for _, cmd := range inside {
				cmd.SetErr(nil) // of the attempt before
				_ = p.Process(ctx, cmd)
			}
			return nil
		})
		return err
	})
	if !sent {
		return notSent(cmds, err)
	}
	return err
}

// targetOf returns the Target of a command.
func (c *Client) targetOf(cmd redis.Cmder) string {
	if c.target == nil {
		return ""
	}
	key, ok := firstKey(cmd.Args())
	if !ok {
		return ""
	}
	return c.target(key)
}

// Watch runs fn after WATCH keys on one lease of the pool, which ends with fn. A transaction that fn sends with tx.TxPipelined is carried out
// only if none of the keys has changed since, and is [redis.TxFailedErr] otherwise. fn is called once: the layers see the lease, and repeat
// nothing but to get it. The commands of fn go by tx.
func (c *Client) Watch(ctx context.Context, fn func(tx *redis.Tx) error, keys ...string) (err error) {
	if c.closed.Load() {
		return redis.ErrClosed
	}
	l, err := c.pool.Acquire(ctx, pool.Op{Name: "WATCH"})
	if err != nil {
		return err
	}
	err = pool.ErrAborted // what a panic leaves
	defer func() { err = l.Finish(err) }()
	conn, _ := l.Value() // nobody else has ended the lease
	c.mu.Lock()
	hooks := slices.Clone(c.hooks)
	c.mu.Unlock()
	return conn.watch(ctx, hooks, fn, keys)
}

// watch has go-redis make a Tx over the connection: by a client whose only connection writes to this one's socket.
func (c *Conn) watch(ctx context.Context, hooks []redis.Hook, fn func(tx *redis.Tx) error, keys []string) error {
	tx := c.driver.client(&borrowed{socket: c.socket, answers: []string{string(helloReply), "+PONG\r\n"}}, c.addr)
	defer func() { _ = tx.Close() }()
	if err := tx.Ping(ctx).Err(); err != nil { // has the client take the connection, before there is a hook that would see HELLO
		return &Error{Command: "WATCH", Err: err, Context: over(ctx)}
	}
	for _, h := range append(hooks, hook{c}) {
		tx.AddHook(h)
	}
	return tx.Watch(ctx, fn, keys...)
}

// borrowed is a socket for another client of go-redis. It answers the first commands by itself. Whoever closes the borrowed one leaves the
// socket open.
type borrowed struct {
	*socket

	answers []string // to the commands that are not sent
	made    string   // what is read next
}

func (b *borrowed) Write(p []byte) (int, error) {
	if len(b.answers) > 0 {
		b.made, b.answers = b.answers[0], b.answers[1:]
		return len(p), nil
	}
	return b.socket.Write(p)
}

func (b *borrowed) Read(p []byte) (int, error) {
	if len(b.made) > 0 {
		n := copy(p, b.made)
		b.made = b.made[n:]
		return n, nil
	}
	return b.socket.Read(p)
}

func (b *borrowed) Close() error { return nil }

// Close ends the client: its commands return [redis.ErrClosed] from now on, and its subscriptions end. The pool stays open.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Swap(true) {
		return redis.ErrClosed
	}
	if c.pubsub != nil {
		return c.pubsub.Close()
	}
	return nil
}

// PoolStats is [pool.Pool.Stat] in go-redis' words. Hits are the uses that did not wait, Misses those that did. PubSubStats are of the
// subscriptions of this client.
func (c *Client) PoolStats() *redis.PoolStats {
	s := c.pool.Stat()
	stats := &redis.PoolStats{
		Hits: uint32(s.Acquires - s.Waited), Misses: uint32(s.Waited), Timeouts: uint32(s.TimedOut), //nolint:gosec // go-redis' counters wrap as well
		WaitCount: uint32(s.Waited), WaitDurationNs: s.TotalWait.Nanoseconds(), //nolint:gosec // see above
		TotalConns: uint32(s.Idle + s.InUse + s.Checking), IdleConns: uint32(s.Idle), //nolint:gosec // below MaxSize
		PendingRequests: uint32(s.Waiters), StaleConns: uint32(s.Closed.Total()), //nolint:gosec // see above
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pubsub != nil {
		stats.PubSubStats = c.pubsub.PoolStats().PubSubStats
	}
	return stats
}

// errNoAutoPipeline is returned where go-redis would batch the commands of different callers.
var errNoAutoPipeline = errors.New("redispool: a Client has no automatic pipelines: each command is a use of its own in the layers")

// errSession is the error of a command that changes the session of a connection.
var errSession = errors.New("changes the session of one connection, and the next command has another: use Pool.Do, or a pipeline")

// AutoPipeline returns an error: each command is a use of its own, with its own deadline, retries and span.
func (c *Client) AutoPipeline() (*redis.AutoPipeliner, error) { return nil, errNoAutoPipeline }

// AutoPipelineWithOptions returns an error, as [Client.AutoPipeline] does.
func (c *Client) AutoPipelineWithOptions(*redis.AutoPipelineOptions) (*redis.AutoPipeliner, error) {
	return nil, errNoAutoPipeline
}

// AsyncAutoPipeline returns an error, as [Client.AutoPipeline] does.
func (c *Client) AsyncAutoPipeline() (*redis.AutoPipeliner, error) { return nil, errNoAutoPipeline }

// AsyncAutoPipelineWithOptions returns an error, as [Client.AutoPipeline] does.
func (c *Client) AsyncAutoPipelineWithOptions(*redis.AutoPipelineOptions) (*redis.AutoPipeliner, error) {
	return nil, errNoAutoPipeline
}
