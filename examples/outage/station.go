package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
	"github.com/earnorm/poolstack/middleware/breaker"
)

// A station is a server with its two lanes.
type station struct {
	status      control.Status
	pool        *managed
	stack, bare *lane
	makeStore   func() (store, error)
	recovery    time.Duration // bound of the recovery time after the server's return

	mu        sync.Mutex
	incidents []*incident
}

// A store accesses the data on a server without the lanes' clients.
type store interface {
	prepare(ctx context.Context) error
	holding(ctx context.Context, s side) (holding, error)
	remove(ctx context.Context) error
	close(ctx context.Context) error
}

// A maker creates the clients of a server.
type maker struct {
	server  string
	managed func(w *wire) (*managed, error)
	bare    func(w *wire) (client, error)
	store   func() (store, error)
}

// open creates the lanes. After an error the caller must close the lanes created before the error.
func (s *station) open(ctx context.Context, m maker, servers control.Controller, duration time.Duration) (err error) {
	if s.status, err = control.Find(ctx, servers, m.server); err != nil {
		return err
	}
	w := &wire{}
	if s.pool, err = m.managed(w); err != nil {
		return err
	}
	s.stack = newLane(m.server, stacked, s.pool, w, duration)
	w = &wire{}
	client, err := m.bare(w)
	if err != nil {
		return err
	}
	s.bare = newLane(m.server, bare, client, w, duration)
	return s.withStore(ctx, store.prepare)
}

// lanes returns the existing lanes.
func (s *station) lanes() []*lane {
	var all []*lane
	for _, l := range []*lane{s.stack, s.bare} {
		if l != nil {
			all = append(all, l)
		}
	}
	return all
}

// withStore opens a store, calls do, and closes the store.
func (s *station) withStore(ctx context.Context, do func(st store, ctx context.Context) error) error {
	st, err := s.makeStore()
	if err != nil {
		return err
	}
	return errors.Join(do(st, ctx), st.close(ctx))
}

// An incident is an injected fault, with the measured times.
type incident struct {
	fault  fault
	began  time.Time
	back   time.Time // time of the server's return; zero before
	sign   time.Time // first failure in the stack; zero without a failure
	opened time.Time // first opening of the breaker; zero without
	whole  time.Time // time of the pool's recovery; zero if not in time
	cut    bool      // the play was interrupted before the recovery
	meters map[side]*meter
}

// suffer plays the faults of the server. The times of the script count from start. suffer reports
// events with tell. If ctx ends, suffer ends the fault and returns early. It returns an error if a
// fault could not begin or end.
func (s *station) suffer(ctx context.Context, w *world, script []fault, start time.Time, tell func(server, text string)) error {
	for _, f := range script {
		if !sleepUntil(ctx, start.Add(f.at)) {
			return nil
		}
		i := s.strike(f)
		tell(f.server, f.kind.title())
		if err := s.inflict(ctx, w, i); err != nil {
			return fmt.Errorf("%s: %s: %w", f.server, f.kind.title(), err)
		}
		tell(f.server, fmt.Sprintf("%s after %s", f.kind.undone(), show(i.back.Sub(i.began))))
		if s.recover(ctx, i) {
			tell(f.server, fmt.Sprintf("pool whole again %s after the return", show(i.whole.Sub(i.back))))
		} else if ctx.Err() == nil {
			tell(f.server, fmt.Sprintf("pool NOT whole again within %s", s.recovery))
		}
	}
	return nil
}

// strike begins an incident.
func (s *station) strike(f fault) *incident {
	i := &incident{fault: f, began: time.Now(), meters: map[side]*meter{}}
	for _, l := range s.lanes() {
		i.meters[l.side] = l.turnPage()
	}
	s.pool.tally.watch()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.incidents = append(s.incidents, i)
	return i
}

// inflict begins the fault of i, waits, and ends the fault.
func (s *station) inflict(ctx context.Context, w *world, i *incident) error {
	f := i.fault
	if f.kind == killed && !s.status.Durable {
		s.forget()
		defer s.forget()
	}
	if err := w.begin(ctx, f); err != nil {
		return err
	}
	s.away(f.kind.serverAway())
	err := s.keepUp(ctx, w, i)
	s.away(false)
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if undoErr := w.end(undo, f); undoErr != nil {
		return undoErr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i.back = time.Now()
	return err
}

// keepUp waits for the duration of the fault, or until ctx ends.
func (s *station) keepUp(ctx context.Context, w *world, i *incident) error {
	end := time.NewTimer(i.fault.lasts)
	defer end.Stop()
	pulses := time.NewTicker(pulse)
	defer pulses.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-end.C:
			return nil
		case <-pulses.C:
			if err := w.again(ctx, i.fault); err != nil {
				return err
			}
		}
	}
}

// recover waits for the pool's recovery, for at most s.recovery after the server's return. It
// reports whether the pool has recovered. An operation must have succeeded since the return.
func (s *station) recover(ctx context.Context, i *incident) bool {
	limit := i.back.Add(s.recovery)
	for !s.pool.whole() || !s.pool.tally.okSince(i.back) {
		if !sleepUntil(ctx, time.Now().Add(5*time.Millisecond)) || time.Now().After(limit) {
			s.conclude(i, time.Time{}, ctx.Err() != nil)
			return false
		}
	}
	s.conclude(i, time.Now(), false)
	return true
}

// conclude sets the remaining fields of i.
func (s *station) conclude(i *incident, whole time.Time, cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i.whole, i.cut = whole, cut
	if sign := s.pool.tally.sign.Load(); sign != nil {
		i.sign = *sign
	}
	if at, ok := s.pool.tally.openedSince(i.began); ok {
		i.opened = at
	}
}

// current returns the present fault and its beginning.
func (s *station) current() (f fault, since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.incidents) == 0 {
		return f, since, false
	}
	last := s.incidents[len(s.incidents)-1]
	return last.fault, last.began, last.back.IsZero()
}

func (s *station) away(yes bool) {
	for _, l := range s.lanes() {
		l.wire.away.Store(yes)
	}
}

func (s *station) forget() {
	for _, l := range s.lanes() {
		l.ledger.forget()
	}
}

// announce reports each opening of a closed breaker and each closing with tell. Probes during the
// outage are not reported.
func (s *station) announce(tell func(server, text string)) {
	s.pool.tally.announce(func(c change) {
		switch {
		case c.from == breaker.StateClosed.String():
			tell(s.status.Name, "breaker open: "+c.reason)
		case c.to == breaker.StateClosed.String():
			tell(s.status.Name, "breaker closed")
		}
	})
}

// sleepUntil returns true at t, or false as soon as ctx ends.
func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
