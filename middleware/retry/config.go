package retry

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// Defaults of [Config].
const (
	defaultMaxAttempts  = 3
	defaultInitialDelay = 50 * time.Millisecond
	defaultMaxDelay     = time.Second
	defaultMultiplier   = 2
	defaultJitter       = 0.8
	defaultBudget       = 0.2
	defaultBudgetBurst  = 100
)

// Config says how often, when and how much is repeated. The zero Config works: up to 3 attempts, pauses of about 50 ms to 1 s, at most
// one retry for five successes in the long run. The pauses suit a pool whose server is in the same network and whose callers wait; for
// work in the background, longer ones do (InitialDelay 1 s, MaxDelay 5 s, Jitter 0.1).
type Config struct {
	// MaxAttempts bounds the attempts of one use, the first included. 0 means 3; 1: nothing is repeated.
	MaxAttempts int

	// InitialDelay is the longest pause before the second attempt. 0 means 50 ms, or MaxDelay if that is shorter.
	InitialDelay time.Duration
	// MaxDelay bounds each pause; only a server that asks for more time gets it, however much: what bounds the use then is its context's
	// deadline, which package timeout sets for all. 0 means 1 s, or InitialDelay if that is longer.
	MaxDelay time.Duration
	// Multiplier is by how much each pause may be longer than the one before. 0 means 2; else it is 1 or more.
	Multiplier float64
	// Jitter is the share of each pause that is random, up to 1: a pause of nominally d lasts between (1-Jitter)*d and d.
	// 0 means 0.8; negative: none.
	Jitter float64

	// Budget is how many retries each success of the layer pays for, up to 1. 0 means 0.2: in the long run one retry for five
	// successes; negative: retries are not budgeted, and an outage multiplies the load by MaxAttempts.
	Budget float64
	// BudgetBurst is how many retries the budget can save up for, and holds at the beginning. 0 means 100.
	BudgetBurst int
}

// Validate returns an error that names every field that is out of range, its value and what is allowed; nil when there is none.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("retry: %s is %v: must be %s", field, value, allowed))
	}
	if c.MaxAttempts < 0 {
		bad("MaxAttempts", c.MaxAttempts, "0 (default 3) or more")
	}
	if c.InitialDelay < 0 {
		bad("InitialDelay", c.InitialDelay, "0 (default 50ms) or more")
	}
	if c.MaxDelay < 0 || c.MaxDelay > 0 && c.MaxDelay < c.InitialDelay {
		bad("MaxDelay", c.MaxDelay, fmt.Sprintf("0 (default 1s) or at least InitialDelay, which is %v", c.InitialDelay))
	}
	if c.Multiplier != 0 && !(c.Multiplier >= 1) || math.IsInf(c.Multiplier, 1) { // not < 1, which NaN is not either
		bad("Multiplier", c.Multiplier, "0 (default 2) or from 1 on")
	}
	if !(c.Jitter <= 1) {
		bad("Jitter", c.Jitter, "0 (default 0.8), up to 1, or negative (none)")
	}
	if !(c.Budget <= 1) {
		bad("Budget", c.Budget, "0 (default 0.2), up to 1, or negative (no budget)")
	}
	if c.BudgetBurst < 0 || c.BudgetBurst > math.MaxInt32 {
		bad("BudgetBurst", c.BudgetBurst, "between 0 (default 100) and 2147483647")
	}
	return errors.Join(errs...)
}

// withDefaults returns c with every 0 that stands for a default replaced by it.
func (c Config) withDefaults() Config {
	setDefault(&c.MaxAttempts, defaultMaxAttempts)
	if c.InitialDelay == 0 && c.MaxDelay > 0 {
		c.InitialDelay = min(defaultInitialDelay, c.MaxDelay)
	}
	setDefault(&c.InitialDelay, defaultInitialDelay)
	setDefault(&c.MaxDelay, max(defaultMaxDelay, c.InitialDelay))
	setDefault(&c.Multiplier, defaultMultiplier)
	setDefault(&c.Jitter, defaultJitter)
	setDefault(&c.Budget, defaultBudget)
	setDefault(&c.BudgetBurst, defaultBudgetBurst)
	return c
}

func setDefault[V comparable](field *V, value V) {
	var zero V
	if *field == zero {
		*field = value
	}
}

// describe gives the settings for [pool.LayerInfo].
func (c Config) describe() pool.LayerInfo {
	number := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	return pool.LayerInfo{Kind: kind, Role: pool.RoleRepeat, Multiplier: c.MaxAttempts, Settings: map[string]string{
		"max_attempts":  strconv.Itoa(c.MaxAttempts),
		"initial_delay": c.InitialDelay.String(),
		"max_delay":     c.MaxDelay.String(),
		"multiplier":    number(c.Multiplier),
		"jitter":        number(max(c.Jitter, 0)),
		"budget":        number(c.Budget),
		"budget_burst":  strconv.Itoa(c.BudgetBurst),
	}}
}
