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

// ClientConfig are the settings of a [Client]. The zero ClientConfig is ready for use.
type ClientConfig struct {
	// Target, if not nil, returns the [pool.Op].Target of a command from the command's first key. A
	// target is a family of keys, such as "session" for "session:17". Target must return few different
	// values. It may be called concurrently. A command without keys has no target. nil means that no
	// command has a target.
	Target func(key string) string
}

// Client is a go-redis client that sends its commands through a pool and the pool's layers. Client
// is a [redis.UniversalClient]: code and libraries written for go-redis need no change. [NewClient]
// makes a Client; the zero Client is not usable. The methods may be called concurrently.
//
// Each command, each pipeline and each transaction (TxPipelined) is a single use of the pool. The
// name of the use's Op is the name of the command: "GET", "PIPELINE GET", "MULTI"; see "What layers
// see of commands" in the documentation of the package. Layers may repeat a read. Layers may also
// repeat a write that leaves the same state when it is carried out twice (SET, HSET, DEL, EXPIRE;
// see [Client.Process]). A [Client.Watch] is a single lease.
//
// A miss returns [redis.Nil]. An error reply such as WRONGTYPE, the answer of a healthy server, is
// returned as go-redis makes it. Any other error is a [pool.UseError] wrapping the error of
// go-redis or of a layer: use errors.Is and errors.As.
//
// A command that changes the session of its connection (SELECT, AUTH, MULTI, SUBSCRIBE, ...)
// returns an error, because the next command has another connection. In a pipeline such a command
// has effect until the pipeline ends.
type Client struct {
	redis.Cmdable

	pool   *pool.Pool[*Conn]
	driver *Driver
	target func(key string) string

	mu     sync.Mutex // guards the fields below, but not reads of chain
	hooks  []redis.Hook
	chain  atomic.Pointer[chain]
	pubsub *redis.Client // for subscriptions; nil before the first
	closed atomic.Bool
}

// chain holds the hooks of a Client, composed around its uses of the pool.
type chain struct {
	process  redis.ProcessHook
	pipeline redis.ProcessPipelineHook
}

var _ redis.UniversalClient = (*Client)(nil)

// NewClient makes a client of a pool made by this package. The caller still owns the pool and
// closes it. NewClient returns an error if the driver of the pool is not a [*Driver], for example
// if the driver wraps a Driver.
func NewClient(p *pool.Pool[*Conn], cfg ClientConfig) (*Client, error) {
	d, ok := p.Driver().(*Driver)
	if !ok {
		return nil, fmt.Errorf("redispool: the pool's driver is a %T: must be a *redispool.Driver", p.Driver())
	}
	c := &Client{pool: p, driver: d, target: cfg.Target}
	// The methods for commands come from go-redis. Their commands reach the hook, and never a
	// connection of this client: it has none.
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

// clientHook sends the commands of go-redis to the pool.
type clientHook struct{ c *Client }

func (h clientHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h clientHook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h.c.chain.Load().process(ctx, cmd) }
}

func (h clientHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return h.c.chain.Load().pipeline(ctx, cmds) }
}

// AddHook adds a hook around the uses of the pool, inside the hooks added before. A hook sees a
// single call for each use, even if a layer repeats the use. DialHook is not called.
func (c *Client) AddHook(hook redis.Hook) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hooks = append(c.hooks, hook)
	all := &chain{c.use, c.useAll}
	for _, h := range slices.Backward(c.hooks) {
		// As in go-redis, a hook function may be nil.
		if process := h.ProcessHook(all.process); process != nil {
			all.process = process
		}
		if pipeline := h.ProcessPipelineHook(all.pipeline); pipeline != nil {
			all.pipeline = pipeline
		}
	}
	c.chain.Store(all)
}

// Do sends a command given as a list of words.
func (c *Client) Do(ctx context.Context, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx, args...)
	_ = c.Process(ctx, cmd)
	return cmd
}

// Process sends a command made by a constructor of go-redis, and stores the reply in cmd.
//
// A write may have been carried out although its reply was lost. Layers repeat a write only if a
// second execution leaves the same state on the server: SET, SETEX, MSET, DEL, UNLINK, HSET, HDEL,
// SADD, SREM, ZADD without INCR, ZREM, EXPIRE, PERSIST, LSET, SETBIT, SETRANGE, GEOADD, PFADD,
// XACK, XDEL and similar commands. If the reply counts changes, the reply counts the changes of the
// last attempt only. Layers do not repeat a write that adds or removes at each execution (INCR,
// LPUSH, SPOP). Layers do not repeat a write whose reply tells whether another caller was first
// (SETNX, GETSET).
func (c *Client) Process(ctx context.Context, cmd redis.Cmder) error {
	err := c.chain.Load().process(ctx, cmd)
	cmd.SetErr(err)
	return err
}

// use sends a command in a single use of the pool.
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

// useAll sends a pipeline or a transaction in a single use of the pool.
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
		if k&unkept != 0 && !whole { // no command blocks in a transaction
			op.Limit = -1
		}
		if target := c.targetOf(cmd); i == 0 {
			op.Target = target
		} else if target != op.Target {
			op.Target = "" // several targets
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
				cmd.SetErr(nil) // delete the error of the attempt before
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

// Watch runs WATCH keys and then fn, on a single lease of the pool. The lease ends when fn returns.
// A transaction sent with tx.TxPipelined is carried out only if none of the keys has changed since
// WATCH. Otherwise it returns [redis.TxFailedErr]. fn is called once: layers see the lease and
// repeat only its acquisition. fn must send its commands by tx.
func (c *Client) Watch(ctx context.Context, fn func(tx *redis.Tx) error, keys ...string) (err error) {
	if c.closed.Load() {
		return redis.ErrClosed
	}
	l, err := c.pool.Acquire(ctx, pool.Op{Name: "WATCH"})
	if err != nil {
		return err
	}
	err = pool.ErrAborted // the outcome after a panic
	defer func() { err = l.Finish(err) }()
	conn, _ := l.Value() // the lease has not ended yet
	c.mu.Lock()
	hooks := slices.Clone(c.hooks)
	c.mu.Unlock()
	return conn.watch(ctx, hooks, fn, keys)
}

// watch makes a redis.Tx for the connection. The Tx belongs to a client of go-redis with a single
// connection. This connection writes to the socket of c.
func (c *Conn) watch(ctx context.Context, hooks []redis.Hook, fn func(tx *redis.Tx) error, keys []string) error {
	tx := c.driver.client(&borrowed{socket: c.socket, answers: []string{string(helloReply), "+PONG\r\n"}}, c.addr)
	defer func() { _ = tx.Close() }()
	// The PING makes the client open its connection now. A hook added later does not see HELLO.
	if err := tx.Ping(ctx).Err(); err != nil {
		return &Error{Command: "WATCH", Err: err, Context: over(ctx)}
	}
	for _, h := range append(hooks, hook{c}) {
		tx.AddHook(h)
	}
	return tx.Watch(ctx, fn, keys...)
}

// borrowed is a socket for a second client of go-redis. borrowed answers the first commands itself.
// Close leaves the socket open.
type borrowed struct {
	*socket

	answers []string // to the commands answered here, in order
	made    string   // the bytes to read next
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

// Close closes the client and its subscriptions. Later commands return [redis.ErrClosed], and so
// does a second Close. The pool stays open.
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

// PoolStats returns [pool.Pool.Stat] in the form of go-redis. Hits counts the uses that did not
// wait for a connection, and Misses the uses that waited. PubSubStats is about the subscriptions of
// this client.
func (c *Client) PoolStats() *redis.PoolStats {
	s := c.pool.Stat()
	stats := &redis.PoolStats{
		Hits: uint32(s.Acquires - s.Waited), Misses: uint32(s.Waited), Timeouts: uint32(s.TimedOut), //nolint:gosec // wraps, as in go-redis
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

// errNoAutoPipeline is returned by the methods of go-redis that batch commands of different
// callers.
var errNoAutoPipeline = errors.New("redispool: a Client has no automatic pipelines: each command is a use of its own in the layers")

// errSession is the error of a command that changes the session of its connection.
var errSession = errors.New("changes the session of one connection, and the next command has another: use Pool.Do, or a pipeline")

// AutoPipeline returns an error: each command is a use with its own deadline, retries and span.
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
