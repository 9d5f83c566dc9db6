package pool

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Role is the purpose of a layer, as far as the order of the layers depends on the purpose. The
// roles are listed in the recommended order of layers, the outermost first. A layer with RoleOther
// may have any place.
type Role uint8

// The values of Role, the outermost first.
const (
	RoleOther    Role = iota
	RoleObserve       // observes: tracing, metrics, logging
	RoleFallback      // answers in place of the pool
	RoleTotal         // bounds the whole use
	RoleAdmit         // admits or rejects uses: a rate limit
	RoleRetry         // calls next again: retry, hedge
	RoleJudge         // judges each attempt: a breaker, a concurrency limit
	RoleAttempt       // bounds a single attempt
	RoleDisturb       // injects faults
)

// LayerInfo describes a layer. [Pool.Layers] returns the LayerInfos. New uses the LayerInfos to
// reject a wrong order of layers. New and every change of settings use the LayerInfos to warn of
// unwanted effects ([EventWarning]).
type LayerInfo struct {
	Layer string // the kind: "retry", "timeout.attempt"
	// Name tells the layer from other layers of the same kind: two breakers, two fallbacks. Name is a
	// word or a few words without spaces, and stays the same for the life of the layer. A layer with a
	// Name uses the Name as Event.Layer. "" means the kind.
	Name       string
	Role       Role
	Multiplier int               // the maximum number of calls of next for a use; 0 means 1
	Settings   map[string]string // for people, from the [settings.Tuning] of a Tunable layer; no secrets

	// Limit is the longest time allowed by the layer to the object of its Role: the use (RoleTotal),
	// an attempt (RoleAttempt), or a probe (RoleJudge). 0 means no bound.
	Limit time.Duration

	// Events lists the events known beforehand: an Event for each combination of Kind, Reason, From
	// and To that the layer may report. The other fields are zero. The metrics layer begins the
	// counters of these events with 0, so that the first event is an increase. The counter of any
	// other event begins with the first event. nil is allowed. A reader must not change the slice.
	Events []Event
}

// label returns the layer as in Event.Layer and in telemetry.
func (l *LayerInfo) label() string { return cmp.Or(l.Name, l.Layer) }

// title returns the layer for a text: the kind, followed by the name, if there is one.
func (l *LayerInfo) title() string {
	if l.label() == l.Layer {
		return l.Layer
	}
	return fmt.Sprintf("%s %q", l.Layer, l.Name)
}

// A Describer is a [Middleware] (or the [Layer] inside a Bracket) that describes itself. A
// [driver.Driver] may be a Describer as well: the pool uses the Layer and the Events of its
// LayerInfo.
type Describer interface {
	Describe() LayerInfo
}

// The warnings about the settings of a pool, given by New and after changes of settings.
const (
	warnRepeatUnbounded  = "%s without a timeout for each attempt: one attempt can use up all the time"
	warnRepeatNoTotal    = "%s without a timeout for the whole use: attempts and pauses add up"
	warnOutside          = "%s is outside of %s: the recommended order is the reverse"
	warnMultiplied       = "the layers together make up to %d attempts of one use"
	warnAttemptTotal     = "%s (%v) never expires: %s (%v) is not longer, and leaves no time for another attempt"
	warnAcquireAttempt   = "AcquireTimeout (%v) is longer than %s (%v): a use may wait for its resource for longer than it may then use it"
	warnAcquireUnbounded = "AcquireTimeout is off: a use may wait for its resource for longer than %s (%v) lets it use the resource"
	warnHeld             = "a declared value has no effect: %v"
	warnProbeAttempt     = "%s gives a probe up after %v, and %s allows %v: a slow probe counts as failed while it is under way"
	reasonableMultiplier = 10
)

// checkOrder returns an error for an order of layers that cannot work. layers begins with the
// outermost layer.
func checkOrder(layers []LayerInfo) error {
	var errs []error
	var repeat, attempt *LayerInfo
	for i := range layers {
		l := &layers[i]
		if err := twice(l, layers[:i]); err != nil {
			errs = append(errs, err)
		}
		switch l.Role {
		case RoleRetry:
			if attempt != nil {
				errs = append(errs, fmt.Errorf("pool: %s is outside of %s: it would bound all attempts together; put it inside",
					attempt.title(), l.title()))
			}
			repeat = l
		case RoleTotal:
			if repeat != nil {
				errs = append(errs, fmt.Errorf("pool: %s is inside of %s: it would bound each attempt, not the whole use; put it outside",
					l.title(), repeat.title()))
			}
		case RoleAttempt:
			attempt = l
		default:
		}
	}
	return join(errs...)
}

// twice returns an error if l repeats one of the outer layers. Layers of a kind are told apart by
// their names. Layers that repeat a use are not: their effects multiply in any case. Observers, and
// layers with RoleOther, may repeat.
func twice(l *LayerInfo, outer []LayerInfo) error {
	if l.Name == "pool" {
		return fmt.Errorf("pool: the name of a layer of kind %q is \"pool\": this name stands for the pool itself", l.Layer)
	}
	if l.Role == RoleOther || l.Role == RoleObserve {
		return nil
	}
	for i := range outer {
		o := &outer[i]
		switch {
		case o.Layer == l.Layer && l.Role == RoleRetry:
			return fmt.Errorf("pool: two layers of kind %q: their effects multiply; use one", l.Layer)
		case o.Layer == l.Layer && o.label() == l.label():
			return fmt.Errorf("pool: two layers of kind %q with the same name: use one, or give each a name of its own", l.Layer)
		case o.label() == l.label():
			return fmt.Errorf("pool: a layer of kind %q and a layer of kind %q have the same name %q: give each a name of its own",
				o.Layer, l.Layer, l.label())
		}
	}
	return nil
}

// settingsWarnings returns warnings about unwanted effects of the order and the settings. layers
// begins with the outermost layer.
func settingsWarnings(layers []LayerInfo, cfg Config) (warnings []string) {
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	var repeat *LayerInfo
	multiplier := 1
	for i := range layers {
		multiplier *= max(1, layers[i].Multiplier)
		if layers[i].Role == RoleRetry {
			repeat = &layers[i]
		}
	}
	total, attempt, judge := shortest(layers, RoleTotal), shortest(layers, RoleAttempt), shortest(layers, RoleJudge)
	if repeat != nil && attempt == nil {
		warn(warnRepeatUnbounded, repeat.title())
	}
	if repeat != nil && total == nil {
		warn(warnRepeatNoTotal, repeat.title())
	}
	if multiplier > reasonableMultiplier {
		warn(warnMultiplied, multiplier)
	}
	warnings = append(warnings, misplaced(layers)...)
	if attempt == nil {
		return warnings
	}
	if total != nil && attempt.Limit >= total.Limit {
		warn(warnAttemptTotal, attempt.title(), attempt.Limit, total.title(), total.Limit)
	}
	if cfg.AcquireTimeout < 0 {
		warn(warnAcquireUnbounded, attempt.title(), attempt.Limit)
	} else if cfg.AcquireTimeout > attempt.Limit {
		warn(warnAcquireAttempt, cfg.AcquireTimeout, attempt.title(), attempt.Limit)
	}
	if judge != nil && judge.Limit < attempt.Limit {
		warn(warnProbeAttempt, judge.title(), judge.Limit, attempt.title(), attempt.Limit)
	}
	return warnings
}

// shortest returns the layer of the role with the shortest limit, or nil if no layer of the role
// has a limit.
func shortest(layers []LayerInfo, role Role) (found *LayerInfo) {
	for i := range layers {
		if l := &layers[i]; l.Role == role && l.Limit > 0 && (found == nil || l.Limit < found.Limit) {
			found = l
		}
	}
	return found
}

// advice keeps the present warnings. A warning is repeated only if the warning was absent in
// between.
type advice struct {
	mu    sync.Mutex
	holds []string
}

// replace sets the present warnings, and returns the new warnings.
func (a *advice) replace(warnings []string) (fresh []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range warnings {
		if !slices.Contains(a.holds, w) {
			fresh = append(fresh, w)
		}
	}
	a.holds = warnings
	return fresh
}

// advise reports new warnings about the present settings of the pool and its layers.
func (p *Pool[T]) advise() {
	for _, w := range p.advice.replace(settingsWarnings(p.Layers(), p.Effective())) {
		p.hub.announce(Event{Kind: EventWarning, Reason: w})
	}
}

// misplaced returns a warning for each layer inside a layer whose role belongs further inside.
func misplaced(layers []LayerInfo) (warnings []string) {
	var outer *LayerInfo
	for i := range layers {
		l := &layers[i]
		if l.Role == RoleOther {
			continue
		}
		if outer != nil && outer.Role > l.Role {
			warnings = append(warnings, fmt.Sprintf(warnOutside, outer.title(), l.title()))
			continue
		}
		outer = l
	}
	return warnings
}
