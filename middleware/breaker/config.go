package breaker

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Defaults of [Config].
const (
	defaultWindow       = 10 * time.Second
	defaultBuckets      = 10
	defaultFailureRatio = 1
	defaultMinCalls     = 20
	defaultOpenFor      = 200 * time.Millisecond
	defaultOpenMax      = 800 * time.Millisecond
	defaultLookMax      = time.Second
	defaultJitter       = 0.75
	defaultProbes       = 1
	defaultProbeTimeout = 15 * time.Second
)

// Bounds of [Config].
const (
	maxBuckets = 1000
	minBucket  = time.Millisecond // minimum length of a bucket
	minOpenFor = time.Millisecond
)

// Config holds the settings of a [Breaker]: when the breaker opens and how the breaker closes
// again. The zero Config is valid. A Config is a plain value. To change settings, pass a changed
// copy to [Breaker.Configure].
type Config struct {
	// Name tells the breaker from another breaker around the same pool: in events, in metrics and in
	// the errors of its rejections. "" means no name: the breaker is called by its kind, "breaker".
	// Configure cannot change the name.
	Name string

	// Window is the length of time over which outcomes are counted. The window advances in Buckets
	// equal steps, so the counts cover a time between Window minus a step and Window. 0 means 10 s.
	Window time.Duration
	// Buckets is the number of steps in Window: at most 1000, and no step shorter than 1 ms. 0 means
	// 10.
	Buckets int

	// FailureRatio opens the breaker when at least this share of the attempts in the window failed. It
	// is greater than 0 and at most 1. The breaker evaluates the ratio after a failure. 0 means 1: a
	// server with some successes still serves these uses, and an open breaker would reject them.
	// Negative disables this rule.
	FailureRatio float64
	// MinCalls is the minimum number of attempts in the window for FailureRatio to apply. 0 means 20.
	MinCalls int
	// ConsecutiveFailures opens the breaker after this number of failures without a success between
	// them, in any length of time. Outcomes count in the order of their arrival. Duplicates do not
	// count. A failure is a duplicate if its attempt was in progress when the first failure ended. A
	// lost connection is a duplicate if its attempt was in progress when the latest failure ended. 0
	// means an automatic number: at least 5 failures in at least 300 ms. The number grows where other
	// attempts fail too, so chance does not explain the failures. Negative disables this rule.
	ConsecutiveFailures int

	// OpenFor is the length of the open period after the closed state, before the reduction by Jitter.
	// 0 means 200 ms, which is enough because the pool itself looks at the server. Any other value
	// must be at least 1 ms.
	OpenFor time.Duration
	// OpenMax is the maximum of the open period. The period doubles each time the probes fail. The
	// period does not double if the server answered the probe with a temporary refusal, for example
	// because a script is running. With OpenMax equal to OpenFor, the period never grows. 0 means
	// 800 ms, or OpenFor if OpenFor is longer.
	OpenMax time.Duration
	// Jitter is the maximum share of each open period by which the period is shortened; less than 1.
	// The breaker draws the share at random when the breaker opens, so many instances do not probe at
	// the same time. 0 means 0.75. Negative means no jitter.
	Jitter float64

	// LookMax is the maximum pause between looks. A look is a dial and a check by the pool itself
	// while the breaker is open. The pauses grow from 100 ms, and each pause is shortened at random by
	// up to half. Probes pass only after a look has passed, or while all resources are in use. So a
	// server that is down receives about 1 dial in LookMax from each instance. After a temporary
	// refusal, for example while the server loads its data, the next look comes within 200 ms. 0 means
	// 1 s. Negative disables looks: only the probes of users detect the return of the server.
	LookMax time.Duration

	// Probes is the maximum number of probes in progress while the breaker is half-open. A probe
	// counts toward the maximum during its first 500 ms only. 0 means 1.
	Probes int
	// ProbeSuccesses is the number of successful probes required to close the breaker. 0 means 1 for
	// each rejected operation. After the breaker was half-open for Window, 1 success of any operation
	// is enough.
	ProbeSuccesses int
	// ProbeFailures is the number of probes that may fail before the breaker opens again. With
	// ProbeSuccesses, the condition for success can be a ratio, for example 8 successes with at most 2
	// failures. 0 means that the first failure opens the breaker.
	ProbeFailures int
	// ProbeTimeout is the time after which a probe without an outcome counts as failed. So a lost
	// probe cannot keep the breaker half-open. The breaker compares the time at the next use or
	// outcome. A probe that ends earlier is judged by its outcome. ProbeTimeout should be longer than
	// any lease and any operation takes. 0 means 15 s.
	ProbeTimeout time.Duration
}

// Validate returns an error naming each invalid field, its value and the allowed values. Validate
// returns nil if all fields are valid.
func (c Config) Validate() error {
	var errs []error
	must := func(ok bool, field string, value any, allowed string) {
		if !ok {
			errs = append(errs, fmt.Errorf("breaker: %s is %v: must be %s", field, value, allowed))
		}
	}
	d := c.withDefaults()
	bucketsOK := c.Buckets >= 0 && c.Buckets <= maxBuckets
	must(bucketsOK, "Buckets", c.Buckets, fmt.Sprintf("between 0 (default %d) and %d", defaultBuckets, maxBuckets))
	if least := time.Duration(d.Buckets) * minBucket; bucketsOK {
		must(d.Window >= least, "Window", c.Window, fmt.Sprintf("0 (default %v) or at least %v, for %d buckets", defaultWindow, least, d.Buckets))
	}
	must(c.FailureRatio <= 1, "FailureRatio", c.FailureRatio, "negative (off), 0 (default 1) or at most 1")
	must(c.MinCalls >= 0, "MinCalls", c.MinCalls, "0 (default 20) or more")
	must(d.OpenFor >= minOpenFor, "OpenFor", c.OpenFor, "0 (default 200ms) or at least 1ms")
	must(d.OpenMax >= d.OpenFor, "OpenMax", c.OpenMax, fmt.Sprintf("0 (default 800ms) or at least OpenFor, which is %v", d.OpenFor))
	must(c.Jitter < 1, "Jitter", c.Jitter, "negative (none), 0 (default 0.75) or less than 1")
	must(c.Probes >= 0, "Probes", c.Probes, "0 (default 1) or more")
	must(c.ProbeSuccesses >= 0, "ProbeSuccesses", c.ProbeSuccesses, "0 (one of each operation) or more")
	must(c.ProbeFailures >= 0, "ProbeFailures", c.ProbeFailures, "0 (none) or more")
	must(c.ProbeTimeout >= 0, "ProbeTimeout", c.ProbeTimeout, "0 (default 15s) or more")
	return errors.Join(errs...)
}

// withDefaults returns c with the defaults in place of zero values.
func (c Config) withDefaults() Config {
	c.Window = cmp.Or(c.Window, defaultWindow)
	c.Buckets = cmp.Or(c.Buckets, defaultBuckets)
	c.FailureRatio = cmp.Or(c.FailureRatio, defaultFailureRatio)
	c.MinCalls = cmp.Or(c.MinCalls, defaultMinCalls)
	c.OpenFor = cmp.Or(c.OpenFor, defaultOpenFor)
	c.OpenMax = cmp.Or(c.OpenMax, max(defaultOpenMax, c.OpenFor))
	c.LookMax = cmp.Or(c.LookMax, defaultLookMax)
	c.Jitter = cmp.Or(c.Jitter, defaultJitter)
	c.Probes = cmp.Or(c.Probes, defaultProbes)
	c.ProbeTimeout = cmp.Or(c.ProbeTimeout, defaultProbeTimeout)
	return c
}

// openPeriod returns the length of the open period after a number of doublings. draw, from 0 to 1,
// is the random share of the jitter. OpenMax bounds the period before the jitter; the jitter can
// only shorten the period.
func (c Config) openPeriod(doublings int, draw float64) time.Duration {
	period := c.OpenFor
	for ; doublings > 0 && period < c.OpenMax; doublings-- {
		period += min(period, c.OpenMax-period)
	}
	return period - time.Duration(draw*max(c.Jitter, 0)*float64(period))
}

// settings returns c as text, for descriptions of the layer.
func (c Config) settings() map[string]string {
	share := func(v float64) string {
		if v < 0 {
			return "off"
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	consecutive, looks, successes := "automatic", "off", "one of each operation"
	if c.ConsecutiveFailures > 0 {
		consecutive = strconv.Itoa(c.ConsecutiveFailures)
	} else if c.ConsecutiveFailures < 0 {
		consecutive = "off"
	}
	if c.LookMax > 0 {
		looks = c.LookMax.String()
	}
	if c.ProbeSuccesses > 0 {
		successes = strconv.Itoa(c.ProbeSuccesses)
	}
	return map[string]string{
		"window":               c.Window.String(),
		"buckets":              strconv.Itoa(c.Buckets),
		"failure_ratio":        share(c.FailureRatio),
		"min_calls":            strconv.Itoa(c.MinCalls),
		"consecutive_failures": consecutive,
		"open_for":             c.OpenFor.String(),
		"open_max":             c.OpenMax.String(),
		"jitter":               share(c.Jitter),
		"look_max":             looks,
		"probes":               strconv.Itoa(c.Probes),
		"probe_successes":      successes,
		"probe_failures":       strconv.Itoa(c.ProbeFailures),
		"probe_timeout":        c.ProbeTimeout.String(),
	}
}
