package redispool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/earnorm/poolstack/pool"
)

// Driver opens connections to one Redis server for a [pool.Pool]. It is made by [NewDriver]; its methods are the pool's to call.
type Driver struct {
	dialer      *dialer
	network     string // with address, where the server is; "" when Sentinels name it
	address     string
	finder      *finder // nil without Sentinels
	credentials login
	base        redis.Options // without credentials, Addr and Dialer
	db          int
	clientName  string
	exact       bool // no other protocol than the one asked for will do

	asked    atomic.Bool // a connection has asked for, or asks for, the server's commands
	commands atomic.Pointer[commands]
	patience patience

	subscriptions atomic.Int64 // their connections
}

var (
	_ pool.Driver[*Conn]      = (*Driver)(nil)
	_ pool.Resetter[*Conn]    = (*Driver)(nil)
	_ pool.Interrupter[*Conn] = (*Driver)(nil)
	_ pool.Inspector[*Conn]   = (*Driver)(nil)
	_ pool.Classifier         = (*Driver)(nil)
	_ pool.Witness[*Conn]     = (*Driver)(nil)
	_ pool.Describer          = (*Driver)(nil)
	_ pool.Attacher           = (*Driver)(nil)
	_ pool.Leveler            = (*Driver)(nil)
)

// New makes a pool of connections to the server that opts name, wrapped by layers, the first outermost. It connects to nothing by itself
// but what cfg.MinIdle asks for, in the background. The errors are those of [NewDriver] and [pool.New]. The pool must be closed.
func New(opts Options, cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[*Conn], error) {
	d, err := NewDriver(opts)
	if err != nil {
		return nil, err
	}
	return pool.New(d, cfg, layers...)
}

// NewDriver makes a driver for [pool.New]. It reads the files that opts.TLS names. Its errors are those of [Options.Validate], or name the
// field and the file.
func NewDriver(opts Options) (*Driver, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	d := &Driver{credentials: opts.credentials(), db: opts.DB, clientName: opts.ClientName, exact: opts.Protocol == protocol3}
	d.commands.Store(&builtinCommands)
	var err error
	if d.dialer, err = newDialer(opts, opts.TLS); err != nil {
		return nil, err
	}
	if opts.Sentinel != nil {
		d.finder, err = newFinder(opts)
	} else {
		d.network, d.address, err = opts.network()
	}
	if err != nil {
		return nil, err
	}
	d.base = redis.Options{
		Protocol: opts.Protocol,
		// One connection, pinned, that is never replaced behind our back.
		PoolSize: 1, MaxActiveConns: 1, PipelinePoolSize: -1,
		// A command is sent once, and a socket is dialled once: to try again is for the layers and the pool.
		MaxRetries: -1, DialerRetries: 1,
		ReadTimeout: ioTimeout(opts.ReadTimeout), WriteTimeout: ioTimeout(opts.WriteTimeout), ContextTimeoutEnabled: true,
		ConnMaxIdleTime: -1, // the pool's business
		// A connection costs one round trip less without these.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if d.base.Protocol == 0 {
		d.base.Protocol = protocol3
	}
	return d, nil
}

const protocol3 = 3

// DefaultSize is ten connections for each processor that Go uses, as of a redis.Client.
func (d *Driver) DefaultSize() int { return 10 * runtime.GOMAXPROCS(0) }

// Identity says what the driver connects to. The name is left to the pool, which makes "redis localhost:6379/0" of the rest; with Sentinels the
// name is "redis mymaster/0", or "redis mymaster replicas/0".
func (d *Driver) Identity() pool.Identity {
	id := pool.Identity{System: "redis", Address: d.address, Namespace: strconv.Itoa(d.db)}
	switch {
	case d.finder != nil:
		id.Name = fmt.Sprintf("redis %s/%d", d.finder, d.db)
	case d.network != "unix":
		host, port, _ := net.SplitHostPort(d.address) // made by JoinHostPort
		id.Address = host
		id.Port, _ = strconv.Atoi(port)
	}
	return id
}

// Attach has the driver follow what the Sentinels say of the primary, until the pool is closed.
func (d *Driver) Attach(p pool.PoolInfo) (detach func(), err error) {
	if d.finder != nil {
		detach = d.finder.attach(p)
	}
	return detach, nil
}

// locate returns where the server is.
func (d *Driver) locate(ctx context.Context) (network, address string, err error) {
	if d.finder == nil {
		return d.network, d.address, nil
	}
	address, err = d.finder.find(ctx)
	return "tcp", address, err
}

// connect makes a socket to the server.
func (d *Driver) connect(ctx context.Context) (s *socket, address string, err error) {
	network, address, err := d.locate(ctx)
	if err != nil {
		return nil, "", err
	}
	s, err = d.dialer.dial(ctx, network, address)
	return s, address, err
}

// Open connects, authenticates and selects the database, in one round trip besides those of connecting. The driver's first connection also
// asks for the server's commands, and does without if the server hangs up on that.
func (d *Driver) Open(ctx context.Context) (*Conn, error) {
	ask := d.asked.CompareAndSwap(false, true)
	c, err := d.open(ctx, ask)
	if err != nil && ask && errors.Is(err, errCommandUnanswered) && ctx.Err() == nil {
		return d.open(ctx, false)
	}
	return c, err
}

func (d *Driver) open(ctx context.Context, ask bool) (*Conn, error) {
	username, password, err := d.credentials(ctx)
	if err != nil {
		return nil, &Error{Command: opening, Err: err, Context: over(ctx)}
	}
	s, address, err := d.connect(ctx)
	if err != nil {
		return nil, d.connectError(err, over(ctx))
	}
	c := d.newConn(s, address)
	err = c.guarded(ctx, func() error { return d.greet(ctx, c, username, password, greeting{ask: ask}) })
	if err != nil {
		_ = d.Close(ctx, c)
		return nil, c.openError(err, over(ctx), password)
	}
	s.opening = false
	c.session.AddHook(hook{c})
	if d.finder != nil {
		d.finder.add(c)
	}
	return c, nil
}

// opening stands for the opening of a connection in errors.
const opening = "CONNECT"

// connectError says that there is no connection. A reply is one of a Sentinel.
func (d *Driver) connectError(err, over error) error {
	if _, ok := errors.AsType[redis.Error](err); ok {
		return fmt.Errorf("redispool: %s: %w", opening, err)
	}
	return &Error{Command: opening, Err: err, Context: over}
}

// openError says that a handshake has failed, and why, in the words of the reply if there was one.
func (c *Conn) openError(err, over error, password string) error {
	if _, ok := errors.AsType[redis.Error](err); !ok {
		return &Error{Command: opening, Err: fmt.Errorf("handshake with %s: %w", c.addr, err), Context: over}
	}
	return fmt.Errorf("redispool: %s: handshake with %s: %w", opening, c.addr, discreet(err, password))
}

// newConn gives the socket to a client of its own.
func (d *Driver) newConn(s *socket, address string) *Conn {
	c := &Conn{client: d.client(s, address), socket: s, addr: address, driver: d, turn: make(chan struct{}, 1)}
	c.evidence.numberUses()
	c.session = c.client.EphemeralConn()
	c.StatefulCmdable = c.session
	return c
}

// client makes a client of go-redis with one connection, which is conn, to the server at address.
func (d *Driver) client(conn net.Conn, address string) *redis.Client {
	opts := d.base
	opts.Addr = address
	given := false
	opts.Dialer = func(context.Context, string, string) (net.Conn, error) {
		if given {
			return nil, errRedial
		}
		given = true
		return conn, nil
	}
	return redis.NewClient(&opts)
}

// greeting says what a handshake consists of beside the usual.
type greeting struct {
	reset bool // RESET comes first
	ask   bool // COMMAND comes last
}

// errCommandUnanswered says that all of a handshake has been answered but COMMAND.
var errCommandUnanswered = errors.New("COMMAND was not answered")

// greet makes a session the one that is lent, in one round trip; in two with a server that does not know HELLO and wants a password.
func (d *Driver) greet(ctx context.Context, c *Conn, username, password string, g greeting) error {
	var hello, command redis.Cmder
	cmds, _ := c.session.Pipelined(ctx, func(p redis.Pipeliner) error {
		if g.reset {
			_ = p.Process(ctx, redis.NewStatusCmd(ctx, "reset"))
		}
		hello = newHello(ctx, d.base.Protocol, username, password)
		_ = p.Process(ctx, hello)
		d.furnish(ctx, p)
		if g.ask {
			command = p.Do(ctx, "command")
		}
		return nil
	})
	if g.ask {
		cmds = cmds[:len(cmds)-1]
		ping, ok := cmds[len(cmds)-1].(*redis.StatusCmd)
		answered := ok && (ping.Val() != "" || provesConnection(ping.Err())) // go-redis puts the error of COMMAND on those before without an answer
		if err := command.Err(); err != nil && !isReply(err) && answered {
			return fmt.Errorf("%w: %w", errCommandUnanswered, err)
		}
	}
	login := username != "" || password != ""
	if d.fallsBack(hello.Err(), login) {
		c.fellBack = true
		cmds = slices.DeleteFunc(cmds, func(cmd redis.Cmder) bool { return cmd == hello })
		if login {
			cmds, _ = c.session.Pipelined(ctx, func(p redis.Pipeliner) error {
				if username != "" {
					p.AuthACL(ctx, username, password)
				} else {
					p.Auth(ctx, password)
				}
				d.furnish(ctx, p)
				return nil
			})
		}
	}
	if err := verdict(cmds); err != nil {
		return err
	}
	if cmd, ok := command.(*redis.Cmd); ok && cmd.Err() == nil {
		if known := learn(cmd.Val()); known != nil {
			d.commands.Store(&known)
		}
	}
	return nil
}

// newHello is HELLO with a login, unless both are "". A user without a password (nopass) has one that is empty.
func newHello(ctx context.Context, protocol int, username, password string) redis.Cmder {
	args := []any{"hello", protocol}
	if username != "" || password != "" {
		args = append(args, "auth", cmp.Or(username, defaultUser), password)
	}
	return redis.NewMapStringInterfaceCmd(ctx, args...)
}

// fallsBack says whether the handshake goes on with protocol 2 after this reply to HELLO. Old servers and proxies refuse HELLO in many words,
// so any reply will do but one of those that speak of more than HELLO: a refused login, or a server that serves nothing now. A proxy that wants
// AUTH first (NOAUTH), or a user who may not send HELLO (NOPERM), logs in by AUTH.
func (d *Driver) fallsBack(err error, login bool) bool {
	if !isReply(err) || d.exact || isMaxClients(err) {
		return false
	}
	switch code := code(err); code {
	case "NOAUTH":
		return login
	case "NOPERM":
		return true
	default:
		_, known := replies[code]
		return !known
	}
}

// furnish sends what makes a fresh session the one that is lent, ROLE if it matters, and a PING that proves the session.
func (d *Driver) furnish(ctx context.Context, p redis.Pipeliner) {
	if d.db != 0 {
		p.Select(ctx, d.db)
	}
	if d.clientName != "" {
		p.ClientSetName(ctx, d.clientName)
	}
	if d.finder != nil && !d.finder.replicas {
		p.Do(ctx, "role")
	}
	p.Ping(ctx)
}

// verdict looks at the replies to commands of ours, of which PING is the last.
func verdict(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		switch failure := cmd.Err(); {
		case failure == nil:
		case cmd.Name() == "ping" && provesConnection(failure):
			return nil
		case cmd.Name() == "role" && provesConnection(failure): // nobody knows
		default:
			return fmt.Errorf("%s: %w", displayName(cmd.Name()), failure)
		}
	}
	expected := map[string]string{"reset": "RESET", "select": "OK", "auth": "OK", "ping": "PONG"}
	for _, cmd := range cmds {
		switch reply := cmd.(type) {
		case *redis.StatusCmd:
			if reply.Val() != expected[cmd.Name()] {
				return fmt.Errorf("%s: unexpected reply", displayName(cmd.Name()))
			}
		case *redis.Cmd: // ROLE
			if words, _ := reply.Slice(); len(words) > 0 && words[0] != "master" {
				return errNoPrimary
			}
		}
	}
	return nil
}

// unavailable has what the servers and proxies say of a command that they do not know, or keep from everybody: a configuration may take PING away
// (rename-command). The refusal of PING to a subscriber says "allowed in this context", and is another one.
var unavailable = []string{"unknown command", "unsupported", "not supported", "not allowed", "disabled"}

// provesConnection says whether a refusal of PING tells as much about the connection as a PONG: the server does not know PING, a user may not
// send it, the server is in the midst of a slow script, or it cannot write to its disk and refuses PING as it refuses writes. To close every
// connection because of that script would help nobody, and leave none for SCRIPT KILL; nor would the reads be served that a full disk leaves
// alone.
func provesConnection(err error) bool {
	switch code(err) {
	case "NOPERM", "BUSY", "MISCONF":
		return true
	case "", "ERR":
		return isReply(err) && slices.ContainsFunc(unavailable, func(s string) bool { return strings.Contains(strings.ToLower(err.Error()), s) })
	}
	return false
}

// Check sends a PING. That the server does not know PING, that the user may not send it, or that the server runs a slow script, is no failure:
// the connection has answered.
func (d *Driver) Check(ctx context.Context, c *Conn) error {
	err := c.guarded(ctx, func() error {
		return verdict([]redis.Cmder{c.session.Ping(ctx)})
	})
	if err != nil {
		return fmt.Errorf("redispool: check: %w", err)
	}
	return nil
}

// Close closes the connection.
func (d *Driver) Close(ctx context.Context, c *Conn) error {
	stop := context.AfterFunc(ctx, c.abort)
	defer stop()
	if d.finder != nil {
		d.finder.remove(c)
	}
	err := errors.Join(c.session.Close(), c.client.Close())
	c.socket.abort()
	if c.has(dead|aborted) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Interrupt has the call in progress return. The connection is dirty then, and used again after Reset, unless it broke off in the midst of
// a reply, or of a command that is meant to block.
func (d *Driver) Interrupt(c *Conn) {
	c.mark(interrupted)
	c.socket.stop(byUse)
}

// Valid says whether an idle connection is open and nothing has arrived. It asks the kernel, and does not wait.
func (d *Driver) Valid(c *Conn) bool { return c.socket.quiet() }

// Dirty says whether the borrower has changed the session, has left replies to come, or has broken it without saying so. An interrupted
// connection that no reset can bring back is not called dirty: the pool closes it. A connection with a command in progress, as a
// goroutine of the borrower has sent it, is closed at once: the command returns.
func (d *Driver) Dirty(c *Conn) bool {
	c.given.forget() // it may hold much
	if len(c.turn) > 0 && !c.has(interrupted) {
		c.abort()
	}
	t := trace(c.traces.Load())
	return t != 0 && (t&interrupted == 0 || t&beyondReset == 0)
}

// Reset makes the session what Open made it. It reads the replies that nobody waited for; where the borrower has changed the session, it
// sends RESET and another handshake in one round trip. It fails, so that the pool closes the connection, when late replies do not come in
// time, when the session is beyond a reset, and when the borrower has changed it on a server older than Redis 6.2, which has no RESET.
func (d *Driver) Reset(ctx context.Context, c *Conn) error {
	if err := d.reset(ctx, c); err != nil {
		return fmt.Errorf("redispool: reset: %w", err)
	}
	c.traces.Store(0)
	return nil
}

func (d *Driver) reset(ctx context.Context, c *Conn) error {
	if c.has(beyondReset) {
		return errors.New("the session is beyond it")
	}
	if err := c.settle(ctx); err != nil {
		return err
	}
	if c.traces.Load() == 0 {
		return nil
	}
	if c.fellBack {
		return errors.New("the server does not know RESET")
	}
	username, password, err := d.credentials(ctx)
	if err != nil {
		return err
	}
	err = c.guarded(ctx, func() error { return d.greet(ctx, c, username, password, greeting{reset: true}) })
	return discreet(err, password)
}

// settle has nothing in progress on the connection, and nothing late.
func (c *Conn) settle(ctx context.Context) error {
	if !c.has(late | interrupted) {
		return nil
	}
	if !c.takeTurn(ctx) {
		return ctx.Err()
	}
	defer func() { <-c.turn }()
	if c.has(beyondReset) {
		return errors.New("the session is beyond it")
	}
	if c.has(interrupted) {
		c.socket.resume(byUse)
		c.clear(interrupted)
	}
	if !c.has(late) {
		return nil
	}
	return c.guarded(ctx, func() error { return c.catchUp(ctx) })
}
