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
)

// layerName is what the events of this package give as Layer.
const layerName = "mongopool"

// New makes a pool of leases on one shared client, wrapped by layers as [pool.New] wraps them. It is NewDriver and [Driver.NewPool] in
// one; keep the Driver to read its [Driver.Stats]. The pool must be closed, and the client with all its sockets goes with it.
func New(opts Options, cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[*Conn], error) {
	d, err := NewDriver(opts)
	if err != nil {
		return nil, err
	}
	return d.NewPool(cfg, layers...)
}

// Driver is the [pool.Driver] for MongoDB. It holds nothing open by itself: the shared client is made for the first resource and
// disconnected after the last, so there is nothing to close. Its methods may be called concurrently.
type Driver struct {
	settings settings
	totals   totals
	commands commands
	making   chan struct{} // of capacity 1: full while a client is being made

	attached atomic.Pointer[attachment] // nil for a Driver whose pool was not made by NewPool
	measured atomic.Int64               // when measure has last pinged a server, in Unix nanoseconds
	current  atomic.Pointer[client]     // what resources are bound to from now on; nil when it is yet to be made

	mu   sync.Mutex
	live map[*client]struct{} // all that have not been disconnected
}

var (
	_ pool.Driver[*Conn]    = (*Driver)(nil)
	_ pool.Resetter[*Conn]  = (*Driver)(nil)
	_ pool.Inspector[*Conn] = (*Driver)(nil)
	_ pool.Classifier       = (*Driver)(nil)
	_ pool.Witness[*Conn]   = (*Driver)(nil)
	_ pool.Describer        = (*Driver)(nil)
)

// NewDriver checks opts, reading the files they name and asking the DNS for a mongodb+srv:// URI, and connects to nothing yet. Use
// [Driver.NewPool] to put a pool over it. Under a pool made by pool.New, which a driver cannot see, the number of sockets is bounded by
// the commands that the leases run at once, not by MaxSize.
func NewDriver(opts Options) (*Driver, error) {
	s, err := opts.settle()
	if err != nil {
		return nil, err
	}
	d := &Driver{settings: s, making: make(chan struct{}, 1), live: map[*client]struct{}{}}
	d.commands.database, d.commands.totals = s.database, &d.totals
	return d, nil
}

// NewPool makes the pool over the driver; a Driver serves one, and can be asked again when none was made. The client's socket pool takes
// its measures from cfg: never more sockets to a server than MaxSize, MinIdle of them kept open, the others closed after MaxIdleTime
// without use, OpenConcurrency opened at once. When Configure raises MaxSize, a larger client takes over as resources are opened and come
// back. The other measures, and a lower MaxSize, hold for the next client.
func (d *Driver) NewPool(cfg pool.Config, layers ...pool.Middleware) (*pool.Pool[*Conn], error) {
	a := &attachment{commands: observesCommands(layers), ready: make(chan struct{})}
	if !d.attached.CompareAndSwap(nil, a) {
		return nil, errors.New("mongopool: the driver has a pool already")
	}
	p, err := pool.New(d, cfg, append([]pool.Middleware{a}, layers...)...)
	if err != nil {
		d.attached.Store(nil) // a mistake in cfg or in the layers, which may be put right
		return nil, err
	}
	return p, nil
}

// attachment is the layer by which the driver gets to know its pool. It adds nothing to a use.
type attachment struct {
	commands bool          // some layer wants to see commands
	ready    chan struct{} // closed when pool is set
	pool     pool.PoolInfo
}

// Wrap returns next.
func (a *attachment) Wrap(next pool.Handler) pool.Handler { return next }

// Attach notes the pool.
func (a *attachment) Attach(p pool.PoolInfo) (detach func(), err error) {
	a.pool = p
	close(a.ready)
	return func() {}, nil
}

// observesCommands says whether some layer, or a layer inside of it, wants to see commands.
func observesCommands[L any](layers []L) bool {
	return slices.ContainsFunc(layers, func(l L) bool {
		if _, ok := any(l).(pool.CommandObserver); ok {
			return true
		}
		u, ok := any(l).(interface{ Unwrap() []any })
		return ok && observesCommands(u.Unwrap())
	})
}

// Open binds a new resource to the shared client, makes it if there is none, and sees to it that the client has at least as many sockets
// as resources are bound to it: a pool that is warm has its connections, not only the right to make them.
func (d *Driver) Open(ctx context.Context) (*Conn, error) {
	c, err := d.bind(ctx)
	if err != nil {
		return nil, &openError{err}
	}
	return &Conn{client: c}, nil
}

// Check pings a server that satisfies the read preference. Where that is primary, and a set has had no primary for a quarter of CheckTimeout,
// Check pings a secondary: uses may read from secondaries.
func (d *Driver) Check(ctx context.Context, res *Conn) error {
	if d.outdated(res) {
		return d.rebind(ctx, res)
	}
	return d.judge(res.client, res.client.whileUp(ctx, false, res.client.ping))
}

// Close ends the sessions that the borrower has left open. With the last resource goes the shared client. If no server answers, a connection that the
// client has begun to make ends after Options.ConnectTimeout at the latest, in the background.
func (d *Driver) Close(ctx context.Context, res *Conn) error {
	res.endSessions(ctx)
	return d.release(ctx, res.client)
}

// Dirty says whether the borrower has begun a session or left a transaction open, the driver has held a command back, or the client that the
// resource is bound to is to be replaced.
func (d *Driver) Dirty(res *Conn) bool {
	d.claim(res) // a success without layers is not testified
	return res.inSession() || res.heldBack > 0 || d.outdated(res)
}

// Reset ends the sessions, aborts what transaction is open in them, and binds the resource to the present client. If the driver has held a command
// back for want of time, Reset finds out whether the server is still that slow.
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

// outdated says whether res is to move to another client: its own is useless, or another has taken over and has been answered.
func (d *Driver) outdated(res *Conn) bool {
	current := d.current.Load()
	return res.client.useless.Load() || current != nil && current != res.client && current.meter.answers.Load() > 0
}

// rebind moves a resource that nobody holds to the present client.
func (d *Driver) rebind(ctx context.Context, res *Conn) error {
	c, err := d.bind(ctx)
	if err != nil {
		return err
	}
	old := res.client
	res.client = c
	return d.release(ctx, old)
}

// bind finds or makes the client for a resource, and warms it.
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

// measurePause is the time from one measure to the next.
const measurePause = time.Second / 2

// measure pings the server after the driver has held back a command with so much time left, for the client has met the server while it was slower.
// If the answer comes in half of that time, the client is replaced: what it knows is outdated, and of no use to callers with little time. The
// client itself would find out at its next heartbeat, after up to ten seconds.
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

// busy says whether borrowers are waiting for the pool.
func (d *Driver) busy() bool {
	a := d.attached.Load()
	return a != nil && a.pool.Stat().Waiters > 0
}

// judge returns err. A client that cannot be used any more, or not with the credentials it has, is replaced by the next that is asked for.
func (d *Driver) judge(c *client, err error) error {
	if err != nil && (errors.Is(err, mongo.ErrClientDisconnected) || refusesLogin(err)) {
		d.giveUp(c)
	}
	return err
}

// giveUp has the next client that is asked for take the place of c.
func (d *Driver) giveUp(c *client) {
	c.useless.Store(true)
	d.current.CompareAndSwap(c, nil)
}

// acquire returns a client with room for one more resource, and how many are bound to it, this one included.
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
	if c, n := d.join(); c != nil { // somebody else has made it
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

// release unbinds a resource from its client, and disconnects that after the last.
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

// newClient makes a client. It does no I/O but what the driver does in the background and what Options.Credentials does.
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
		cfg := a.pool.Config()
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

// measures are those of a client's socket pool. 0 means: no bound, none kept, the driver's default, no bound. patience is the client's.
type measures struct {
	maxSize, minIdle, concurrency int
	idleTime, patience            time.Duration
}

// defaultPatience is of a client without a pool's settings.
const defaultPatience = 500 * time.Millisecond

// Identity says what the pool connects to.
func (d *Driver) Identity() pool.Identity { return d.settings.identity }

// DefaultSize is 100, the maxPoolSize of a mongo.Client.
func (d *Driver) DefaultSize() int { return 100 }

// String names the driver's deployment and database, without credentials.
func (d *Driver) String() string { return "mongopool.Driver(" + d.settings.name + ")" }

// GoString is String, so that %#v shows no more.
func (d *Driver) GoString() string { return d.String() }

// Stats returns what the driver's monitors have seen.
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
