package replicaset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	setName = "rs0"
	size    = 3
	none    = -1 // in place of a member's index
)

// Options configures a Set. The zero value works.
type Options struct {
	// Announce maps a member's address to the address for clients, such as the address of a proxy in
	// front of the member. Start calls Announce once for each member. Nil means the member's own
	// address.
	Announce func(member string) (address string, err error)
}

// A Set is a replica set of three members. The caller of Start must call Close. The methods may be
// called concurrently.
type Set struct {
	server string
	client *mongo.Client // of the server, for work outside any client's connection
	copies string        // database with the copies of collections in transactions

	ctx   context.Context // ends with the Set
	close context.CancelFunc
	wg    sync.WaitGroup

	// commits is locked for writing by a commit, and for reading by every other command to the server.
	commits sync.RWMutex

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when the answer to hello changes
	members  [size]*member
	primary  int // index, or the constant none
	latest   int // the latest primary
	election uint64
	clock    bson.Timestamp // of the latest write
	sessions map[string]*session
	open     map[*transaction]bool   // transactions in progress
	locks    map[string]*transaction // by the namespace changed by the transaction
	named    int                     // number of named copies
}

// A member is a member of the set, which clients see as a server.
type member struct {
	set   *Set
	index int

	address string // the address for clients

	// The following fields are guarded by the set's lock.
	listener  net.Listener
	stop      context.CancelFunc // ends the member like a crash
	alive     bool
	process   bson.ObjectID
	version   int64
	failPoint *failPoint
}

// Start creates a replica set of three members in front of the MongoDB server at uri. The URI must
// have a single host, without a replica set, TLS and credentials. The first member is the primary.
// The caller must call Close.
func Start(uri string, opts Options) (_ *Set, err error) {
	co := options.Client().ApplyURI(uri)
	switch err := co.Validate(); {
	case err != nil:
		return nil, fmt.Errorf("replicaset: %w", err)
	case len(co.Hosts) != 1 || co.TLSConfig != nil || co.Auth != nil || co.ReplicaSet != nil:
		return nil, errors.New("replicaset: the URI must name one server, without replica set, TLS and credentials")
	}
	client, err := mongo.Connect(co)
	if err != nil {
		return nil, fmt.Errorf("replicaset: %w", err)
	}
	s := &Set{
		server: co.Hosts[0], client: client, copies: "uncommitted_" + bson.NewObjectID().Hex(), changed: make(chan struct{}),
		election: 1, sessions: map[string]*session{}, open: map[*transaction]bool{}, locks: map[string]*transaction{},
	}
	s.ctx, s.close = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("replicaset: %w", err), s.Close())
		}
	}()
	for i := range s.members {
		m := &member{set: s, index: i}
		s.members[i] = m
		if err := m.listen("127.0.0.1:0"); err != nil {
			return nil, err
		}
		if m.address = m.listening(); opts.Announce != nil {
			if m.address, err = opts.Announce(m.address); err != nil {
				return nil, err
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick()
	for _, m := range s.members { // only now, because serving needs all addresses
		m.serve()
	}
	return s, nil
}

// Close ends all members, and returns when no goroutine and no connection of the set is left. It
// drops the database with the copies.
func (s *Set) Close() error {
	s.close()
	s.mu.Lock()
	for _, m := range s.members {
		if m != nil && m.listener != nil { // nil after a failed Start
			_ = m.listener.Close()
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	if s.named > 0 { // without copies, Close works even if the server is down
		err = s.client.Database(s.copies).Drop(ctx)
	}
	return errors.Join(err, s.client.Disconnect(ctx))
}

// URI returns a URI with the addresses of all members.
func (s *Set) URI() string {
	return "mongodb://" + strings.Join(s.Members(), ",") + "/?replicaSet=" + setName
}

// Members returns the addresses of all members for clients.
func (s *Set) Members() []string {
	var all []string
	for _, m := range s.members {
		all = append(all, m.address)
	}
	return all
}

// Primary returns the address of the primary, or "" without a primary.
func (s *Set) Primary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary == none {
		return ""
	}
	return s.members[s.primary].address
}

// StepDown makes the primary a secondary and aborts all open transactions. The set has no primary
// until Elect is called.
func (s *Set) StepDown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stepDown()
}

func (s *Set) stepDown() {
	s.primary = none
	for t := range s.open {
		s.end(t, aborted)
	}
	s.tellChange()
}

// Elect makes a living member the primary, if possible not the latest primary. It returns an error
// without a majority of living members.
func (s *Set) Elect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, living := none, 0
	for i := range size {
		if m := s.members[(s.latest+size-i)%size]; m.alive { // the latest primary is the last choice
			next, living = m.index, living+1
		}
	}
	if 2*living <= size {
		return fmt.Errorf("replicaset: %d of %d members are alive, which is no majority", living, size)
	}
	if s.primary != none {
		s.stepDown()
	}
	s.primary, s.latest = next, next
	s.election++
	s.tellChange()
	return nil
}

// KillPrimary ends the primary like a crash. Clients lose their connections and outstanding
// replies, and new connections are refused. The set has no primary until Elect is called.
// KillPrimary returns an error without a primary.
func (s *Set) KillPrimary() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary == none {
		return errors.New("replicaset: there is no primary")
	}
	m := s.members[s.primary]
	m.alive = false
	m.stop()
	_ = m.listener.Close() // at once, so Revive can listen again
	s.stepDown()
	return nil
}

// Revive restarts the killed members as secondaries.
func (s *Set) Revive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if m.alive {
			continue
		}
		if err := m.listen(m.listening()); err != nil {
			return fmt.Errorf("replicaset: %w", err)
		}
		m.serve()
	}
	return nil
}

// tellChange ends the wait of clients for the next hello. It must be called with the lock held.
func (s *Set) tellChange() {
	for _, m := range s.members {
		m.version++
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func (m *member) listen(address string) (err error) {
	m.listener, err = net.Listen("tcp", address)
	return err
}

// listening returns the member's own address.
func (m *member) listening() string { return m.listener.Addr().String() }

// serve accepts connections at the member's listener, like a new process. It must be called with
// the lock held.
func (m *member) serve() {
	l := m.listener
	ctx, stop := context.WithCancel(m.set.ctx)
	m.stop, m.alive, m.process, m.version, m.failPoint = stop, true, bson.NewObjectID(), 0, nil
	m.set.wg.Go(func() {
		defer closeAfter(ctx, l)()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.set.wg.Go(func() { (&conn{member: m, client: c}).serve(ctx) })
		}
	})
}

// closeAfter closes c when ctx ends or when the returned function is called.
func closeAfter(ctx context.Context, c io.Closer) func() {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	return func() {
		stop()
		_ = c.Close()
	}
}
