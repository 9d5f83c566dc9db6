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
	"github.com/earnorm/poolstack/pool/driver"
)

// Driver opens connections to a Redis server for a [pool.Pool]. [NewDriver] makes a Driver. Only
// the pool calls the methods.
type Driver struct {
	dialer      *dialer
	network     string // "tcp" or "unix"; "" with Sentinels
	address     string
	finder      *finder // nil without Sentinels
	credentials login
	base        redis.Options // without credentials, Addr and Dialer
	db          int
	clientName  string
	exact       bool // Options.Protocol is 3: no fallback to 2

	asked    atomic.Bool // a connection has sent COMMAND, or is sending it
	commands atomic.Pointer[commands]
	patience patience

	subscriptions atomic.Int64 // the number of open connections of subscriptions
}

var (
	_ driver.Driver[*Conn]      = (*Driver)(nil)
	_ driver.Resetter[*Conn]    = (*Driver)(nil)
	_ driver.Interrupter[*Conn] = (*Driver)(nil)
	_ driver.Inspector[*Conn]   = (*Driver)(nil)
	_ driver.Classifier         = (*Driver)(nil)
	_ driver.Witness[*Conn]     = (*Driver)(nil)
	_ driver.Identifier         = (*Driver)(nil)
	_ pool.Attacher             = (*Driver)(nil)
	_ pool.Leveler              = (*Driver)(nil)
)

// New makes a pool of connections to the server named by opts. The layers wrap the pool; the first
// layer is outermost. New itself dials nothing. The pool opens cfg.MinIdle connections in the
// background. The errors are the errors of [NewDriver] and [pool.New]. The caller closes the pool.
func New(opts Options, cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[*Conn], error) {
	d, err := NewDriver(opts)
	if err != nil {
		return nil, err
	}
	return pool.New(d, cfg, layers...)
}

// NewDriver makes a driver for [pool.New]. NewDriver reads the files named by opts.TLS and
// opts.Sentinel.TLS. It returns the errors of [Options.Validate], or an error naming the field and
// the file.
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
		// A single connection. go-redis must not replace it.
		PoolSize: 1, MaxActiveConns: 1, PipelinePoolSize: -1,
		// go-redis sends a command once and dials a socket once. Only layers and the pool try again.
		MaxRetries: -1, DialerRetries: 1,
		ReadTimeout: ioTimeout(opts.ReadTimeout), WriteTimeout: ioTimeout(opts.WriteTimeout), ContextTimeoutEnabled: true,
		ConnMaxIdleTime: -1, // the pool closes idle connections
		// Without these settings, opening a connection takes another round trip.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if d.base.Protocol == 0 {
		d.base.Protocol = protocol3
	}
	return d, nil
}

const protocol3 = 3

// DefaultSize returns the default of MaxSize: 10 connections for each processor used by Go, as in a
// redis.Client.
func (d *Driver) DefaultSize() int { return 10 * runtime.GOMAXPROCS(0) }

// Identity returns the server's address and database. The Name is "", so the pool makes a name of
// the other fields: "redis localhost:6379/0". With Sentinels the Name is "redis mymaster/0", or
// "redis mymaster replicas/0".
func (d *Driver) Identity() driver.Identity {
	id := driver.Identity{System: "redis", Address: d.address, Namespace: strconv.Itoa(d.db)}
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

// Attach starts to follow the reports of the Sentinels about the primary. detach ends this for the
// pool. Without Sentinels detach is nil.
func (d *Driver) Attach(p pool.PoolInfo) (detach func(), err error) {
	if d.finder != nil {
		detach = d.finder.attach(p)
	}
	return detach, nil
}

// locate returns the network and the address of the server.
func (d *Driver) locate(ctx context.Context) (network, address string, err error) {
	if d.finder == nil {
		return d.network, d.address, nil
	}
	address, err = d.finder.find(ctx)
	return "tcp", address, err
}

// connect locates the server and dials a socket.
func (d *Driver) connect(ctx context.Context) (s *socket, address string, err error) {
	network, address, err := d.locate(ctx)
	if err != nil {
		return nil, "", err
	}
	s, err = d.dialer.dial(ctx, network, address)
	return s, address, err
}

// Open dials the server, authenticates and selects the database. The handshake takes a single round
// trip (see greet). The first connection of the driver also asks for the server's commands
// (COMMAND). If the server hangs up on COMMAND, Open tries again without COMMAND.
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

// opening is the name of the opening of a connection in errors.
const opening = "CONNECT"

// connectError returns the error of a failed dial. An error reply comes from a Sentinel.
func (d *Driver) connectError(err, over error) error {
	if _, ok := errors.AsType[redis.Error](err); ok {
		return fmt.Errorf("redispool: %s: %w", opening, err)
	}
	return &Error{Command: opening, Err: err, Context: over}
}

// openError returns the error of a failed handshake, with the text of the error reply if there is
// one.
func (c *Conn) openError(err, over error, password string) error {
	if _, ok := errors.AsType[redis.Error](err); !ok {
		return &Error{Command: opening, Err: fmt.Errorf("handshake with %s: %w", c.addr, err), Context: over}
	}
	return fmt.Errorf("redispool: %s: handshake with %s: %w", opening, c.addr, discreet(err, password))
}

// newConn makes a Conn with the socket and a client of its own.
func (d *Driver) newConn(s *socket, address string) *Conn {
	c := &Conn{client: d.client(s, address), socket: s, addr: address, driver: d, turn: make(chan struct{}, 1)}
	c.evidence.numberUses()
	c.session = c.client.EphemeralConn()
	c.StatefulCmdable = c.session
	return c
}

// client makes a client of go-redis for the server at address. conn is the only connection of the
// client.
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

// greeting selects the optional commands of a handshake.
type greeting struct {
	reset bool // send RESET first
	ask   bool // send COMMAND last
}

// errCommandUnanswered is the error of a handshake if all commands but COMMAND were answered.
var errCommandUnanswered = errors.New("COMMAND was not answered")

// greet does the handshake: afterwards the session is in the state left by Open. greet takes a
// single round trip. It takes two round trips if the server does not know HELLO and wants a
// password.
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
		// go-redis also sets the error of COMMAND on earlier commands without an answer.
		answered := ok && (ping.Val() != "" || provesConnection(ping.Err()))
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

// newHello returns HELLO, with a login unless username and password are both "". The password of a
// user without a password (nopass) is empty.
func newHello(ctx context.Context, protocol int, username, password string) redis.Cmder {
	args := []any{"hello", protocol}
	if username != "" || password != "" {
		args = append(args, "auth", cmp.Or(username, defaultUser), password)
	}
	return redis.NewMapStringInterfaceCmd(ctx, args...)
}

// fallsBack reports whether the handshake continues with protocol 2 after err, the reply to HELLO.
// Old servers and proxies refuse HELLO with many different texts. So any error reply counts as a
// refusal, with the exception of replies about more than HELLO: a refused login, or a server that
// serves no command now. NOAUTH counts as a refusal if there is a login, because a proxy may want
// AUTH first. NOPERM counts as a refusal, because a user may not have the permission for HELLO.
// After a refusal the driver logs in by AUTH.
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

// furnish sends the rest of the handshake: SELECT and CLIENT SETNAME if configured, ROLE if the
// server must be the primary, and a PING to prove the session.
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

// verdict checks the replies to commands of the driver, of which PING is last. It returns the first
// error.
func verdict(cmds []redis.Cmder) error {
	for _, cmd := range cmds {
		switch failure := cmd.Err(); {
		case failure == nil:
		case cmd.Name() == "ping" && provesConnection(failure):
			return nil
		case cmd.Name() == "role" && provesConnection(failure): // the role is not known
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

// unavailable has the texts of servers and proxies for a command that is unknown, or disabled for
// everybody. For example, a configuration may disable PING (rename-command). The refusal of PING to
// a subscriber ("allowed in this context") has none of these texts.
var unavailable = []string{"unknown command", "unsupported", "not supported", "not allowed", "disabled"}

// provesConnection reports whether err, a refusal of PING, proves the connection as a PONG does. It
// does if the server does not know PING, if the user may not send PING, or if a slow script is
// running (BUSY). It also does if the server cannot write to its disk (MISCONF): then the server
// refuses PING like a write.
//
// Closing all connections because of a slow script would help nobody, and would leave no connection
// for SCRIPT KILL. Closing all connections because of a full disk would stop the reads, which a
// full disk does not affect.
func provesConnection(err error) bool {
	switch code(err) {
	case "NOPERM", "BUSY", "MISCONF":
		return true
	case "", "ERR":
		return isReply(err) && slices.ContainsFunc(unavailable, func(s string) bool { return strings.Contains(strings.ToLower(err.Error()), s) })
	}
	return false
}

// Check sends a PING. Check also succeeds if the server does not know PING, or if the user may not
// send PING. It succeeds as well if the server runs a slow script, or cannot write to its disk. In
// all of these cases the connection has answered.
func (d *Driver) Check(ctx context.Context, c *Conn) error {
	err := c.guarded(ctx, func() error {
		return verdict([]redis.Cmder{c.session.Ping(ctx)})
	})
	if err != nil {
		return fmt.Errorf("redispool: check: %w", err)
	}
	return nil
}

// Close closes the connection. When ctx is done, Close closes the socket without waiting for the
// peer.
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

// Interrupt makes the call in progress return at once. The connection is dirty afterwards, and
// Reset makes it usable again. Reset cannot help if the call stopped inside a reply, or if its
// command is meant to block.
func (d *Driver) Interrupt(c *Conn) {
	c.mark(interrupted)
	c.socket.stop(byUse)
}

// Valid reports whether an idle connection is open and no unexpected bytes have arrived. Valid asks
// the kernel and does not wait.
func (d *Driver) Valid(c *Conn) bool { return c.socket.quiet() }

// Dirty reports whether the connection needs a Reset: the borrower has changed the session, has
// left replies to come, or has broken the connection without returning an error. Dirty returns
// false for an interrupted connection beyond repair by Reset, and the pool closes it.
//
// Dirty closes a connection with a command in progress, for example a command of another goroutine
// of the borrower. The command returns at once.
func (d *Driver) Dirty(c *Conn) bool {
	c.given.forget() // the context may hold much memory
	if len(c.turn) > 0 && !c.has(interrupted) {
		c.abort()
	}
	t := trace(c.traces.Load())
	return t != 0 && (t&interrupted == 0 || t&beyondReset == 0)
}

// Reset restores the state of the session left by Open. Reset reads and discards the late replies.
// If the borrower has changed the session, Reset sends RESET and another handshake, in a single
// round trip.
//
// Reset returns an error in the following cases, and the pool closes the connection:
//
//   - late replies do not arrive in time
//   - RESET cannot undo the changes
//   - the borrower has changed the session, and the server is older than Redis 6.2 and does not
//     know RESET
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

// settle waits for the command in progress, ends an interruption and reads the late replies.
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
