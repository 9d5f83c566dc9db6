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
	minBucket  = time.Millisecond // the least length of a bucket
	minOpenFor = time.Millisecond
)

// Config says when a breaker opens and how it closes again. The zero Config works. It is a plain value: copy it, change the copy, give
// it to [New] or [Breaker.Configure].
type Config struct {
	// Window is how far back outcomes are counted. It moves on by one of Buckets equal steps at a time, and covers between Window less a
	// step and Window. 0 means 10 s.
	Window time.Duration
	// Buckets is into how many steps Window is divided, at most 1000 and none shorter than 1 ms. 0 means 10.
	Buckets int

	// FailureRatio opens the breaker when at least this part of the calls in the window have failed: greater than 0, at most 1. It is looked
	// at when a failure comes in. 0 means 1: a server that answers some of the calls serves them, and a breaker that opens refuses what
	// would have been served. Negative: this rule is off.
	FailureRatio float64
	// MinCalls is how many calls the window must hold for FailureRatio to apply. 0 means 20.
	MinCalls int
	// ConsecutiveFailures opens the breaker when this many calls have failed with no success between them, however long that took, not counting
	// echoes: failures of calls that were under way when the first one failed, and lost connections of calls that were under way at the latest
	// failure. Outcomes count in the order in which they come in. 0 means that the breaker decides: at least 5, within at least 300 ms, and
	// so many more as it takes for chance not to explain them where other calls fail too. Negative: this rule is off.
	ConsecutiveFailures int

	// OpenFor is how long the breaker stays open after it was closed, less what Jitter takes. 0 means 200 ms, which is enough as the pool looks
	// at its server itself; otherwise at least 1 ms.
	OpenFor time.Duration
	// OpenMax bounds the open period, which doubles each time the probes fail, unless the server has answered the probe with a refusal that may
	// be repeated, such as that a script is running. OpenMax equal to OpenFor means that the period does not grow.
	// 0 means 800 ms, or OpenFor if that is longer.
	OpenMax time.Duration
	// Jitter is the part of each open period, less than 1, by which it may be shorter; how much is drawn at random when the breaker
	// opens, so that many instances do not send their probes all at once. 0 means 0.75; negative: none.
	Jitter float64

	// LookMax bounds the pauses between the looks that the pool itself takes at its server while the breaker is open: a dial and a check.
	// They grow from 100 ms, and each is up to half as short at random. Probes pass only after a look has succeeded. So a server that is
	// away has about one dial in LookMax from each instance. A server that refuses a look for a while, as it loads its data, is looked at
	// again within 200 ms. 0 means 1 s; negative: the pool does not look, and the users' probes alone find out.
	LookMax time.Duration

	// Probes is how many uses may be under way at once while the breaker is half-open. 0 means 1.
	Probes int
	// ProbeSuccesses is how many probes must succeed for the breaker to close. 0 means one of each operation that is refused; once the
	// breaker has been half-open for a Window, any one.
	ProbeSuccesses int
	// ProbeFailures is how many probes may fail before the breaker opens again. With it, success can be a ratio: 8 successes with 2
	// failures allowed. 0 means none.
	ProbeFailures int
	// ProbeTimeout is the time after which a probe of which nothing has been heard counts as failed, so that a lost one cannot keep the
	// breaker half-open. The next use or outcome finds that out; a probe that ends before that is judged by its outcome. It should be
	// longer than leases are held, and than the slowest operation takes. 0 means 15 s.
	ProbeTimeout time.Duration
}

// Validate returns an error that names every field that is out of range, its value and what is allowed; nil when there is none.
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

// withDefaults returns c with every 0 that stands for a default replaced by it.
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

// openPeriod returns how long the breaker stays open after so many doublings of the period. draw, from 0 to 1, is its share of the jitter. The
// bounds hold after the jitter, which only shortens.
func (c Config) openPeriod(doublings int, draw float64) time.Duration {
	period := c.OpenFor
	for ; doublings > 0 && period < c.OpenMax; doublings-- {
		period += min(period, c.OpenMax-period)
	}
	return period - time.Duration(draw*max(c.Jitter, 0)*float64(period))
}

// settings shows c to people.
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
