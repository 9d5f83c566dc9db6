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

// Options are what Start can be told besides the server. The zero Options work.
type Options struct {
	// Announce is called with the address of each member and returns the address by which clients are to reach the member: that of a proxy
	// before it. Nil means the member's own address.
	Announce func(member string) (address string, err error)
}

// A Set is a replica set of three members. Whoever made it with Start must call Close. Its methods may be called concurrently.
type Set struct {
	server string
	client *mongo.Client // of the server, for what belongs to no connection
	copies string        // the database with the copies of collections that transactions have changed

	ctx   context.Context // over with the Set
	close context.CancelFunc
	wg    sync.WaitGroup

	commits sync.RWMutex // a commit holds it for writing, any other command that the server carries out for reading

	mu       sync.Mutex
	changed  chan struct{} // closed, and replaced by another one, when a member has something new to say in hello
	members  [size]*member
	primary  int // none while there is none
	latest   int // the latest primary
	election uint64
	clock    bson.Timestamp // of the latest write
	sessions map[string]*session
	open     map[*transaction]bool   // those in progress
	locks    map[string]*transaction // by the namespace that a transaction has changed
	named    int                     // how many copies have got a name
}

// A member is one server of a set, as clients see it.
type member struct {
	set   *Set
	index int

	address string // that clients are told

	// Under the set's lock.
	listener  net.Listener
	stop      context.CancelFunc // ends it as a crash would
	alive     bool
	process   bson.ObjectID
	version   int64
	failPoint *failPoint
}

// Start makes a set of three members before the MongoDB server at uri, which must name one server without TLS and without credentials. The first
// member is the primary.
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
	for _, m := range s.members { // each knows the addresses of all
		m.serve()
	}
	return s, nil
}

// Close ends all members, and returns when nothing of the set is left.
func (s *Set) Close() error {
	s.close()
	s.mu.Lock()
	for _, m := range s.members {
		if m != nil && m.listener != nil { // else Start has failed before
			_ = m.listener.Close()
		}
	}
	s.mu.Unlock()
	s.wg.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var err error
	if s.named > 0 { // else the server need not even run
		err = s.client.Database(s.copies).Drop(ctx)
	}
	return errors.Join(err, s.client.Disconnect(ctx))
}

// URI names all members.
func (s *Set) URI() string {
	return "mongodb://" + strings.Join(s.Members(), ",") + "/?replicaSet=" + setName
}

// Members returns the addresses of all members, as clients are told.
func (s *Set) Members() []string {
	var all []string
	for _, m := range s.members {
		all = append(all, m.address)
	}
	return all
}

// Primary returns the address of the primary, "" while there is none.
func (s *Set) Primary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary == none {
		return ""
	}
	return s.members[s.primary].address
}

// StepDown makes the primary a secondary: there is no primary until Elect is called. Its open transactions are aborted.
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

// Elect makes a living member the primary, and not the one that was it latest if there is another. It needs a majority of living members.
func (s *Set) Elect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, living := none, 0
	for i := range size {
		if m := s.members[(s.latest+size-i)%size]; m.alive { // the latest is the last choice
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

// KillPrimary ends the primary as a crash would: clients lose their connections, with the replies that are to come, and new ones are refused.
// There is no primary until Elect is called.
func (s *Set) KillPrimary() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.primary == none {
		return errors.New("replicaset: there is no primary")
	}
	m := s.members[s.primary]
	m.alive = false
	m.stop()
	_ = m.listener.Close() // at once, so that Revive can listen again
	s.stepDown()
	return nil
}

// Revive starts again, as secondaries, the members that were killed.
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

// tellChange is called under the lock. It ends the wait of clients that await the next hello.
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

// listening is the member's own address.
func (m *member) listening() string { return m.listener.Addr().String() }

// serve has the member accept connections at its listener, as a new process. It is called under the lock.
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

// closeAfter closes c when ctx is over, or the returned function is called.
func closeAfter(ctx context.Context, c io.Closer) func() {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	return func() {
		stop()
		_ = c.Close()
	}
}
