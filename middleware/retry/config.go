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

// Config holds the settings of a [Retry]. The zero Config is valid: at most 4 attempts, random
// pauses of at most 50, 100 and 200 ms, and in the long run at most a single retry for two
// successes. Such pauses suit a server in the same network and callers that wait. Background work
// needs longer pauses: InitialDelay 1 s, MaxDelay 5 s, Jitter 0.1.
//
// The defaults are chosen for a server that quickly fails 30 % of the calls: as many uses succeed
// as with a bare client. A bare go-redis client makes 4 attempts too, without a budget. Of 100
// uses, 30 need a second attempt, 9 a third and 3 a fourth. These are 42 retries, and 99 successes
// pay for them. With 3 attempts, 3 % of the uses fail. With a Budget of 0.2 the budget runs out.
// While a server is down, the budget is spent once. An open breaker refuses retries even earlier.
type Config struct {
	// MaxAttempts is the maximum number of attempts of a use, including the first attempt. 0 means 4.
	// 1 means no retry.
	MaxAttempts int

	// InitialDelay is the longest pause before the second attempt. 0 means 50 ms, or MaxDelay if
	// MaxDelay is shorter. If InitialDelay is shorter than a microsecond, the pauses grow from a
	// microsecond.
	InitialDelay time.Duration
	// MaxDelay is the longest pause of the layer's own. 0 means 1 s, or InitialDelay if InitialDelay
	// is longer.
	//
	// A server may ask for time ([driver.Class.RetryAfter]). Then the pause is the server's time,
	// however long, plus the layer's own pause. A random part of a quarter of the server's time, up to
	// the share Jitter, replaces the own pause if the random part is longer. Only the deadline of the
	// context bounds such a pause. The layers of package timeout set a deadline for every use.
	MaxDelay time.Duration
	// Multiplier is the factor from each pause to the next. 0 means 2. Any other value must be 1 or
	// more.
	Multiplier float64
	// Jitter is the random share of each pause, up to 1. A nominal pause d lasts between (1-Jitter)*d
	// and d. 0 means 0.8. A negative value means no randomness.
	Jitter float64

	// Budget is the number of tokens a success earns, up to 1. A retry costs a token. An error
	// answered by a healthy server ([driver.FaultNone]) counts as a success. A success earns nothing
	// if the use had no resource or, where the driver can tell, sent the server nothing. 0 means 0.5:
	// in the long run a single retry for two successes. A negative value means no budget: an outage
	// multiplies the load by MaxAttempts.
	Budget float64
	// BudgetBurst is the maximum number of tokens in the budget. A new budget is full. 0 means 100, or
	// the sum of MaxSize over the layer's pools if the sum is larger. So each use in flight has a
	// retry when all connections are cut at once. With 0 the maximum changes when a pool is attached,
	// closed or configured.
	BudgetBurst int
}

// Validate returns an error naming every invalid field, its value and the allowed range. Validate
// returns nil if all fields are valid.
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
	// Not Multiplier < 1: NaN would pass.
	if c.Multiplier != 0 && !(c.Multiplier >= 1) || math.IsInf(c.Multiplier, 1) {
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

// withDefaults returns c with the default in place of each 0. BudgetBurst stays 0, because a
// BudgetBurst of 0 follows the pools.
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

// describe returns the settings as a [pool.LayerInfo].
func (c Config) describe() pool.LayerInfo {
	number := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	return pool.LayerInfo{Layer: kind, Role: pool.RoleRetry, Multiplier: c.MaxAttempts, Settings: map[string]string{
		"max_attempts":  strconv.Itoa(c.MaxAttempts),
		"initial_delay": c.InitialDelay.String(),
		"max_delay":     c.MaxDelay.String(),
		"multiplier":    number(c.Multiplier),
		"jitter":        number(max(c.Jitter, 0)),
		"budget":        number(c.Budget),
		"budget_burst":  strconv.Itoa(c.BudgetBurst),
	}}
}
