package mongopool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
)

// client is the mongo.Client that leases share. It lives as long as resources are bound to it.
type client struct {
	mc    *mongo.Client
	db    *mongo.Database
	reads *readpref.ReadPref // nil means primary
	size  int                // its maxPoolSize: how many resources it can serve; 0 means any number
	meter *meter
	refs  int // resources bound to it; guarded by Driver.mu

	wantsPrimary bool // by its read preference, and it is free to look for one
	loadBalanced bool
	cursors      *cursors // nil if nobody follows them

	opening atomic.Int64 // resources that are being opened

	useless  atomic.Bool   // it has been disconnected, its credentials are not accepted any more, or it takes the server for slow
	patience time.Duration // how long a ping goes without an answer before the client is silent; longer when the server is slow
}

// prove runs f, which sends a command of the pool's own, with the client's read preference. Where that is primary, and the set shows no primary for
// half of the patience, prove runs f with primaryPreferred. The pool's commands prove that the client has a server, and the secondaries of a set
// without a primary serve reads. Would the pool's commands wait for a primary, so would each use whose resource is opened or checked. A use that
// needs the primary finds out by itself.
func (c *client) prove(ctx context.Context, f func(context.Context, *readpref.ReadPref) error) error {
	if !c.wantsPrimary {
		return f(ctx, c.reads)
	}
	known, without, _ := c.meter.primary()
	if known {
		return f(ctx, c.reads)
	}
	if without < c.settling() {
		first, giveUp := context.WithCancel(ctx)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			c.awaitSettled(first, giveUp)
		}()
		err := f(first, c.reads)
		settled := first.Err() != nil && ctx.Err() == nil
		giveUp()
		<-watched
		if err == nil || !settled {
			return err
		}
	}
	return f(ctx, readpref.PrimaryPreferred())
}

// settling is how long a set must have shown secondaries and no primary before a secondary will do. A new client hears of the members one after
// another, and is to open its sockets to the primary.
func (c *client) settling() time.Duration { return c.patience / 2 }

// awaitSettled calls giveUp when the set has settled without a primary. It returns then, when a primary is known, and when ctx is over.
func (c *client) awaitSettled(ctx context.Context, giveUp func()) {
	for {
		known, without, changed := c.meter.primary()
		var timer <-chan time.Time
		switch {
		case known:
			return
		case without >= c.settling():
			giveUp()
			return
		case without > 0:
			timer = time.After(c.settling() - without)
		}
		select {
		case <-changed:
		case <-timer:
		case <-ctx.Done():
			return
		}
	}
}

// isDirect says whether the client talks to one server, whatever its role: to one member of a set, or to a load balancer.
func isDirect(co *options.ClientOptions) bool {
	return co.Direct != nil && *co.Direct || co.LoadBalanced != nil && *co.LoadBalanced
}

// wantsPrimary says whether reads is primary. nil means primary.
func wantsPrimary(reads *readpref.ReadPref) bool {
	return reads == nil || reads.Mode() == readpref.PrimaryMode
}

// usable says whether another resource may be bound to the client: it would find a socket, and the sockets are not silent. After a network has
// swallowed all, the sockets may stay silent for ever, and the driver's own are given up after ConnectTimeout only. A new client finds out at
// once whether the server answers. It is called under Driver.mu.
func (c *client) usable() bool {
	return (c.size == 0 || c.refs < c.size) && !c.meter.silent.Load() && !c.useless.Load()
}

// ping proves that a server is there which satisfies the read preference, or any server where no primary is. The driver must not know the
// deadline of ctx: with less time than the server lately needed, the driver sends nothing, and goes on like this for up to ten seconds after a
// slow server has become quick again.
func (c *client) ping(ctx context.Context) error {
	undated, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	undated, _ = newErrand(undated)
	err := c.prove(undated, c.mc.Ping)
	if err != nil && ctx.Err() != nil { // err says only that it was cancelled
		return fmt.Errorf("mongopool: ping: %w", context.Cause(ctx))
	}
	return err
}

// warm pings a server, and opens a socket for a resource that is being opened: a socket more than there are, and one more for each resource that
// is being opened at the same time, but never more sockets than resources. So after a cut of all sockets one resource does not open them all.
//
// The first ping takes an idle socket if there is one, else the driver opens one. The driver opens a socket only for a command that finds none
// idle: if one is still missing, there are as many pings at once as sockets are idle, and one more. These pings hold the sockets that borrowers
// could use, so there are none while borrowers are waiting: busy says so. A borrower's command opens the missing socket if need be. A ping that
// waits for a new socket is served by an idle one that comes back before: so between the rounds of pings there are pauses, which double.
func (c *client) warm(ctx context.Context, resources func() int, busy func() bool) error {
	ctx, e := newErrand(ctx)
	opening := int(c.opening.Add(1)) // first: a resource leaves this count when its socket is among those below
	defer c.opening.Add(-1)
	most := resources()
	open, _ := c.meter.sockets() // of which those to other servers are found out by the first ping
	wanted := min(most, open+opening)
	for k, pause := 1, time.Duration(0); ; pause = max(2*pause, time.Millisecond) {
		if err := c.pings(ctx, k); err != nil {
			if unsent(err) == waitQueue && ctx.Err() == nil && c.meter.answers.Load() == 0 {
				continue // the driver waits no longer than ServerSelectionTimeout, but goes on with the first socket
			}
			return err
		}
		if c.meter.socketsTo(e) >= wanted || busy() {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if c.meter.socketsTo(e) >= wanted {
			return nil
		}
		_, idle := c.meter.sockets()
		k = 1 + idle
	}
}

// pings sends k pings at once. ctx belongs to an errand.
func (c *client) pings(ctx context.Context, k int) error {
	return c.prove(ctx, func(ctx context.Context, reads *readpref.ReadPref) error {
		return c.pingsTo(ctx, reads, k)
	})
}

func (c *client) pingsTo(ctx context.Context, reads *readpref.ReadPref, k int) error {
	if k == 1 {
		return c.mc.Ping(ctx, reads)
	}
	errs := make([]error, k)
	var wg sync.WaitGroup
	for i := range k {
		wg.Go(func() { errs[i] = c.mc.Ping(ctx, reads) })
	}
	wg.Wait()
	return mostTelling(errs)
}

// mostTelling returns one of several errors that came about at the same time: rather than that the driver gave up its sockets, the
// reason for it.
func mostTelling(errs []error) (err error) {
	for _, e := range errs {
		if e != nil && (err == nil || unsent(err) == poolCleared) {
			err = e
		}
	}
	return err
}

// whileUp runs f and ends it as soon as every server has failed a check since it began or, for a new client, since that was made. The
// driver would let it wait for one to come back; whoever opens or checks resources has a back-off for that, and others to tell.
func (c *client) whileUp(ctx context.Context, isNew bool, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := c.meter.watch(isNew, func(err error) { cancel(&downError{err}) })
	defer stop()
	defer c.meter.awaitAnswer(c.patience)()
	err := f(ctx)
	if reason := c.meter.whyCleared(); reason != nil && unsent(err) == poolCleared {
		return reason // err says only that there is one
	}
	if down := (*downError)(nil); err != nil && errors.As(context.Cause(ctx), &down) {
		return down // f's error says only that it was cancelled
	}
	return err
}

// downError is what the last server to fail its check has failed with.
type downError struct{ cause error }

func (e *downError) Error() string { return "no server answers: " + e.cause.Error() }
func (e *downError) Unwrap() error { return e.cause }

// run runs a command of the pool's own against the database admin, on a server as ping asks for.
func (c *client) run(ctx context.Context, command string, reply any) error {
	ctx, _ = newErrand(ctx)
	return c.prove(ctx, func(ctx context.Context, reads *readpref.ReadPref) error {
		opts := options.RunCmd()
		if reads != nil {
			opts.SetReadPreference(reads)
		}
		return c.mc.Database("admin").RunCommand(ctx, bson.D{{Key: command, Value: 1}}, opts).Decode(reply)
	})
}

// disconnect closes all sockets and ends the driver's goroutines. Given a deadline, the driver would wait for busy sockets in a loop that
// does not rest; there are none, so it gets a context without one, which is cancelled when ctx is over, or at once when no server is
// there to be told that its sessions have ended. Even then the driver waits for a monitor that has begun a connection, until ConnectTimeout;
// disconnect does not.
func (c *client) disconnect(ctx context.Context) error {
	undated, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	if up, _ := c.meter.serversUp(); up == 0 {
		cancel()
	}
	undated, _ = newErrand(undated)
	ended := make(chan error, 1)
	go func() {
		err := c.mc.Disconnect(undated)
		c.meter.events.stop()
		ended <- err
	}()
	var err error
	select {
	case err = <-ended:
	case <-undated.Done():
		select {
		case err = <-ended:
		case <-time.After(parting):
		}
	}
	if err != nil && !errors.Is(err, mongo.ErrClientDisconnected) { // a borrower may have done it
		return fmt.Errorf("mongopool: disconnect: %w", err)
	}
	return nil
}

// parting is how long disconnect waits for the driver after the cancel. All but a monitor's new connection ends in less.
const parting = 100 * time.Millisecond

// monitor puts the pool's monitors beside those that co has already.
func monitor(co *options.ClientOptions, m *meter, c *commands, followed *cursors, observed bool) {
	co.SetPoolMonitor(bothPools(&event.PoolMonitor{Event: m.poolEvent}, co.PoolMonitor))
	co.SetServerMonitor(bothServers(m, co.ServerMonitor))
	succeeded := func(ctx context.Context, e *event.CommandSucceededEvent) {
		m.answered()
		c.succeeded(ctx, e)
	}
	own := &event.CommandMonitor{Succeeded: succeeded, Failed: c.failed}
	if observed { // for Started the driver makes a copy of every command
		own.Started = c.started
	}
	if followed != nil {
		own = bothCommands(own, followed.monitor())
	}
	co.SetMonitor(bothCommands(own, co.Monitor))
}

func bothPools(a, b *event.PoolMonitor) *event.PoolMonitor {
	if b == nil || b.Event == nil {
		return a
	}
	return &event.PoolMonitor{Event: both(a.Event, b.Event)}
}

func bothServers(m *meter, user *event.ServerMonitor) *event.ServerMonitor {
	var composed event.ServerMonitor
	if user != nil {
		composed = *user
	}
	composed.ServerOpening = both(m.serverAdded, composed.ServerOpening)
	composed.ServerClosed = both(m.serverGone, composed.ServerClosed)
	composed.ServerDescriptionChanged = both(m.serverChanged, composed.ServerDescriptionChanged)
	composed.ServerHeartbeatSucceeded = both(m.heartbeatSucceeded, composed.ServerHeartbeatSucceeded)
	composed.ServerHeartbeatFailed = both(m.heartbeatFailed, composed.ServerHeartbeatFailed)
	return &composed
}

func bothCommands(a, b *event.CommandMonitor) *event.CommandMonitor {
	if b == nil {
		return a
	}
	return &event.CommandMonitor{
		Started:   bothCtx(a.Started, b.Started),
		Succeeded: bothCtx(a.Succeeded, b.Succeeded),
		Failed:    bothCtx(a.Failed, b.Failed),
	}
}

func both[E any](a, b func(*E)) func(*E) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(e *E) { a(e); b(e) }
}

func bothCtx[E any](a, b func(context.Context, *E)) func(context.Context, *E) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(ctx context.Context, e *E) { a(ctx, e); b(ctx, e) }
}
