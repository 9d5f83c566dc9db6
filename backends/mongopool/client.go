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

// client is the mongo.Client that the leases share. The client lives as long as resources are bound
// to the client.
type client struct {
	mc    *mongo.Client
	db    *mongo.Database
	reads *readpref.ReadPref // nil means primary
	size  int                // maxPoolSize: the most resources of the client; 0: no bound
	meter *meter
	refs  int // resources bound to it; guarded by Driver.mu

	// wantsPrimary means that the read preference is primary, and that the client may look for a
	// primary.
	wantsPrimary bool
	loadBalanced bool
	cursors      *cursors // nil if nobody tracks cursors

	opening atomic.Int64 // resources that are being opened

	// useless means that the next resource needs another client. The client was disconnected, its
	// credentials are refused, its measured round trips are outdated, or a cursor left open holds a
	// socket.
	useless atomic.Bool
	// patience is the time without an answer after which the client is silent. A slow server has more
	// time: see meter.awaitAnswer.
	patience time.Duration
}

// prove runs f, which sends a command of the pool's own, with the client's read preference. If the
// preference is primary, and the set shows no primary for half of the patience, prove runs f with
// primaryPreferred. The pool's commands prove that the client has a server, and the secondaries of
// a set without a primary serve reads. If the pool's commands waited for a primary, every use would
// wait for the opening or the check of its resource. A use that needs the primary finds out by
// itself.
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

// settling returns how long a set must have shown secondaries and no primary before prove uses a
// secondary. A new client hears of the members one after another, and should open its sockets to
// the primary.
func (c *client) settling() time.Duration { return c.patience / 2 }

// awaitSettled calls giveUp when the set has shown no primary for the settling time. awaitSettled
// returns after this call, when a primary is known, or when ctx is over.
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

// isDirect reports whether the client talks to a single server in any role: to a member of a set,
// or to a load balancer.
func isDirect(co *options.ClientOptions) bool {
	return co.Direct != nil && *co.Direct || co.LoadBalanced != nil && *co.LoadBalanced
}

// wantsPrimary reports whether reads is primary. nil means primary.
func wantsPrimary(reads *readpref.ReadPref) bool {
	return reads == nil || reads.Mode() == readpref.PrimaryMode
}

// usable reports whether another resource may use the client. The client has a free socket for the
// resource, and its sockets are not silent. After a network has dropped all packets, sockets may
// stay silent for ever. The driver closes its own monitoring sockets only after ConnectTimeout. A
// new client finds out at once whether the server answers. The caller holds Driver.mu.
func (c *client) usable() bool {
	return (c.size == 0 || c.refs < c.size) && !c.meter.silent.Load() && !c.useless.Load()
}

// ping checks that a server answers and satisfies the read preference. In a set without a primary
// any server is enough: see prove. ping hides the deadline of ctx from the driver. With less time
// than the server lately needed, the driver would send nothing. The driver would go on like this
// for up to ten seconds after a slow server has become fast again.
func (c *client) ping(ctx context.Context) error {
	undated, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	undated, _ = newErrand(undated)
	err := c.prove(undated, c.mc.Ping)
	if err != nil && ctx.Err() != nil { // err only reports the cancellation
		return fmt.Errorf("mongopool: ping: %w", context.Cause(ctx))
	}
	return err
}

// warm pings a server, and opens a socket for a resource that is being opened. The goal is a new
// socket for each resource that is being opened at the same time, but never more sockets than
// resources. So after a loss of all sockets a single resource does not open all sockets again.
//
// The first ping takes an idle socket. Without an idle socket the driver opens a socket. The driver
// opens a socket only for a command that finds no idle socket. So if a socket is still missing,
// warm sends a ping for each idle socket and another ping, all at the same time.
//
// These pings hold sockets that borrowers could use. So warm sends no such pings while borrowers
// are waiting, as reported by busy. A borrower's command opens the missing socket then. A ping that
// waits for a new socket may get an idle socket first. So warm pings again, after pauses that
// double.
func (c *client) warm(ctx context.Context, resources func() int, busy func() bool) error {
	ctx, e := newErrand(ctx)
	// Count first: a resource leaves this count only after its socket is among the sockets below.
	opening := int(c.opening.Add(1))
	defer c.opening.Add(-1)
	most := resources()
	// open includes sockets to other servers. After the first ping socketsTo excludes such sockets.
	open, _ := c.meter.sockets()
	wanted := min(most, open+opening)
	for k, pause := 1, time.Duration(0); ; pause = max(2*pause, time.Millisecond) {
		if err := c.pings(ctx, k); err != nil {
			if unsent(err) == waitQueue && ctx.Err() == nil && c.meter.answers.Load() == 0 {
				// The driver's wait ends after ServerSelectionTimeout, but the driver goes on with the first
				// socket.
				continue
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

// pings sends k pings at the same time. ctx belongs to an errand.
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

// mostTelling returns the most useful of several errors from the same time. The reason why the
// driver closed its sockets is more useful than the error "pool cleared".
func mostTelling(errs []error) (err error) {
	for _, e := range errs {
		if e != nil && (err == nil || unsent(err) == poolCleared) {
			err = e
		}
	}
	return err
}

// whileUp runs f, and cancels f as soon as every server has failed a check. Only checks since the
// start of whileUp count; for a new client all checks of the client count. The driver would let f
// wait for a server to come back. The pool has a backoff for this wait, and reports the failure to
// its waiters.
func (c *client) whileUp(ctx context.Context, isNew bool, f func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := c.meter.watch(isNew, func(err error) { cancel(&downError{err}) })
	defer stop()
	defer c.meter.awaitAnswer(c.patience)()
	err := f(ctx)
	if reason := c.meter.whyCleared(); reason != nil && unsent(err) == poolCleared {
		return reason // err only reports that there is a reason
	}
	if down := (*downError)(nil); err != nil && errors.As(context.Cause(ctx), &down) {
		return down // f's error only reports the cancellation
	}
	return err
}

// downError reports that no server is up. cause is the failure of the latest check.
type downError struct{ cause error }

func (e *downError) Error() string { return "no server answers: " + e.cause.Error() }
func (e *downError) Unwrap() error { return e.cause }

// run runs a command of the pool's own in the database admin, on a server as for ping.
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

// disconnect closes all sockets and ends the driver's goroutines. With a deadline, the driver would
// wait for busy sockets in a loop without pauses. There are no busy sockets, so the driver gets a
// context without a deadline. The context is cancelled when ctx is over. If no server is up, and so
// no server can be told about ended sessions, the context is cancelled at once.
//
// Even then the driver waits up to ConnectTimeout for a connection that a monitor has begun.
// disconnect does not wait for such a connection.
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
	if err != nil && !errors.Is(err, mongo.ErrClientDisconnected) { // a borrower may have done so
		return fmt.Errorf("mongopool: disconnect: %w", err)
	}
	return nil
}

// parting is how long disconnect waits for the driver after the cancellation. Only a new connection
// of a monitor takes longer.
const parting = 100 * time.Millisecond

// monitor adds the pool's monitors to the monitors that co already has.
func monitor(co *options.ClientOptions, m *meter, c *commands, followed *cursors, observed bool) {
	co.SetPoolMonitor(bothPools(&event.PoolMonitor{Event: m.poolEvent}, co.PoolMonitor))
	co.SetServerMonitor(bothServers(m, co.ServerMonitor))
	succeeded := func(ctx context.Context, e *event.CommandSucceededEvent) {
		m.answered()
		c.succeeded(ctx, e)
	}
	own := &event.CommandMonitor{Succeeded: succeeded, Failed: c.failed}
	if observed { // for Started the driver copies every command
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
