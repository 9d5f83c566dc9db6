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
	// askTime bounds a question to a Sentinel, connecting included.
	askTime = 2 * time.Second
	// grace is how long the answers of other Sentinels are waited for after the first: as long again as the first took, or grace if that is more.
	grace = 100 * time.Millisecond
)

var (
	errNoSentinel    = errors.New("no Sentinel answers")
	errUnknownMaster = errors.New("the Sentinels do not know the master")
	errNoPrimary     = errors.New("the server that the Sentinels name is no primary")
)

// finder finds the server by asking Sentinels.
type finder struct {
	master     string
	replicas   bool
	configured []string
	dialer     *dialer
	login      login

	next  atomic.Uint64 // whose turn it is among the replicas
	pools pool.Attached

	mu      sync.Mutex
	follow  *following           // nil while no pool is attached
	known   map[string]*sentinel // by address
	present answer               // in force
	conns   map[located]struct{} // open to the servers
	stopgap bool                 // there were no replicas, and the primary had to do
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

// String names what is looked for.
func (f *finder) String() string {
	if f.replicas {
		return f.master + " replicas"
	}
	return f.master
}

// answer is what a Sentinel says of the master.
type answer struct {
	primary  string   // its address
	epoch    uint64   // of the configuration: it grows with each failover
	replicas []string // the addresses of those that are up, in order
	peers    []string // the addresses of the other Sentinels
}

// find returns the address to connect to. It asks all Sentinels. It waits for those that answered in time before, no longer than grace after the
// first, and for any answer if there is none.
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

// look asks, and adopts what the Sentinels say. While none can be reached, the latest answer holds: the primary may be up all the same.
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

// told is what a question to a Sentinel has led to.
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

// failure is the error when no Sentinel has answered: a reply says more than a connection that failed.
func failure(errs []error) error {
	for _, err := range errs {
		if isReplied(err) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", errNoSentinel, errors.Join(errs...))
}

// isReplied says whether a Sentinel has refused to answer.
func isReplied(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok || errors.Is(err, errUnknownMaster)
}

// question is one that all Sentinels have been asked.
type question struct {
	told    chan told
	open    int                    // how many have not answered yet
	waiting map[*sentinel]struct{} // those of them that are waited for
}

// giveUp has nobody wait for those that have not answered, now and until they do.
func (q *question) giveUp() {
	for s := range q.waiting {
		s.silent.Store(true)
	}
	clear(q.waiting)
}

// ask asks all Sentinels, but those that have been given up and have an earlier question to answer, as long as there are others. It returns nil
// when no pool is attached.
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

// adopt chooses an answer and makes it the present one. Where that names another primary, no connection to the old one stays.
func (f *finder) adopt(answers []answer) answer {
	f.mu.Lock()
	old := f.present
	a := choose(answers, old, len(f.known))
	if f.follow != nil { // else nobody wants to know any more
		f.present = a
	}
	f.keep(a.peers)
	back := f.stopgap && len(a.replicas) > 0
	f.stopgap = f.replicas && len(a.replicas) == 0
	f.mu.Unlock()
	switch {
	case old.primary != "" && old.primary != a.primary:
		f.leave(old.primary, a.primary)
	case back: // the connections to the primary end
		f.clear()
	}
	return a
}

// choose returns the answer to go by: that of the highest epoch, and of two with the same epoch that which more Sentinels give. An answer of an
// earlier epoch than the present one comes from a Sentinel that is cut off from the others, unless most of the Sentinels give it: their
// configuration was made anew then.
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
	default: // an earlier stay of the same server, or its own Sentinel's configuration was made anew
		best.epoch = present.epoch
	}
	return best
}

// sentinel is one that is known.
type sentinel struct {
	address string
	client  *redis.Client   // guarded by finder.mu
	ctx     context.Context // over when the Sentinel is known no longer
	forget  context.CancelFunc
	silent  atomic.Bool  // it has failed or been given up, and has not answered since
	heard   atomic.Bool  // it has answered
	asked   atomic.Int32 // questions in progress
	watched bool         // guarded by finder.mu: its messages are received
}

// learn makes sure that the Sentinel at address is known. The caller holds the lock.
func (f *finder) learn(address string) {
	if f.follow == nil || f.known[address] != nil {
		return
	}
	s := &sentinel{address: address, client: f.client(f.follow.ctx, address)}
	s.ctx, s.forget = context.WithCancel(f.follow.ctx)
	s.silent.Store(!slices.Contains(f.configured, address)) // nobody waits for one that has not proved to be in reach
	f.known[address] = s
}

// keep knows the configured Sentinels and the peers, and those that are neither no longer, and receives the messages of all that have answered. The
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

// renew gives a Sentinel another client in place of one that has failed. go-redis would take the Sentinel for unreachable for a second more. The
// failed client is closed when no question can be under way by it.
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

// client makes a client of a Sentinel, whose dials end with base.
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
		MaxRetries: 1, MinRetryBackoff: -1, MaxRetryBackoff: -1, DialerRetries: 1, // another try is for a connection that has ended meanwhile
		PipelinePoolSize: -1, DisableIdentity: true, ContextTimeoutEnabled: true,
		DialTimeout: askTime, ReadTimeout: askTime, WriteTimeout: askTime,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// askOne asks a Sentinel in one round trip. What the Sentinel's user may not ask is left out, but for the primary's address, and the replicas where
// they are wanted.
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
	if err == nil && len(place) == 0 { // go-redis has no connection, and does not say so to each command
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

// replicasUp returns the addresses of the replicas that are up, as a Sentinel sees them: of those with a connection to their primary, and of all if
// there are none with one, as when the primary is down.
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
