package mongopool

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// Stats are the values of the driver's monitors: the sockets under the leases, and the commands in
// the uses. The fields from Clients to ServersDown are the present state. The other fields are
// counters since NewDriver. Stats reads the values in sequence, so the values may disagree
// slightly.
type Stats struct {
	// Clients is the number of shared clients: 0 while no resource is open, usually 1, and 2 while a
	// new client takes over.
	Clients int
	// Sockets is the number of open sockets for commands. The driver's 1 or 2 sockets for monitoring
	// each server are not counted.
	Sockets int
	// SocketsBusy is the number of sockets that a command uses, or that wait for a late reply nobody
	// wants.
	SocketsBusy int
	// ServersUp is the number of the current client's servers known to be up. ServersDown is the
	// number of its other servers.
	ServersUp   int
	ServersDown int

	// SocketsOpened and SocketsClosed count sockets for commands.
	SocketsOpened uint64
	SocketsClosed uint64
	// SocketWaits counts commands that got a socket, including the pool's own commands. SocketWait is
	// their total wait for a socket. The wait is near 0 unless a lease runs several commands at once.
	SocketWaits uint64
	SocketWait  time.Duration
	// NoSocket counts commands that got no socket.
	NoSocket uint64
	// Cleared counts how often the driver closed all sockets to a server after a socket had failed.
	Cleared uint64
	// ServerChanges counts how often a server changed its role, went down or came back.
	ServerChanges uint64
	// EventsDropped counts events that came faster than the layers received events.
	EventsDropped uint64

	// Commands counts the commands of borrowers, including the driver's own retries. Commands divided
	// by the Acquires of pool.Stat is the number of commands for each use (amplification). A command
	// that was too late to be sent counts as well. The driver's and the pool's own commands (hello,
	// ping) do not count. CommandsFailed counts the failures among Commands.
	Commands       uint64
	CommandsFailed uint64

	// CursorsLeft counts the cursors that uses have left open: neither closed nor read to the end. The
	// driver tracks cursors if Config.LeakAfter of the pool is set, or if the URI contains
	// loadBalanced=true.
	CursorsLeft uint64
}

// Kinds of [pool.Event] about the sockets under the leases. Pools made by [New] and
// [Driver.NewPool] report such events to the layers that are observers, with context.Background().
const (
	// EventSocketOpened reports an opened socket. Duration is the time for the opening.
	EventSocketOpened pool.EventKind = "socket_opened"
	// EventSocketClosed reports a closed socket. Reason is the driver's reason, such as "idle",
	// "stale", "error" or "poolClosed". Err is the driver's error, or nil.
	EventSocketClosed pool.EventKind = "socket_closed"
	// EventSocketsCleared reports that the driver has closed all sockets to a server. Reason is the
	// address of the server, and Err is the cause.
	EventSocketsCleared pool.EventKind = "sockets_cleared"
	// EventServerChanged reports a change of a server. Reason is the address of the server. From and
	// To are the driver's kinds, such as "Unknown", "Standalone" or "RSPrimary".
	EventServerChanged pool.EventKind = "server_changed"
)

// Describe implements [pool.Describer].
func (d *Driver) Describe() pool.LayerInfo {
	events := []pool.Event{{Kind: EventSocketOpened}}
	for _, reason := range []string{
		event.ReasonIdle, event.ReasonPoolClosed, event.ReasonStale, event.ReasonConnectionErrored, event.ReasonTimedOut, event.ReasonError,
	} {
		events = append(events, pool.Event{Kind: EventSocketClosed, Reason: reason})
	}
	return pool.LayerInfo{Layer: layerName, Events: events}
}

// totals are the counters of a Driver, for all its clients together.
type totals struct {
	opened, closed, waits, noSocket, cleared, changes, dropped, commands, failed, cursorsLeft atomic.Uint64

	wait   atomic.Int64 // total, in nanoseconds
	pace   atomic.Int64 // latest handshake, heartbeat or command of the pool, in nanoseconds
	tipped atomic.Int64 // time of the latest warning about cursors, in Unix nanoseconds
}

// meter tracks the servers, the sockets and the answers of a client.
type meter struct {
	totals *totals
	events *courier // nil without observers
	busy   atomic.Int64

	answers atomic.Uint64 // commands that have succeeded
	// silent means that an opening or a check has waited too long, without any answer since the start.
	silent atomic.Bool

	mu       sync.Mutex
	ready    map[socket]struct{} // open sockets
	cleared  error               // why the driver closed its sockets; nil once a socket is open again
	servers  map[string]string   // address -> kind
	failed   map[string]bool     // addresses whose latest check has failed
	without  time.Time           // start of the time with secondaries and no primary, or zero
	changed  chan struct{}       // closed at the next change of servers
	failures int                 // number of failed checks of servers
	latest   error               // error of the latest failed check
	watchers map[*watcher]struct{}
}

// socket identifies a socket of a client.
type socket struct {
	address string
	id      int64
}

func newMeter(t *totals, events *courier) *meter {
	return &meter{
		totals: t, events: events,
		ready: map[socket]struct{}{}, servers: map[string]string{}, failed: map[string]bool{}, watchers: map[*watcher]struct{}{},
		changed: make(chan struct{}),
	}
}

// primary reports whether a server is known that serves the reads of a primary. without is the time
// since secondaries are known without a primary; 0 means that this is not so. changed is closed
// when a server changes.
func (m *meter) primary() (known bool, without time.Duration, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range m.servers {
		known = known || kind == "RSPrimary" || kind == "Standalone" || kind == "Mongos" || kind == "LoadBalancer"
	}
	if !m.without.IsZero() {
		without = max(time.Since(m.without), 1)
	}
	return known, without, m.changed
}

// notePrimary updates m.without after a change of the servers. The caller holds m.mu.
func (m *meter) notePrimary() {
	secondary, primary := false, false
	for _, kind := range m.servers {
		secondary = secondary || kind == "RSSecondary"
		primary = primary || kind == "RSPrimary"
	}
	switch {
	case primary || !secondary:
		m.without = time.Time{}
	case m.without.IsZero():
		m.without = time.Now()
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// sockets returns the number of open sockets, and the number of idle sockets among the open
// sockets.
func (m *meter) sockets() (open, idle int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	open = len(m.ready)
	return open, max(open-int(m.busy.Load()), 0)
}

// socketsTo returns the number of open sockets to the servers of an errand.
func (m *meter) socketsTo(e *errand) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.ready {
		if e.went(s.address) {
			n++
		}
	}
	return n
}

// whyCleared returns why the driver has closed its sockets to a server. It returns nil if the
// driver has not done this, or has opened a socket since.
func (m *meter) whyCleared() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cleared
}

// knows reports whether the client has a server at the address.
func (m *meter) knows(address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.servers[address]
	return ok
}

// serversUp returns the number of servers known to be up, and the number of other servers.
func (m *meter) serversUp() (up, down int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, kind := range m.servers {
		if kind == unknownServer {
			down++
		} else {
			up++
		}
	}
	return up, down
}

// unknownServer is the driver's kind of a server without an answer so far, or without an answer to
// the latest check.
const unknownServer = "Unknown"

// poolEvent handles the events of the driver's socket pool.
func (m *meter) poolEvent(e *event.PoolEvent) {
	t := m.totals
	s := socket{e.Address, e.ConnectionID}
	switch e.Type {
	case event.ConnectionCheckedOut:
		m.busy.Add(1)
		t.waits.Add(1)
		t.wait.Add(int64(e.Duration))
	case event.ConnectionCheckedIn:
		m.busy.Add(-1)
	case event.ConnectionCheckOutFailed:
		t.noSocket.Add(1)
	case event.ConnectionReady:
		m.mu.Lock()
		m.ready[s] = struct{}{}
		m.cleared = nil
		m.mu.Unlock()
		t.opened.Add(1)
		t.pace.Store(int64(e.Duration))
		m.events.send(pool.Event{Kind: EventSocketOpened, Duration: e.Duration})
	case event.ConnectionClosed:
		m.mu.Lock()
		_, known := m.ready[s]
		delete(m.ready, s)
		m.mu.Unlock()
		if known { // else the socket was never ready
			t.closed.Add(1)
			m.events.send(pool.Event{Kind: EventSocketClosed, Reason: e.Reason, Err: e.Error})
		}
	case event.ConnectionPoolCleared:
		m.mu.Lock()
		m.cleared = e.Error
		m.mu.Unlock()
		t.cleared.Add(1)
		m.events.send(pool.Event{Kind: EventSocketsCleared, Reason: e.Address, Err: e.Error})
	}
}

// answered records an answer.
func (m *meter) answered() {
	m.answers.Add(1)
	if m.silent.Load() { // read first: a write for each command would cost more
		m.silent.Store(false)
	}
}

// awaitAnswer marks the client as silent after the patience, unless a command is answered or stop
// is called before. If twice the latest round trip is longer than the patience, awaitAnswer waits
// for this longer time. A server that is slow for all clients is as slow for a new client, and a
// new client costs the server three connections.
func (m *meter) awaitAnswer(patience time.Duration) (stop func() bool) {
	before := m.answers.Load()
	patience = max(patience, 2*time.Duration(m.totals.pace.Load()))
	return time.AfterFunc(patience, func() { m.silent.Store(m.answers.Load() == before) }).Stop
}

// The functions up to heartbeatFailed are a ServerMonitor. The driver calls the functions while the
// driver holds its own locks.

func (m *meter) serverAdded(e *event.ServerOpeningEvent) {
	m.mu.Lock()
	m.servers[e.Address.String()] = unknownServer
	m.mu.Unlock()
}

func (m *meter) serverGone(e *event.ServerClosedEvent) {
	m.mu.Lock()
	delete(m.servers, e.Address.String())
	delete(m.failed, e.Address.String())
	m.notePrimary()
	m.mu.Unlock()
}

func (m *meter) serverChanged(e *event.ServerDescriptionChangedEvent) {
	from, to := e.PreviousDescription.Kind, e.NewDescription.Kind
	m.mu.Lock()
	m.servers[e.Address.String()] = to
	// The driver reports the first failure of a server as a change to Unknown, with an error. The
	// event does not contain the error.
	m.failed[e.Address.String()] = to == unknownServer
	m.notePrimary()
	m.tellWatchers()
	m.mu.Unlock()
	if from != to {
		m.totals.changes.Add(1)
		m.events.send(pool.Event{Kind: EventServerChanged, Reason: e.Address.String(), From: from, To: to})
	}
}

func (m *meter) heartbeatSucceeded(e *event.ServerHeartbeatSucceededEvent) {
	if !e.Awaited { // else the server was asked to wait
		m.totals.pace.Store(int64(e.Duration))
	}
}

func (m *meter) heartbeatFailed(e *event.ServerHeartbeatFailedEvent) {
	if errors.Is(e.Failure, context.Canceled) {
		return // by the driver itself, before another check at once
	}
	m.mu.Lock()
	m.failures++
	m.latest = e.Failure
	m.tellWatchers()
	m.mu.Unlock()
}

// watcher is a callback for the moment when no server is up.
type watcher struct {
	since int // failed checks before the start of the watcher
	tell  func(error)
}

// watch calls tell with the latest failure once no server is up. Three conditions must hold: no
// server is known to be up, the latest check of each server has failed, and at least as many checks
// have failed as there are servers. Checks count from now on; with fromStart, since the client was
// made. tell must not block. The driver's event for a failed connection does not name the server,
// so watch can only count the failures.
func (m *meter) watch(fromStart bool, tell func(error)) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := &watcher{tell: tell}
	if !fromStart {
		w.since = m.failures
	}
	m.watchers[w] = struct{}{}
	m.tellWatchers()
	return func() {
		m.mu.Lock()
		delete(m.watchers, w)
		m.mu.Unlock()
	}
}

// tellWatchers calls the watchers if no server is up. The caller holds m.mu.
func (m *meter) tellWatchers() {
	for address, kind := range m.servers {
		if kind != unknownServer || !m.failed[address] {
			return
		}
	}
	for w := range m.watchers {
		if n := m.failures - w.since; n > 0 && n >= len(m.servers) {
			w.tell(m.latest)
		}
	}
}

// courier passes events to the observers in its own goroutine, because the driver reports events
// while the driver holds locks. Events beyond courierCapacity are dropped: the driver never waits
// for an observer.
type courier struct {
	emit  func(pool.Event)
	drops *atomic.Uint64
	facts chan pool.Event
	quit  chan struct{}
	done  chan struct{}
}

// courierCapacity is the length of the queue: a few events for each socket of a pool, when the
// driver closes all sockets at the same time.
const courierCapacity = 256

func newCourier(emit func(pool.Event), drops *atomic.Uint64) *courier {
	c := &courier{
		emit: emit, drops: drops, facts: make(chan pool.Event, courierCapacity), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go c.run()
	return c
}

func (c *courier) run() {
	defer close(c.done)
	for {
		select {
		case e := <-c.facts:
			c.emit(e)
		case <-c.quit:
			for len(c.facts) > 0 {
				c.emit(<-c.facts)
			}
			return
		}
	}
}

func (c *courier) send(e pool.Event) {
	if c == nil {
		return
	}
	e.Layer = layerName
	select {
	case c.facts <- e:
	default:
		c.drops.Add(1)
	}
}

// stop delivers the queued events. Events sent after stop are lost.
func (c *courier) stop() {
	if c != nil {
		close(c.quit)
		<-c.done
	}
}

// commands passes the commands of uses to the layers that observe commands, and to the evidence.
// The driver gives the same context to all events of a command. So the context derived by the
// layers is kept under the RequestID of the command, which is unique in the process.
type commands struct {
	database string
	totals   *totals
	orphans  atomic.Uint64 // commands outside of every use's context
	strays   atomic.Uint64 // orphans that have changed something, or may have
	open     sync.Map      // RequestID (int64) -> *openCommand
}

type openCommand struct {
	ctx context.Context
	cmd driver.Command
}

// errandKey marks the contexts of the pool's own commands. The value is an *errand.
type errandKey struct{}

// errand records the servers that the pool's own commands went to.
type errand struct {
	mu      sync.Mutex
	servers map[string]bool
}

func newErrand(ctx context.Context) (context.Context, *errand) {
	e := &errand{servers: map[string]bool{}}
	return context.WithValue(ctx, errandKey{}, e), e
}

func (e *errand) note(connection string) {
	e.mu.Lock()
	e.servers[serverOf(connection)] = true
	e.mu.Unlock()
}

// serverOf returns the address of the server of a connection. The driver appends a number in
// brackets to the address.
func serverOf(connection string) string {
	address, _, _ := strings.Cut(connection, "[-")
	return address
}

func (e *errand) went(address string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.servers[address]
}

func (c *commands) started(ctx context.Context, e *event.CommandStartedEvent) {
	if !driver.Observing(ctx) {
		return
	}
	cmd := describe(e.CommandName, e.Command)
	cmd.Server = serverOf(e.ConnectionID)
	if driver.ObservingText(ctx) {
		cmd.Text = text(e.CommandName, cmd.Target, e.Command)
	}
	if e.DatabaseName != c.database {
		cmd.Namespace = e.DatabaseName
	}
	c.open.Store(e.RequestID, &openCommand{driver.BeginCommand(ctx, cmd), cmd})
}

func (c *commands) succeeded(ctx context.Context, e *event.CommandSucceededEvent) {
	c.ended(ctx, e.CommandFinishedEvent, nil, e.Reply)
}

func (c *commands) failed(ctx context.Context, e *event.CommandFailedEvent) {
	c.ended(ctx, e.CommandFinishedEvent, e.Failure, nil)
}

func (c *commands) ended(ctx context.Context, e event.CommandFinishedEvent, err error, reply bson.Raw) {
	if own, ok := ctx.Value(errandKey{}).(*errand); ok {
		own.note(e.ConnectionID)
		if err == nil {
			c.totals.pace.Store(int64(e.Duration))
		}
		return
	}
	c.totals.commands.Add(1)
	c.note(ctx, e.CommandName, err, reply)
	if err != nil {
		c.totals.failed.Add(1)
	}
	if open, ok := c.open.LoadAndDelete(e.RequestID); ok {
		open := open.(*openCommand) //nolint:forcetypeassert // nothing else is stored
		if err == nil {
			err = refusedWrites(reply)
		}
		driver.EndCommand(open.ctx, open.cmd, err)
	}
}

// refusedWrites returns the failed or unconfirmed writes in the reply to a command that succeeded
// as a whole. The error contains only the codes.
func refusedWrites(reply bson.Raw) error {
	var e mongo.WriteException
	list, _ := bsoncore.Document(reply).Lookup("writeErrors").ArrayOK()
	elements(bsoncore.Document(list), func(_ string, one bsoncore.Value) bool {
		doc, _ := one.DocumentOK()
		code, _ := doc.Lookup("code").AsInt64OK()
		e.WriteErrors = append(e.WriteErrors, mongo.WriteError{Code: int(code)})
		return true
	})
	if doc, ok := bsoncore.Document(reply).Lookup("writeConcernError").DocumentOK(); ok {
		code, _ := doc.Lookup("code").AsInt64OK()
		e.WriteConcernError = &mongo.WriteConcernError{Code: int(code)}
	}
	if e.WriteErrors == nil && e.WriteConcernError == nil {
		return nil
	}
	return e
}
