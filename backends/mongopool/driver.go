package mongopool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// layerName is the Layer of this package's events.
const layerName = "mongopool"

// New makes a pool of leases on a single shared client. The layers wrap the pool as in [pool.New].
// New combines [NewDriver] and [Driver.NewPool]; call both, and keep the Driver, for
// [Driver.Stats]. New returns an error if opts, cfg or a layer is not valid. The caller must close
// the pool. Close also disconnects the client and closes all its sockets.
func New(opts Options, cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[*Conn], error) {
	d, err := NewDriver(opts)
	if err != nil {
		return nil, err
	}
	return d.NewPool(cfg, layers...)
}

// Driver is the [driver.Driver] for MongoDB. The zero Driver does not work; use [NewDriver]. A
// Driver needs no Close: the shared client is made for the first resource, and disconnected after
// the last resource. The methods may be called concurrently.
type Driver struct {
	settings settings
	totals   totals
	commands commands
	making   chan struct{} // of capacity 1: full while a client is being made

	attached atomic.Pointer[attachment] // nil if the pool was not made by NewPool
	measured atomic.Int64               // the latest ping of measure, in Unix nanoseconds
	current  atomic.Pointer[client]     // the client for the next resource; nil: not made yet

	mu   sync.Mutex
	live map[*client]struct{} // all clients that have not been disconnected
}

var (
	_ driver.Driver[*Conn]    = (*Driver)(nil)
	_ driver.Resetter[*Conn]  = (*Driver)(nil)
	_ driver.Inspector[*Conn] = (*Driver)(nil)
	_ driver.Classifier       = (*Driver)(nil)
	_ driver.Witness[*Conn]   = (*Driver)(nil)
	_ driver.Identifier       = (*Driver)(nil)
)

// NewDriver checks opts and returns a Driver, without a connection to a server. NewDriver reads the
// files named in opts, and looks up a mongodb+srv:// URI in the DNS. Use [Driver.NewPool] to make
// the pool. A pool made by [pool.New] works too, but a Driver cannot see such a pool. The number of
// sockets is then bounded by the commands that run at once in the leases, and not by MaxSize.
func NewDriver(opts Options) (*Driver, error) {
	s, err := opts.settle()
	if err != nil {
		return nil, err
	}
	d := &Driver{settings: s, making: make(chan struct{}, 1), live: map[*client]struct{}{}}
	d.commands.database, d.commands.totals = s.database, &d.totals
	return d, nil
}

// NewPool makes the pool over the driver. A Driver serves a single pool; another call returns an
// error. After a failed call NewPool may be called again.
//
// The client's socket pool takes its bounds from cfg. There are at most MaxSize sockets to a
// server. MinIdle sockets stay open; other sockets are closed after MaxIdleTime without use. At
// most OpenConcurrency sockets are opened at the same time. When Configure raises MaxSize, a larger
// client takes over while resources are opened and released. The other bounds, and a lower MaxSize,
// apply to the next client.
func (d *Driver) NewPool(cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[*Conn], error) {
	a := &attachment{commands: observesCommands(layers), ready: make(chan struct{})}
	if !d.attached.CompareAndSwap(nil, a) {
		return nil, errors.New("mongopool: the driver has a pool already")
	}
	p, err := pool.New(d, cfg, append([]pool.Middleware{a}, layers...)...)
	if err != nil {
		// The caller may correct cfg or the layers, and call NewPool again.
		d.attached.Store(nil)
		return nil, err
	}
	return p, nil
}

// attachment is the layer that tells the driver about its pool. The layer adds nothing to a use.
type attachment struct {
	commands bool          // a layer observes commands
	ready    chan struct{} // closed when pool is set
	pool     pool.PoolInfo
}

// Wrap returns next.
func (a *attachment) Wrap(next pool.Handler) pool.Handler { return next }

// Attach keeps the pool.
func (a *attachment) Attach(p pool.PoolInfo) (detach func(), err error) {
	a.pool = p
	close(a.ready)
	return func() {}, nil
}

// observesCommands reports whether a layer, or a layer inside of a layer, observes commands.
func observesCommands[L any](layers []L) bool {
	return slices.ContainsFunc(layers, func(l L) bool {
		if _, ok := any(l).(pool.CommandObserver); ok {
			return true
		}
		u, ok := any(l).(pool.Composite)
		return ok && observesCommands(u.Unwrap())
	})
}

// Open binds a new resource to the shared client, and pings a server. If there is no client, Open
// makes the client. Open also opens a socket if the client has fewer sockets than resources. While
// borrowers wait, a borrower's command opens the missing socket instead. So a warm pool has open
// connections, and not only the right to open connections.
func (d *Driver) Open(ctx context.Context) (*Conn, error) {
	c, err := d.bind(ctx)
	if err != nil {
		return nil, &openError{err}
	}
	return &Conn{client: c}, nil
}

// Check pings a server that satisfies the read preference. If the preference is primary, and a set
// has had no primary for a quarter of CheckTimeout, Check pings a secondary: uses may read from
// secondaries. If the client of res is to be replaced, Check moves res to the current client
// instead.
func (d *Driver) Check(ctx context.Context, res *Conn) error {
	if d.outdated(res) {
		return d.rebind(ctx, res)
	}
	return d.judge(res.client, res.client.whileUp(ctx, false, res.client.ping))
}

// Close ends the sessions and aborts the transactions that the borrower has left open. Close of the
// last resource disconnects the shared client. If no server answers, a connection that the client
// has begun to make ends in the background, after Options.ConnectTimeout at the latest.
func (d *Driver) Close(ctx context.Context, res *Conn) error {
	res.endSessions(ctx)
	return d.release(ctx, res.client)
}

// Dirty reports whether res needs a Reset. The borrower has begun a session or left a transaction
// open, the driver has held back a command, or the client of res is to be replaced.
func (d *Driver) Dirty(res *Conn) bool {
	d.claim(res) // EndUse is not called after a success without layers
	return res.inSession() || res.heldBack > 0 || d.outdated(res)
}

// Reset ends the sessions, aborts their open transactions, and binds res to the current client. If
// the driver has held back a command for lack of time, Reset measures whether the server is still
// slow.
func (d *Driver) Reset(ctx context.Context, res *Conn) error {
	res.endSessions(ctx)
	if left := res.heldBack; left > 0 {
		res.heldBack = 0
		if err := d.measure(ctx, res.client, left); err != nil {
			return err
		}
	}
	if d.outdated(res) {
		return d.rebind(ctx, res)
	}
	return nil
}

// outdated reports whether res must move to another client. Its own client is useless, or another
// client has taken over and has had an answer.
func (d *Driver) outdated(res *Conn) bool {
	current := d.current.Load()
	return res.client.useless.Load() || current != nil && current != res.client && current.meter.answers.Load() > 0
}

// rebind moves a resource that is not in use to the current client.
func (d *Driver) rebind(ctx context.Context, res *Conn) error {
	c, err := d.bind(ctx)
	if err != nil {
		return err
	}
	old := res.client
	res.client = c
	return d.release(ctx, old)
}

// bind finds or makes the client for a resource, and warms the client.
func (d *Driver) bind(ctx context.Context) (*client, error) {
	c, n, err := d.acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("mongopool: connect: %w", err)
	}
	err = c.whileUp(ctx, n == 1, func(ctx context.Context) error {
		return c.warm(ctx, func() int { return d.bound(c) }, d.busy)
	})
	if err = d.judge(c, err); err != nil {
		return nil, errors.Join(fmt.Errorf("mongopool: open: %w", err), d.release(ctx, c))
	}
	return c, nil
}

// bound returns how many resources are bound to c.
func (d *Driver) bound(c *client) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return c.refs
}

// measurePause is the time between two measurements.
const measurePause = time.Second / 2

// measure pings the server after the driver has held back a command. left is the time that the use
// had left. The client has measured its round trips while the server was slower. If the reply comes
// within half of left, measure replaces the client: its round trips are outdated, and callers with
// little time could not use the client. The client itself would find out at its next heartbeat,
// after up to ten seconds.
func (d *Driver) measure(ctx context.Context, c *client, left time.Duration) error {
	last, now := d.measured.Load(), time.Now()
	if now.UnixNano()-last < int64(measurePause) || !d.measured.CompareAndSwap(last, now.UnixNano()) {
		return nil
	}
	err := d.judge(c, c.whileUp(ctx, false, c.ping))
	if err == nil && time.Since(now) < left/2 {
		d.giveUp(c)
	}
	return err
}

// busy reports whether borrowers are waiting in the pool.
func (d *Driver) busy() bool {
	a := d.attached.Load()
	return a != nil && a.pool.Stat().Waiters > 0
}

// judge returns err. If err shows that the client is disconnected, or that its credentials are
// refused, the next resource gets another client.
func (d *Driver) judge(c *client, err error) error {
	if err != nil && (errors.Is(err, mongo.ErrClientDisconnected) || refusesLogin(err)) {
		d.giveUp(c)
	}
	return err
}

// giveUp marks c as useless. The next resource gets another client.
func (d *Driver) giveUp(c *client) {
	c.useless.Store(true)
	d.current.CompareAndSwap(c, nil)
}

// acquire returns a client with room for another resource, and the number of resources bound to the
// client, including the new resource.
func (d *Driver) acquire(ctx context.Context) (*client, int, error) {
	if c, n := d.join(); c != nil {
		return c, n, nil
	}
	select {
	case d.making <- struct{}{}:
		defer func() { <-d.making }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	if c, n := d.join(); c != nil { // another goroutine has made the client
		return c, n, nil
	}
	c, err := d.newClient(ctx)
	if err != nil {
		return nil, 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c.refs = 1
	d.live[c] = struct{}{}
	d.current.Store(c)
	return c, 1, nil
}

func (d *Driver) join() (*client, int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.current.Load()
	if c == nil || !c.usable() {
		return nil, 0
	}
	c.refs++
	return c, c.refs
}

// release unbinds a resource from c, and disconnects c after the last resource.
func (d *Driver) release(ctx context.Context, c *client) error {
	d.mu.Lock()
	c.refs--
	last := c.refs == 0
	if last {
		delete(d.live, c)
		d.current.CompareAndSwap(c, nil)
	}
	d.mu.Unlock()
	if !last {
		return nil
	}
	return c.disconnect(ctx)
}

// newClient makes a client. newClient does no I/O except for Options.Credentials; the driver
// connects in the background.
func (d *Driver) newClient(ctx context.Context) (*client, error) {
	m := measures{patience: defaultPatience}
	var events *courier
	observed, leaks := true, false
	if a := d.attached.Load(); a != nil {
		select {
		case <-a.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		cfg := a.pool.Effective()
		m = measures{cfg.MaxSize, cfg.MinIdle, cfg.OpenConcurrency, cfg.MaxIdleTime, cfg.CheckTimeout / 2}
		observed, leaks = a.commands, cfg.LeakAfter > 0
		events = newCourier(a.pool.Emit, &d.totals.dropped)
	}
	co, err := d.settings.clientOptions(ctx, m)
	if err != nil {
		events.stop()
		return nil, err
	}
	c := &client{
		size: m.maxSize, reads: co.ReadPreference, wantsPrimary: wantsPrimary(co.ReadPreference) && !isDirect(co),
		loadBalanced: co.LoadBalanced != nil && *co.LoadBalanced,
		meter:        newMeter(&d.totals, events), patience: m.patience,
	}
	if leaks || c.loadBalanced {
		c.cursors = &cursors{of: &d.commands, stacks: leaks}
	}
	monitor(co, c.meter, &d.commands, c.cursors, observed)
	if c.mc, err = mongo.Connect(co); err != nil {
		events.stop()
		return nil, err
	}
	c.db = c.mc.Database(d.settings.database)
	return c, nil
}

// measures are the bounds of a client's socket pool, and the client's patience. A bound of 0 means:
// no bound (maxSize, idleTime), no idle sockets (minIdle), the driver's default (concurrency).
type measures struct {
	maxSize, minIdle, concurrency int
	idleTime, patience            time.Duration
}

// defaultPatience is the patience of a client without a pool's Config.
const defaultPatience = 500 * time.Millisecond

// Identity returns the deployment and the database that the pool connects to.
func (d *Driver) Identity() driver.Identity { return d.settings.identity }

// DefaultSize returns 100, the default maxPoolSize of a mongo.Client.
func (d *Driver) DefaultSize() int { return 100 }

// String returns the deployment and the database, without credentials.
func (d *Driver) String() string { return "mongopool.Driver(" + d.settings.name + ")" }

// GoString returns String, so %#v shows no credentials.
func (d *Driver) GoString() string { return d.String() }

// Stats returns the values of the driver's monitors. Stats may be called at any time.
func (d *Driver) Stats() Stats {
	t := &d.totals
	s := Stats{
		SocketsOpened: t.opened.Load(), SocketsClosed: t.closed.Load(),
		SocketWaits: t.waits.Load(), SocketWait: time.Duration(t.wait.Load()), NoSocket: t.noSocket.Load(),
		Cleared: t.cleared.Load(), ServerChanges: t.changes.Load(), EventsDropped: t.dropped.Load(),
		Commands: t.commands.Load(), CommandsFailed: t.failed.Load(), CursorsLeft: t.cursorsLeft.Load(),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Clients = len(d.live)
	for c := range d.live {
		open, idle := c.meter.sockets()
		s.Sockets += open
		s.SocketsBusy += open - idle
	}
	if c := d.current.Load(); c != nil {
		s.ServersUp, s.ServersDown = c.meter.serversUp()
	}
	return s
}
