package breaker

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/sony/gobreaker/v2"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/settings"
)

// Mode is what an operator makes of a breaker. The zero Mode means that the outcomes decide.
type Mode uint8

// The modes.
const (
	ForceOpen   Mode = iota + 1 // all uses are rejected, and the pool does not look at the server
	ForceClosed                 // all uses pass, and the outcomes are counted
	Disable                     // all uses pass, and nothing is counted
)

var modeNames = [...]string{"", "force_open", "force_closed", "disable"}

// String returns "force_open", "force_closed", "disable", or "" for the zero Mode.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return "unknown"
}

// MarshalText returns the name of the mode. The error is always nil.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Forced is a state set by an operator. A Forced is a plain value.
type Forced struct {
	Mode   Mode
	Until  time.Time // the end; at most 24 h ahead
	Actor  string    // the operator; may be empty
	Reason string    // a sentence
}

const (
	maxForced = 24 * time.Hour
	maxReason = 300
)

// String returns a sentence: "force_open until 15:04:05 by ann: maintenance of the server". For the
// zero Forced the sentence is "nothing is forced".
func (f Forced) String() string {
	if f.Mode == 0 {
		return "nothing is forced"
	}
	by := ""
	if f.Actor != "" {
		by = " by " + f.Actor
	}
	return fmt.Sprintf("%v until %s%s: %s", f.Mode, f.Until.Format(time.TimeOnly), by, f.Reason)
}

// validate returns an error naming the field, its value and what is allowed.
func (f Forced) validate() error {
	bad := func(field, value, allowed string) error {
		return &settings.FieldError{Layer: kind, Field: field, Value: value, Allowed: allowed}
	}
	left := time.Until(f.Until)
	switch {
	case f.Mode == 0 || f.Mode > Disable:
		return bad("Mode", strconv.Itoa(int(f.Mode)), "ForceOpen, ForceClosed or Disable")
	case left <= 0 || left > maxForced:
		return bad("Until", f.Until.Format(time.RFC3339), "in the future, and at most 24h ahead")
	case !isSentence(f.Reason):
		return bad("Reason", strconv.Quote(f.Reason[:min(len(f.Reason), maxReason)]), fmt.Sprintf("a text of 1 to %d printable characters", maxReason))
	case f.Actor != "" && !isSentence(f.Actor):
		return bad("Actor", strconv.Quote(f.Actor[:min(len(f.Actor), maxReason)]), fmt.Sprintf("at most %d printable characters", maxReason))
	}
	return nil
}

func isSentence(text string) bool {
	unprintable := func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }
	return strings.TrimSpace(text) != "" && len(text) <= maxReason && !strings.ContainsFunc(text, unprintable)
}

// EventForced reports Force, Release or Reset, and the end of a forced state. Reason is the Mode,
// "reset" or "released". Settings holds the actor and the operator's reason. If the state changes,
// a [pool.EventStateChanged] follows.
const EventForced pool.EventKind = "forced"

// The values of Event.Reason of an EventForced, beside the modes.
const (
	released = "released" // by Release, or because its time was over
	reset    = "reset"
)

// Force sets the state of the breaker until f.Until, whatever the outcomes are. Another Force
// replaces the forced state. At the end of the forced state the breaker is closed, with empty
// counts; after ForceOpen the uses return by Config.RampUp. The error names a field of f that is
// not allowed.
func (b *Breaker) Force(f Forced) error {
	if err := f.validate(); err != nil {
		return err
	}
	b.emit(b.force(f))
	return nil
}

// Release ends a forced state before its time. Release does nothing if no state is forced. actor
// and reason go into the event.
func (b *Breaker) Release(actor, reason string) {
	b.emit(b.release(nil, Forced{Actor: actor, Reason: reason}))
}

// Reset closes the breaker with empty counts, and ends a forced state. actor and reason go into the
// event.
func (b *Breaker) Reset(actor, reason string) {
	b.mu.Lock()
	events := b.moveTo(&phase{state: StateClosed, window: newWindow(b.cfg.Load(), b.needs)}, reset, Forced{Actor: actor, Reason: reason})
	b.mu.Unlock()
	b.emit(events)
}

// emit reports events outside any use.
func (b *Breaker) emit(events []pool.Event) {
	for _, e := range events {
		b.pools.Emit(e)
	}
}

func (b *Breaker) force(f Forced) []pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &phase{state: StateClosed, gate: &gate{forced: f}}
	switch f.Mode {
	case ForceOpen:
		p.state = StateOpen
		p.refusal = &OpenError{Pool: b.pool, Name: b.name, State: StateOpen, Forced: f, NextProbe: f.Until}
	case ForceClosed:
		p.window = newWindow(b.cfg.Load(), b.needs)
	case Disable:
	}
	p.gate.expiry = time.AfterFunc(time.Until(f.Until), func() { b.emit(b.release(p.gate, Forced{Reason: "its time is over"})) })
	return b.moveTo(p, f.Mode.String(), f)
}

// release ends the forced state g, or any forced state if g is nil.
func (b *Breaker) release(g *gate, by Forced) []pool.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.phase.Load()
	if !old.isForced() || g != nil && old.gate != g {
		return nil
	}
	p := &phase{state: StateClosed, window: newWindow(b.cfg.Load(), b.needs)}
	if old.state == StateOpen {
		p.gate = b.newRamp(whole, &OpenError{Forced: old.gate.forced})
	}
	return b.moveTo(p, released, by)
}

// moveTo begins the phase p at the request of an operator, and returns the events to report.
// moveTo is called under mu.
func (b *Breaker) moveTo(p *phase, what string, by Forced) []pool.Event {
	old := b.phase.Load()
	if old.isForced() {
		old.gate.expiry.Stop()
	}
	b.lookAnew() // ends the watch, which is no longer b.watch
	b.watch = nil
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](b.circuitSettings())
	b.moved = false
	b.clear()
	p.since = time.Now()
	b.phase.Store(p)
	change := settings.Change{Name: "state", From: old.title(), To: p.title()}
	events := []pool.Event{{
		Kind: EventForced, Layer: b.label(), Reason: what, From: old.state.String(), To: p.state.String(),
		Settings: &settings.Result{Source: settings.Force, Actor: by.Actor, Reason: by.Reason, Changes: []settings.Change{change}},
	}}
	if by.Mode != 0 {
		events[0].Duration = time.Until(by.Until)
	}
	if old.state != p.state {
		moved := pool.Event{Kind: pool.EventStateChanged, Layer: b.label(), From: old.state.String(), To: p.state.String(), Reason: ReasonForced}
		if p.state == StateOpen {
			b.opened++
			moved.Duration, moved.Err = p.refusal.retryAfter(), p.refusal
		}
		events = append(events, moved)
	}
	return events
}

// title returns the state for a text: with the mode, if the state is forced.
func (p *phase) title() string {
	if p.isForced() {
		return p.gate.forced.Mode.String()
	}
	return p.state.String()
}

func (p *phase) isForced() bool { return p.gate != nil && p.gate.forced.Mode != 0 }
