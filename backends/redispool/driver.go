package redispool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/earnorm/poolstack/pool"
)

// Driver opens connections to one Redis server for a [pool.Pool]. It is made by [NewDriver]; its methods are the pool's to call.
type Driver struct {
	dialer      *dialer
	credentials func(ctx context.Context) (username, password string, err error)
	base        redis.Options // without credentials and Dialer
	db          int
	clientName  string
	exact       bool // no other protocol than the one asked for will do
}

var (
	_ pool.Driver[*Conn]      = (*Driver)(nil)
	_ pool.Resetter[*Conn]    = (*Driver)(nil)
	_ pool.Interrupter[*Conn] = (*Driver)(nil)
	_ pool.Inspector[*Conn]   = (*Driver)(nil)
	_ pool.Classifier         = (*Driver)(nil)
	_ pool.Witness[*Conn]     = (*Driver)(nil)
	_ pool.Describer          = (*Driver)(nil)
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
	var err error
	if d.dialer, err = newDialer(opts); err != nil {
		return nil, err
	}
	d.base = redis.Options{
		Addr:     d.dialer.address,
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

// Identity says what the driver connects to. The name is left to the pool, which makes "redis localhost:6379/0" of the rest.
func (d *Driver) Identity() pool.Identity {
	id := pool.Identity{System: "redis", Address: d.dialer.address, Namespace: strconv.Itoa(d.db)}
	if d.dialer.network != "unix" {
		host, port, _ := net.SplitHostPort(d.dialer.address) // made by JoinHostPort
		id.Address = host
		id.Port, _ = strconv.Atoi(port)
	}
	return id
}

// Open connects, authenticates and selects the database, in two round trips besides those of connecting.
func (d *Driver) Open(ctx context.Context) (*Conn, error) {
	username, password, err := d.credentials(ctx)
	if err != nil {
		return nil, &Error{Command: connect, Err: err, Context: over(ctx)}
	}
	s, err := d.dialer.dial(ctx)
	if err != nil {
		return nil, &Error{Command: connect, Err: err, Context: over(ctx)}
	}
	c := d.newConn(s, username, password)
	err = c.guarded(ctx, func() error {
		// The first command has go-redis send HELLO.
		cmds, err := c.session.Pipelined(ctx, func(p redis.Pipeliner) error { d.furnish(ctx, p); return nil })
		return verdict(cmds, err)
	})
	if err != nil {
		_ = d.Close(ctx, c)
		return nil, d.openError(err, password)
	}
	c.traces.Store(0)
	c.ready = true
	return c, nil
}

// connect stands for the opening of a connection in errors.
const connect = "CONNECT"

// openError says that a handshake has failed, and why, in the words of the reply if there was one.
func (d *Driver) openError(err error, password string) error {
	if refused, ok := errors.AsType[*refusal](err); ok {
		err = refused.reply
	}
	if failed, ok := errors.AsType[*Error](err); ok {
		return &Error{Command: connect, Err: fmt.Errorf("handshake with %s: %w", d.dialer.address, failed.Err), Context: failed.Context}
	}
	return fmt.Errorf("redispool: %s: handshake with %s: %w", connect, d.dialer.address, discreet(err, password))
}

// newConn gives the socket to a client of its own.
func (d *Driver) newConn(s *socket, username, password string) *Conn {
	opts := d.base
	opts.CredentialsProviderContext = func(context.Context) (string, string, error) { return username, password, nil }
	given := false
	opts.Dialer = func(context.Context, string, string) (net.Conn, error) {
		if given {
			return nil, errRedial
		}
		given = true
		return s, nil
	}
	c := &Conn{client: redis.NewClient(&opts), socket: s, addr: d.dialer.address, exact: d.exact, turn: make(chan struct{}, 1)}
	c.evidence.numberUses()
	c.session = c.client.EphemeralConn()
	c.session.AddHook(hook{c})
	c.Cmdable = c.session
	return c
}

// furnish sends what makes a fresh session the one that is lent, and a PING that proves it.
func (d *Driver) furnish(ctx context.Context, p redis.Pipeliner) {
	if d.db != 0 {
		p.Select(ctx, d.db)
	}
	if d.clientName != "" {
		p.ClientSetName(ctx, d.clientName)
	}
	p.Ping(ctx)
}

// verdict looks at the replies to commands of ours; err is what their pipeline returned.
func verdict(cmds []redis.Cmder, err error) error {
	for _, cmd := range cmds {
		switch failure := cmd.Err(); {
		case failure == nil:
		case cmd.Name() == "ping" && provesConnection(code(failure)):
			return nil // it is the last one
		default:
			return fmt.Errorf("%s: %w", displayName(cmd.Name()), failure)
		}
	}
	if err != nil {
		return err // there was no connection
	}
	expected := map[string]string{"reset": "RESET", "select": "OK", "ping": "PONG"}
	for _, cmd := range cmds {
		if status, ok := cmd.(*redis.StatusCmd); ok && status.Val() != expected[cmd.Name()] {
			return fmt.Errorf("%s: unexpected reply", displayName(cmd.Name()))
		}
	}
	return nil
}

// provesConnection says whether a refusal of PING tells as much about the connection as a PONG: a user may not send it, or the server is
// in the midst of a slow script. To close every connection because of that script would help nobody, and leave none for SCRIPT KILL.
func provesConnection(code string) bool { return code == "NOPERM" || code == "BUSY" }

// Check sends a PING. That the user may not send it, or that the server runs a slow script, is no failure: the connection has answered.
func (d *Driver) Check(ctx context.Context, c *Conn) error {
	err := c.guarded(ctx, func() error {
		ping := c.session.Ping(ctx)
		return verdict([]redis.Cmder{ping}, ping.Err())
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
	err := errors.Join(c.session.Close(), c.client.Close())
	c.socket.abort()
	if c.has(dead|aborted) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Interrupt closes the socket, so that the call in progress returns.
func (d *Driver) Interrupt(c *Conn) { c.abort() }

// Dirty says whether the borrower has changed the session, or broken it without saying so.
func (d *Driver) Dirty(c *Conn) bool { return c.traces.Load() != 0 }

// Reset makes the session what Open made it, by RESET and another handshake in one round trip. It fails, so that the pool closes the
// connection, when the session is beyond that, and with servers older than Redis 6.2, which do not know RESET.
func (d *Driver) Reset(ctx context.Context, c *Conn) error {
	if c.has(spoiled|dead|aborted) || c.fellBack {
		return errors.New("redispool: reset: the session is beyond it")
	}
	username, password, err := d.credentials(ctx)
	if err != nil {
		return fmt.Errorf("redispool: reset: %w", err)
	}
	err = c.guarded(ctx, func() error {
		cmds, err := c.session.Pipelined(ctx, func(p redis.Pipeliner) error {
			_ = p.Process(ctx, redis.NewStatusCmd(ctx, "reset"))
			p.Hello(ctx, d.base.Protocol, username, password, "")
			d.furnish(ctx, p)
			return nil
		})
		return verdict(cmds, err)
	})
	if err != nil {
		return fmt.Errorf("redispool: reset: %w", discreet(err, password))
	}
	c.traces.Store(0)
	return nil
}
