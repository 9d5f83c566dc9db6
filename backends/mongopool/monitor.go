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
)

// Stats is what the driver's monitors have seen: the sockets beneath the leases, and the commands within the uses. The levels are read
// one after the other, so they may disagree by what happened in between.
type Stats struct {
	// How things stand.
	Clients     int // shared clients: one, none while no resource is open, two while another takes over: a larger one, or one for a silent one
	Sockets     int // open for commands; the driver's own for monitoring, one or two a server, are not counted
	SocketsBusy int // of them in use by a command, or waiting for an answer that nobody wants any more
	ServersUp   int // servers that are known to be up
	ServersDown int // servers that are not

	// What has happened since NewDriver.
	SocketsOpened uint64
	SocketsClosed uint64
	SocketWaits   uint64        // commands that have been given a socket
	SocketWait    time.Duration // how long they waited for it, added up: near 0 unless a lease runs several commands at once
	NoSocket      uint64        // commands that got none
	Cleared       uint64        // times that the driver gave up all sockets to a server, because one of them had failed
	ServerChanges uint64        // times that a server changed its role, went down or came back
	EventsDropped uint64        // facts that came faster than the layers heard of them

	// Commands that were sent for borrowers, each try of the driver's own retries included: divided by pool.Stat's Acquires it is the
	// amplification. Commands that were too late to be sent count as well; the driver's and the pool's own (hello, ping) do not.
	Commands       uint64
	CommandsFailed uint64

	// CursorsLeft counts the cursors that uses have left open: neither closed nor read to their end. They are followed if Config.LeakAfter of the
	// pool is set, or if the URI says loadBalanced=true.
	CursorsLeft uint64
}

// Kinds of [pool.Event] that say what happens to the sockets beneath the leases. Pools made by [New] and [Driver.NewPool] report them
// to those of their layers that are observers, with context.Background().
const (
	EventSocketOpened   pool.Kind = "socket_opened"   // Duration is how long it took
	EventSocketClosed   pool.Kind = "socket_closed"   // Reason is the driver's: "idle", "stale", "error", "poolClosed", ...; Err
	EventSocketsCleared pool.Kind = "sockets_cleared" // all sockets to a server were given up: Reason is its address, Err the cause
	EventServerChanged  pool.Kind = "server_changed"  // Reason is its address, From and To what it is: "Unknown", "Standalone", "RSPrimary"
)

// totals are the counters of a Driver, over all its clients.
type totals struct {
	opened, closed, waits, noSocket, cleared, changes, dropped, commands, failed, cursorsLeft atomic.Uint64

	wait   atomic.Int64 // in nanoseconds
	pace   atomic.Int64 // of the latest greeting or ping, in nanoseconds
	tipped atomic.Int64 // when a warning about cursors was sent last, in Unix nanoseconds
}

// meter watches one client.
type meter struct {
	totals *totals
	events *courier // nil when nobody listens
	busy   atomic.Int64

	answers atomic.Uint64 // commands that have succeeded
	silent  atomic.Bool   // a ping has waited for long, and no command has been answered meanwhile or since

	mu       sync.Mutex
	ready    map[socket]struct{} // the sockets that have been opened and not been closed
	cleared  error               // why the driver has given up its sockets; nil once one is open again
	servers  map[string]string   // their kinds, by address
	failed   map[string]bool     // the addresses whose latest check has failed
	without  time.Time           // since when secondaries are known and no primary; zero: not so
	changed  chan struct{}       // closed at the next change of servers
	failures int                 // checks of servers that have failed
	latest   error               // of them
	watchers map[*watcher]struct{}
}

// socket identifies one among those of a client.
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

// primary says whether there is a server that takes the reads of a primary, and else for how long secondaries have been known without one; 0: none
// is known. changed is closed when a server changes.
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

// notePrimary looks at the kinds of the servers after a change. The caller holds the lock.
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

// sockets returns how many are open, and how many of them are idle.
func (m *meter) sockets() (open, idle int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	open = len(m.ready)
	return open, max(open-int(m.busy.Load()), 0)
}

// socketsTo returns how many are open to the servers of an errand.
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

// whyCleared returns why the driver has given up its sockets to a server; nil if it has not, or has opened one since.
func (m *meter) whyCleared() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cleared
}

// knows says whether the client has a server at the address.
func (m *meter) knows(address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.servers[address]
	return ok
}

// serversUp returns how many servers are known to be up, and how many are not.
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

// unknownServer is the driver's kind for a server that does not answer, or has not yet.
const unknownServer = "Unknown"

// poolEvent is a PoolMonitor.
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
		if known { // else it was never ready
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

// answered notes an answer.
func (m *meter) answered() {
	m.answers.Add(1)
	if m.silent.Load() { // read first, not to write each time
		m.silent.Store(false)
	}
}

// awaitAnswer calls the client silent if nothing has been answered when the patience is over, until stop or an answer. A server that lately
// took longer for a greeting or a ping gets twice that time: a server that is slow for all clients is as slow for a new one, and a new client
// costs the server three connections.
func (m *meter) awaitAnswer(patience time.Duration) (stop func() bool) {
	before := m.answers.Load()
	patience = max(patience, 2*time.Duration(m.totals.pace.Load()))
	return time.AfterFunc(patience, func() { m.silent.Store(m.answers.Load() == before) }).Stop
}

// The rest is a ServerMonitor. The driver calls it while it holds locks of its own.

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
	m.failed[e.Address.String()] = to == unknownServer // the driver tells of a first failure by its error, which the event leaves out
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
		return // by the driver itself, to check again at once
	}
	m.mu.Lock()
	m.failures++
	m.latest = e.Failure
	m.tellWatchers()
	m.mu.Unlock()
}

// watcher is somebody who wants to know when no server is there.
type watcher struct {
	since int // checks that had failed before it began
	tell  func(error)
}

// watch calls tell, which must not block, with the latest failure once no server is up, the latest check of each has failed, and as many checks
// have failed as there are servers: from now on, or since the client was made. The driver does not say which check of a server that it cannot
// connect to has failed once more, so they are only counted.
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

// tellWatchers is called under m.mu.
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

// courier takes facts to the observers in a goroutine of its own, as the driver reports them while it holds locks. What comes too fast
// is dropped: the driver never waits for an observer.
type courier struct {
	emit  func(pool.Event)
	drops *atomic.Uint64
	facts chan pool.Event
	quit  chan struct{}
	done  chan struct{}
}

// courierCapacity is how many facts may be under way: some for each socket of a pool that is cleared at once.
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

// stop delivers what is under way. What is sent after it is lost.
func (c *courier) stop() {
	if c != nil {
		close(c.quit)
		<-c.done
	}
}

// commands feeds the layers that observe commands. The driver gives the same context to all of a command's events, so the one that the
// layers derived is kept under the command's number, which is unique within the process.
type commands struct {
	database string
	totals   *totals
	orphans  atomic.Uint64 // commands in no use's context
	strays   atomic.Uint64 // those of them that have changed something, or may have
	open     sync.Map      // int64 -> *openCommand
}

type openCommand struct {
	ctx context.Context
	cmd pool.Command
}

// errandKey marks the contexts of commands that the pool sends for itself; its value is their *errand.
type errandKey struct{}

// errand notes which servers a command, or several, went to.
type errand struct {
	mu      sync.Mutex
	servers map[string]bool
}

func newErrand(ctx context.Context) (context.Context, *errand) {
	e := &errand{servers: map[string]bool{}}
	return context.WithValue(ctx, errandKey{}, e), e
}

func (e *errand) note(connection string) {
	address, _, _ := strings.Cut(connection, "[-") // the driver appends a number in brackets
	e.mu.Lock()
	e.servers[address] = true
	e.mu.Unlock()
}

func (e *errand) went(address string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.servers[address]
}

func (c *commands) started(ctx context.Context, e *event.CommandStartedEvent) {
	if !pool.Observing(ctx) {
		return
	}
	cmd := pool.Command{
		Name: e.CommandName, Target: target(e.CommandName, e.Command), Batch: batch(e.CommandName, e.Command),
	}
	if pool.ObservingText(ctx) {
		cmd.Text = text(e.CommandName, cmd.Target, e.Command)
	}
	if e.DatabaseName != c.database {
		cmd.Namespace = e.DatabaseName
	}
	c.open.Store(e.RequestID, &openCommand{pool.BeginCommand(ctx, cmd), cmd})
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
		pool.EndCommand(open.ctx, open.cmd, err)
	}
}

// refusedWrites returns what a reply says of writes that came to nothing or were not confirmed, although the command as a whole
// succeeded: the codes only.
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

// onCollections are the commands whose first value is the name of a collection. Other commands have user names and the like there.
var onCollections = map[string]bool{
	"find": true, "insert": true, "update": true, "delete": true, "findAndModify": true, "aggregate": true, "count": true,
	"distinct": true, "killCursors": true, "create": true, "drop": true, "collMod": true,
	"createIndexes": true, "dropIndexes": true, "listIndexes": true,
}

// target returns the collection that a command works on, "" when it is none.
func target(name string, command bson.Raw) string {
	key := name
	switch {
	case name == getMore:
		key = "collection"
	case !onCollections[name]:
		return ""
	}
	collection, _ := command.Lookup(key).StringValueOK() // aggregate has a number there when it works on a database
	return collection
}
