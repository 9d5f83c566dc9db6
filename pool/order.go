package pool

import (
	"fmt"
	"time"
)

// Role is what a layer is for, as far as its place in the order matters. The roles are listed in the recommended order, outermost
// first; RoleOther may stand anywhere.
type Role uint8

// The roles, outermost first.
const (
	RoleOther    Role = iota
	RoleObserve       // looks on: tracing, metrics, logging
	RoleFallback      // answers in the pool's stead
	RoleTotal         // bounds the whole use
	RoleAdmit         // lets uses in or not: a rate limit
	RoleRepeat        // calls next again: retry, hedge
	RoleJudge         // judges each attempt: a breaker, a concurrency limit
	RoleAttempt       // bounds one attempt
	RoleDisturb       // injects faults
)

// LayerInfo describes a layer, for [Pool.Layers] and for the rules by which New refuses or warns of an order.
type LayerInfo struct {
	Kind       string            // "retry", "timeout.attempt": also Event.Layer
	Role       Role              //
	Multiplier int               // how often it calls next for one use at worst; 0 and 1 mean once
	Settings   map[string]string // for people; no secrets

	// Limit is the longest time that the layer allows to what its Role says: to the use (RoleTotal), to an attempt (RoleAttempt), to a
	// probe (RoleJudge). 0 means that the layer bounds nothing.
	Limit time.Duration
}

// A LayerDescriber is a [Middleware] (or the [Layer] inside a Bracket) that describes itself.
type LayerDescriber interface {
	Describe() LayerInfo
}

// The reasons why New warns of an order.
const (
	warnRepeatUnbounded  = "%s without a timeout for each attempt: one attempt can use up all the time"
	warnRepeatNoTotal    = "%s without a timeout for the whole use: attempts and pauses add up"
	warnOutside          = "%s is outside of %s: recommended is the other way round"
	warnMultiplied       = "the layers together make up to %d attempts of one use"
	reasonableMultiplier = 10
)

// checkOrder says what is wrong with layers in this order, outermost first: warnings for what surprises, an error for what cannot work.
func checkOrder(layers []LayerInfo) (warnings []string, err error) {
	var errs []error
	seen := map[string]bool{}
	var repeat, total, attempt *LayerInfo
	multiplier := 1
	for i := range layers {
		l := &layers[i]
		if l.Role != RoleOther && l.Role != RoleObserve && seen[l.Kind] {
			errs = append(errs, fmt.Errorf("pool: two layers of kind %q: their effects multiply; use one", l.Kind))
		}
		seen[l.Kind] = true
		multiplier *= max(1, l.Multiplier)
		switch l.Role {
		case RoleRepeat:
			if attempt != nil {
				errs = append(errs, fmt.Errorf("pool: %s is outside of %s: it would bound all attempts together; put it inside",
					attempt.Kind, l.Kind))
			}
			repeat = l
		case RoleTotal:
			if repeat != nil {
				errs = append(errs, fmt.Errorf("pool: %s is inside of %s: it would bound each attempt, not the whole use; put it outside",
					l.Kind, repeat.Kind))
			}
			total = l
		case RoleAttempt:
			attempt = l
		default:
		}
	}
	if repeat != nil && attempt == nil {
		warnings = append(warnings, fmt.Sprintf(warnRepeatUnbounded, repeat.Kind))
	}
	if repeat != nil && total == nil {
		warnings = append(warnings, fmt.Sprintf(warnRepeatNoTotal, repeat.Kind))
	}
	if multiplier > reasonableMultiplier {
		warnings = append(warnings, fmt.Sprintf(warnMultiplied, multiplier))
	}
	return append(warnings, misplaced(layers)...), join(errs...)
}

// misplaced warns of each layer that stands inside of one whose role belongs further in.
func misplaced(layers []LayerInfo) (warnings []string) {
	var outer *LayerInfo
	for i := range layers {
		l := &layers[i]
		if l.Role == RoleOther {
			continue
		}
		if outer != nil && outer.Role > l.Role {
			warnings = append(warnings, fmt.Sprintf(warnOutside, outer.Kind, l.Kind))
			continue
		}
		outer = l
	}
	return warnings
}
