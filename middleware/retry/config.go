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
	defaultMaxAttempts  = 4
	defaultInitialDelay = 50 * time.Millisecond
	defaultMaxDelay     = time.Second
	defaultMultiplier   = 2
	defaultJitter       = 0.8
	defaultBudget       = 0.5
	defaultBudgetBurst  = 100
)

// Config says how often, when and how much is repeated. The zero Config works: up to 4 attempts, pauses of about 50 ms to 1 s, at most
// one retry for two successes in the long run. The pauses suit a pool whose server is in the same network and whose callers wait; for
// work in the background, longer ones do (InitialDelay 1 s, MaxDelay 5 s, Jitter 0.1).
//
// The defaults are those with which a server of whose calls 30 % fail quickly serves as many uses as it does a bare client: go-redis makes
// 4 attempts too, and without a budget. Of 100 uses 30 need a second attempt, 9 of them a third and 3 a fourth: 42 retries, for which 99
// successes have to pay. With 3 attempts 3 % of the uses fail; with a budget of 0.2 it runs dry. While a server is down the budget is spent
// once, and an open breaker refuses retries sooner than that.
type Config struct {
	// MaxAttempts bounds the attempts of one use, the first included. 0 means 4; 1: nothing is repeated.
	MaxAttempts int

	// InitialDelay is the longest pause before the second attempt. 0 means 50 ms, or MaxDelay if MaxDelay is shorter. The pauses grow from a
	// microsecond if InitialDelay is less.
	InitialDelay time.Duration
	// MaxDelay bounds each pause. A server that asks for time ([pool.Class.RetryAfter]) gets that time, however much, and the pause on top, or
	// a random part, up to Jitter, of a quarter of that time if the part is longer: what bounds the use then is its context's deadline, which
	// package timeout sets for all. 0 means 1 s, or InitialDelay if InitialDelay is longer.
	MaxDelay time.Duration
	// Multiplier is by how much each pause may be longer than the one before. 0 means 2; else it is 1 or more.
	Multiplier float64
	// Jitter is the share of each pause that is random, up to 1: a pause of nominally d lasts between (1-Jitter)*d and d.
	// 0 means 0.8; negative: none.
	Jitter float64

	// Budget is how many retries each success of the layer pays for, up to 1. A success pays only if the use had a resource and, where
	// the driver can tell, asked its server something. 0 means 0.5: in the long run one retry for two successes; negative: retries are
	// not budgeted, and an outage multiplies the load by MaxAttempts.
	Budget float64
	// BudgetBurst is how many retries the budget can save up for, and holds at the beginning. 0 means 100, or the MaxSizes of the layer's
	// pools together, if that is more: when all connections are cut at once, each use in flight has its retry. Then the budget follows
	// the pools as they come, go and are configured.
	BudgetBurst int
}

// Validate returns an error that names every field that is out of range, its value and what is allowed; nil when there is none.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("retry: %s is %v: must be %s", field, value, allowed))
	}
	if c.MaxAttempts < 0 {
		bad("MaxAttempts", c.MaxAttempts, "0 (default 4) or more")
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
		bad("Budget", c.Budget, "0 (default 0.5), up to 1, or negative (no budget)")
	}
	if c.BudgetBurst < 0 || c.BudgetBurst > math.MaxInt32 {
		bad("BudgetBurst", c.BudgetBurst, "between 0 (default 100, or the MaxSizes of the pools) and 2147483647")
	}
	return errors.Join(errs...)
}

// withDefaults returns c with every 0 that stands for a default replaced by the default, but for BudgetBurst, whose 0 follows the pools.
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
