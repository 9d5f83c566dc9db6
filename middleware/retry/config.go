package retry

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/earnorm/poolstack/pool/settings"
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
	// MaxAttempts is the maximum number of attempts of a use, including the first attempt. 1 means no
	// retry. 0 means 4, and further attempts while the pool cannot open a connection: for up to 500 ms
	// after the first failure, with pauses of at most 100 ms. So a use bridges a short restart of the
	// server. These further attempts send nothing, and cost no token of the budget.
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

// configSpec lists the settings of a retry layer.
var configSpec = settings.Spec[Config]{Layer: kind, Fields: []settings.Entry[Config]{
	settings.Int(func(c *Config) *int { return &c.MaxAttempts }, settings.Field{
		Go: "MaxAttempts", Unit: "attempts", Allowed: "0 (default 4) or more",
		Zero: "4, and more for up to 500ms while no connection can be opened",
		Help: "The maximum number of attempts of a use. 1 means no retry.",
	}),
	settings.Duration(func(c *Config) *time.Duration { return &c.InitialDelay }, settings.Field{
		Go: "InitialDelay", Allowed: "0 (default 50ms) or more", Zero: "50ms, or max_delay if max_delay is shorter",
		Help: "The longest pause before the second attempt.",
	}),
	settings.Duration(func(c *Config) *time.Duration { return &c.MaxDelay }, settings.Field{
		Go: "MaxDelay", Allowed: "0 (default 1s) or at least InitialDelay", Zero: "1s, or initial_delay if initial_delay is longer",
		Help: "The longest pause.",
	}),
	settings.Float(func(c *Config) *float64 { return &c.Multiplier }, settings.Field{
		Go: "Multiplier", Min: "1", Allowed: "0 (default 2) or from 1 on", Help: "The factor from each pause to the next.",
	}),
	settings.Float(func(c *Config) *float64 { return &c.Jitter }, settings.Field{
		Go: "Jitter", Max: "1", Allowed: "0 (default 0.8), up to 1, or negative (none)", Off: "no randomness", Help: "The random share of each pause.",
	}),
	settings.Float(func(c *Config) *float64 { return &c.Budget }, settings.Field{
		Go: "Budget", Unit: "tokens", Max: "1", Allowed: "0 (default 0.5), up to 1, or negative (no budget)",
		Off: "no budget: an outage multiplies the load by max_attempts", Effect: "a budget that is switched on is full",
		Help: "The number of tokens a success earns. A retry costs a token.",
	}),
	settings.Int(func(c *Config) *int { return &c.BudgetBurst }, settings.Field{
		Go: "BudgetBurst", Unit: "tokens", Max: strconv.Itoa(math.MaxInt32),
		Allowed: "between 0 (default 100, or the MaxSizes of the pools) and 2147483647", Zero: "100, or the sizes of the pools if their sum is larger",
		Effect: "the budget keeps its tokens, up to a smaller burst", Help: "The maximum number of tokens in the budget.",
	}),
}}

// Validate returns an error naming every invalid field, its value and the allowed range. Validate
// returns nil if all fields are valid. The error joins a *[settings.FieldError] for each field.
func (c Config) Validate() error {
	return configSpec.Validate(c, settings.Rule{
		Field: "MaxDelay", OK: c.MaxDelay == 0 || c.MaxDelay > 0 && c.MaxDelay >= c.InitialDelay,
		Allowed: fmt.Sprintf("0 (default 1s) or at least InitialDelay, which is %v", c.InitialDelay),
	})
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
