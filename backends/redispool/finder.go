package redispool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/earnorm/poolstack/pool"
)

const (
	// askTime bounds a query to a Sentinel, including the dial.
	askTime = 2 * time.Second
	// grace is the least time to wait for other Sentinels after the first answer. The wait lasts as
	// long as the first answer took, and at least for grace.
	grace = 100 * time.Millisecond
)

var (
	errNoSentinel    = errors.New("no Sentinel answers")
	errUnknownMaster = errors.New("the Sentinels do not know the master")
	errNoPrimary     = errors.New("the server that the Sentinels name is no primary")
)

// finder finds the server by queries to the Sentinels.
type finder struct {
	master     string
	replicas   bool
	configured []string
	dialer     *dialer
	login      login

	next  atomic.Uint64 // counts connections, to take the replicas in turn
	pools pool.Attached

	mu      sync.Mutex
	follow  *following           // nil while no pool is attached
	known   map[string]*sentinel // the known Sentinels by address
	present answer               // the answer in force
	conns   map[located]struct{} // the open connections to servers
	stopgap bool                 // no replica was up, so the primary is used
}

func newFinder(o Options) (*finder, error) {
	s := o.Sentinel
	f := &finder{
		master: s.MasterName, replicas: s.Replicas, configured: s.places(), login: fixed(s.Username, s.Password),
		known: map[string]*sentinel{}, conns: map[located]struct{}{},
	}
	var err error
	if f.dialer, err = newDialer(o, s.TLS); err != nil {
		return nil, fmt.Errorf("redispool: Sentinel: %w", err)
	}
	return f, nil
}

// String returns the name of the master, and "replicas" if the finder looks for replicas.
func (f *finder) String() string {
	if f.replicas {
		return f.master + " replicas"
	}
	return f.master
}

// answer is the answer of a Sentinel about the master.
type answer struct {
	primary  string   // the address of the primary
	epoch    uint64   // the configuration epoch: it grows with each failover
	replicas []string // the sorted addresses of the replicas that are up
	peers    []string // the addresses of the other Sentinels
}

// find queries all Sentinels and returns the address to connect to. find waits for all Sentinels
// that are not silent. After the first answer the wait is bounded (see grace). Without an answer
// find waits for the silent Sentinels as well.
func (f *finder) find(ctx context.Context) (string, error) {
	a, err := f.look(ctx)
	if err != nil {
		return "", err
	}
	if f.replicas && len(a.replicas) > 0 {
		return a.replicas[f.next.Add(1)%uint64(len(a.replicas))], nil
	}
	return a.primary, nil
}

// look queries the Sentinels and adopts an answer. If no Sentinel is reachable, the latest answer
// holds, because the primary may still be up.
func (f *finder) look(ctx context.Context) (answer, error) {
	answers, err := f.askAll(ctx)
	if err == nil {
		return f.adopt(answers), nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if errors.Is(err, errNoSentinel) && ctx.Err() == nil && f.present.primary != "" {
		return f.present, nil
	}
	return answer{}, err
}

// told is the result of a query to a Sentinel.
type told struct {
	answer

	by  *sentinel
	err error
}

func (f *finder) askAll(ctx context.Context) ([]answer, error) {
	asked := f.ask(ctx)
	if asked == nil {
		return nil, redis.ErrClosed
	}
	var (
		start   = time.Now()
		answers []answer
		errs    []error
		late    <-chan time.Time
	)
	for len(asked.waiting) > 0 || len(answers) == 0 && asked.open > 0 {
		select {
		case t := <-asked.told:
			asked.open--
			delete(asked.waiting, t.by)
			if t.err != nil {
				t.by.silent.Store(true)
				errs = append(errs, fmt.Errorf("Sentinel %s: %w", t.by.address, t.err))
				break
			}
			if answers = append(answers, t.answer); late == nil {
				late = time.After(max(grace, time.Since(start)))
			}
		case <-late:
			asked.giveUp()
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", errNoSentinel, errors.Join(append(errs, context.Cause(ctx))...))
		}
	}
	if len(answers) == 0 {
		return nil, failure(errs)
	}
	return answers, nil
}

// failure returns the error if no Sentinel has answered. A refusal by a Sentinel explains more than
// a failed connection, so a refusal comes first.
func failure(errs []error) error {
	for _, err := range errs {
		if isReplied(err) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", errNoSentinel, errors.Join(errs...))
}

// isReplied reports whether a Sentinel has refused to answer.
func isReplied(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok || errors.Is(err, errUnknownMaster)
}

// question is a query sent to several Sentinels.
type question struct {
	told    chan told
	open    int                    // the number of Sentinels without an answer
	waiting map[*sentinel]struct{} // the Sentinels to wait for
}

// giveUp ends the wait for the Sentinels without an answer. They are silent until they answer.
func (q *question) giveUp() {
	for s := range q.waiting {
		s.silent.Store(true)
	}
	clear(q.waiting)
}

// ask queries all Sentinels, except silent Sentinels with an earlier query in progress. If no other
// Sentinel is left, ask queries the exceptions. It returns nil if no pool is attached.
func (f *finder) ask(ctx context.Context) *question {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.follow == nil {
		return nil
	}
	for _, address := range f.configured {
		f.learn(address)
	}
	var free, busy []*sentinel
	for _, s := range f.known {
		if s.silent.Load() && s.asked.Load() > 0 {
			busy = append(busy, s)
		} else {
			free = append(free, s)
		}
	}
	if len(free) == 0 {
		free = busy
	}
	q := &question{told: make(chan told, len(free)), open: len(free), waiting: map[*sentinel]struct{}{}}
	for _, s := range free {
		if !s.silent.Load() {
			q.waiting[s] = struct{}{}
		}
		s.asked.Add(1)
		client := s.client
		f.follow.work.Go(func() {
			a, err := f.askOne(context.WithoutCancel(ctx), client)
			if err == nil {
				s.silent.Store(false)
				s.heard.Store(true)
			} else if !isReplied(err) {
				f.renew(s, client)
			}
			s.asked.Add(-1)
			q.told <- told{a, s, err}
		})
	}
	return q
}

// adopt chooses an answer and puts it in force. If the answer names another primary, adopt closes
// the connections to the old primary.
func (f *finder) adopt(answers []answer) answer {
	f.mu.Lock()
	old := f.present
	a := choose(answers, old, len(f.known))
	if f.follow != nil { // nil: all pools are closed
		f.present = a
	}
	f.keep(a.peers)
	back := f.stopgap && len(a.replicas) > 0
	f.stopgap = f.replicas && len(a.replicas) == 0
	f.mu.Unlock()
	switch {
	case old.primary != "" && old.primary != a.primary:
		f.leave(old.primary, a.primary)
	case back: // replaces the connections to the primary
		f.clear()
	}
	return a
}

// choose returns the answer to put in force. This is the answer with the highest configuration
// epoch. If answers have the same epoch, the answer given by more Sentinels wins. The source is
// https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/ (section Configuration
// epochs).
//
// An answer with an earlier epoch than present comes from a Sentinel cut off from the others, so
// present holds. There is an exception: if most of the Sentinels give this answer, their
// configuration was made anew.
func choose(answers []answer, present answer, sentinels int) answer {
	votes := map[string]int{}
	for _, a := range answers {
		votes[a.primary]++
	}
	best := slices.MaxFunc(answers, func(a, b answer) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(votes[a.primary], votes[b.primary]))
	})
	switch {
	case best.epoch >= present.epoch || 2*votes[best.primary] > sentinels:
	case best.primary != present.primary:
		return present
	// The same primary: an answer of earlier times, or a Sentinel with a new configuration.
	default:
		best.epoch = present.epoch
	}
	return best
}

// sentinel is a known Sentinel.
type sentinel struct {
	address string
	client  *redis.Client   // guarded by finder.mu
	ctx     context.Context // done when the Sentinel is forgotten
	forget  context.CancelFunc
	silent  atomic.Bool  // failed or given up, and no answer since
	heard   atomic.Bool  // the Sentinel has answered
	asked   atomic.Int32 // queries in progress
	watched bool         // guarded by finder.mu: watch was called
}

// learn adds the Sentinel at address unless the Sentinel is known. The caller holds the lock.
func (f *finder) learn(address string) {
	if f.follow == nil || f.known[address] != nil {
		return
	}
	s := &sentinel{address: address, client: f.client(f.follow.ctx, address)}
	s.ctx, s.forget = context.WithCancel(f.follow.ctx)
	// find does not wait for a Sentinel of unknown reachability.
	s.silent.Store(!slices.Contains(f.configured, address))
	f.known[address] = s
}

// keep adds the peers to the known Sentinels. It forgets each silent Sentinel that is neither
// configured nor a peer. It starts to receive the messages of each Sentinel that has answered. The
// caller holds the lock.
func (f *finder) keep(peers []string) {
	for _, address := range peers {
		f.learn(address)
	}
	for address, s := range f.known {
		switch {
		case s.silent.Load() && !slices.Contains(f.configured, address) && !slices.Contains(peers, address):
			delete(f.known, address)
			s.forget()
			_ = s.client.Close()
		case s.heard.Load() && !s.watched && f.follow != nil:
			s.watched = true
			f.watch(s)
		}
	}
}

// renew replaces the failed client of a Sentinel. The failed client would treat the Sentinel as
// unreachable for another second. The failed client is closed after askTime, when no query can be
// in progress on it.
func (f *finder) renew(s *sentinel, failed *redis.Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.client != failed || s.ctx.Err() != nil {
		return
	}
	follow := f.follow
	s.client = f.client(follow.ctx, s.address)
	follow.work.Go(func() {
		select {
		case <-time.After(askTime):
		case <-follow.ctx.Done():
		}
		_ = failed.Close()
	})
}

// client makes a client for a Sentinel. When base is done, a dial of the client ends.
func (f *finder) client(base context.Context, address string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: address, Protocol: 2, CredentialsProviderContext: f.login.forClient,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(base, cancel)()
			s, err := f.dialer.dial(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			return s.Conn, nil
		},
		// The retry is for a connection that has ended meanwhile.
		MaxRetries: 1, MinRetryBackoff: -1, MaxRetryBackoff: -1, DialerRetries: 1,
		PipelinePoolSize: -1, DisableIdentity: true, ContextTimeoutEnabled: true,
		DialTimeout: askTime, ReadTimeout: askTime, WriteTimeout: askTime,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// askOne queries a Sentinel in a single round trip. The query needs permission for the primary's
// address, and for the replicas in a pool of replicas. Other facts are left out if the Sentinel's
// user has no permission for them.
func (f *finder) askOne(ctx context.Context, client *redis.Client) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	address := redis.NewStringSliceCmd(ctx, "sentinel", "get-master-addr-by-name", f.master)
	state := redis.NewMapStringStringCmd(ctx, "sentinel", "master", f.master)
	peers := redis.NewMapStringStringSliceCmd(ctx, "sentinel", "sentinels", f.master)
	replicas := redis.NewMapStringStringSliceCmd(ctx, "sentinel", "replicas", f.master)
	_, failure := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		_ = p.Process(ctx, address)
		_ = p.Process(ctx, state)
		_ = p.Process(ctx, peers)
		if f.replicas {
			_ = p.Process(ctx, replicas)
		}
		return nil
	})
	place, err := address.Result()
	// Without a connection, go-redis does not set the error of each command.
	if err == nil && len(place) == 0 {
		err = failure
	}
	switch {
	case isNil(err):
		return answer{}, fmt.Errorf("%w %q", errUnknownMaster, f.master)
	case err != nil:
		_, password, _ := f.login(ctx)
		return answer{}, discreet(err, password)
	case f.replicas && isReply(replicas.Err()):
		return answer{}, replicas.Err()
	case len(place) != 2:
		return answer{}, fmt.Errorf("unexpected reply to GET-MASTER-ADDR-BY-NAME: %d words", len(place))
	}
	a := answer{primary: net.JoinHostPort(place[0], place[1])}
	a.epoch, _ = strconv.ParseUint(state.Val()["config-epoch"], 10, 64)
	for _, p := range peers.Val() {
		a.peers = append(a.peers, net.JoinHostPort(p["ip"], p["port"]))
	}
	a.replicas = replicasUp(replicas.Val())
	return a, nil
}

// replicasUp returns the addresses of the replicas that are up, in the view of a Sentinel. Replicas
// without a connection to their primary are left out. If all replicas are without a connection, for
// example because the primary is down, replicasUp returns all of them.
func replicasUp(states []map[string]string) []string {
	var up, linked []string
	for _, r := range states {
		flags := strings.Split(r["flags"], ",")
		if slices.Contains(flags, "s_down") || slices.Contains(flags, "o_down") || slices.Contains(flags, "disconnected") {
			continue
		}
		address := net.JoinHostPort(r["ip"], r["port"])
		up = append(up, address)
		if r["master-link-status"] == "ok" {
			linked = append(linked, address)
		}
	}
	if len(linked) > 0 {
		up = linked
	}
	slices.Sort(up)
	return up
}
