package breaker

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/earnorm/poolstack/pool/settings"
)

// Defaults of [Config].
const (
	defaultWindow       = 10 * time.Second
	defaultBuckets      = 10
	defaultFailureRatio = 1
	defaultMinCalls     = 20
	defaultSlowRatio    = 0.5
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
	minSlow    = 5 * tick // the clock that measures calls has steps of a tick
	maxName    = 100
)

// Config holds the settings of a [Breaker]: when the breaker opens and how the breaker closes
// again. The zero Config is valid. A Config is a plain value. To change settings, pass a changed
// copy to [Breaker.Configure].
type Config struct {
	// Name tells the breaker from another breaker around the same pool: in events, in metrics and in
	// the errors of its rejections. A Name has no spaces and at most 100 characters. "" means no name:
	// the breaker is called by its kind, "breaker". Configure cannot change the name.
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
	// MinCalls is the minimum number of attempts in the window for FailureRatio and SlowRatio to
	// apply. 0 means 20.
	MinCalls int
	// ConsecutiveFailures opens the breaker after this number of failures without a success between
	// them, in any length of time. Outcomes count in the order of their arrival. Duplicates do not
	// count. A failure is a duplicate if its attempt was in progress when the first failure ended. A
	// lost connection is a duplicate if its attempt was in progress when the latest failure ended. 0
	// means an automatic number: at least 5 failures in at least 300 ms. The number grows where other
	// attempts fail too, so chance does not explain the failures. Negative disables this rule.
	ConsecutiveFailures int

	// SlowCall is the time from which an attempt is slow, to within 10 ms. The time counts from the
	// acquisition of the resource to the end of the attempt. Leases are never slow, because their time
	// is up to the caller, and neither is an Op with a negative Limit. At least 50 ms. 0 means that no
	// attempt is slow.
	SlowCall time.Duration
	// SlowRatio opens the breaker when at least this share of the attempts in the window is slow,
	// whether or not the attempts succeed. Then a slow probe has failed. At most 1. 0 means 0.5.
	SlowRatio float64

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
	// RampUp is the time after a recovery in which the breaker lets a growing share of the uses pass:
	// a tenth at first, and then as much more as time has passed. The breaker rejects the other uses.
	// Only operations rejected by the open breaker are concerned. 0 means no ramp-up.
	RampUp time.Duration

	// ProbeTimeout is the time after which a probe without an outcome counts as failed. So a lost
	// probe cannot keep the breaker half-open. The breaker compares the time at the next use or
	// outcome. A probe that ends earlier is judged by its outcome. ProbeTimeout should be longer than
	// any lease and any operation takes. 0 means 15 s.
	ProbeTimeout time.Duration
}

// automatic is the text of a 0 without a fixed meaning.
const automatic = "automatic"

// configSpec lists the settings of a breaker.
var configSpec = settings.Spec[Config]{Layer: kind, Fields: []settings.Entry[Config]{
	settings.Duration(func(c *Config) *time.Duration { return &c.Window }, settings.Field{
		Go: "Window", Min: minBucket.String(), Allowed: "0 (default 10s) or at least 1ms for each bucket", Effect: "the window starts empty",
		Help: "The length of time over which outcomes are counted.",
	}),
	settings.Int(func(c *Config) *int { return &c.Buckets }, settings.Field{
		Go: "Buckets", Max: strconv.Itoa(maxBuckets), Allowed: fmt.Sprintf("between 0 (default %d) and %d", defaultBuckets, maxBuckets),
		Effect: "the window starts empty", Help: "The number of steps in the window.",
	}),
	settings.Float(func(c *Config) *float64 { return &c.FailureRatio }, settings.Field{
		Go: "FailureRatio", Max: "1", Allowed: "negative (off), 0 (default 1) or at most 1", Off: "no rule about the ratio",
		Help: "The share of failed attempts in the window that opens the breaker.",
	}),
	settings.Int(func(c *Config) *int { return &c.MinCalls }, settings.Field{
		Go: "MinCalls", Unit: "attempts", Allowed: "0 (default 20) or more",
		Help: "The minimum number of attempts in the window for failure_ratio to apply.",
	}),
	settings.Int(func(c *Config) *int { return &c.ConsecutiveFailures }, settings.Field{
		Go: "ConsecutiveFailures", Unit: "failures", Allowed: "negative (off), 0 (automatic) or more",
		Zero:     "at least 5 failures in at least 300ms, and more while other attempts fail too",
		ZeroText: automatic, Off: "no rule about failures in a row",
		Help: "The number of failures without a success between them that opens the breaker.",
	}),
	settings.Duration(func(c *Config) *time.Duration { return &c.SlowCall }, settings.Field{
		Go: "SlowCall", Min: minSlow.String(), Off: "no attempt is slow", OffIsZero: true, Help: "The time from which an attempt is slow.",
	}),
	settings.Float(func(c *Config) *float64 { return &c.SlowRatio }, settings.Field{
		Go: "SlowRatio", Max: "1", Allowed: "0 (default 0.5) or at most 1",
		Help: "The share of slow attempts in the window that opens the breaker.",
	}),
	settings.Duration(func(c *Config) *time.Duration { return &c.OpenFor }, settings.Field{
		Go: "OpenFor", Min: minOpenFor.String(), Allowed: "0 (default 200ms) or at least 1ms", Effect: "an open period is measured again",
		Help: "The length of the open period, before jitter.",
	}),
	settings.Duration(func(c *Config) *time.Duration { return &c.OpenMax }, settings.Field{
		Go: "OpenMax", Min: minOpenFor.String(), Allowed: "0 (default 800ms) or at least OpenFor", Zero: "800ms, or open_for if open_for is longer",
		Effect: "an open period is measured again", Help: "The maximum of the open period, which doubles each time the probes fail.",
	}),
	settings.Float(func(c *Config) *float64 { return &c.Jitter }, settings.Field{
		Go: "Jitter", Max: "1", Below: true, Allowed: "negative (none), 0 (default 0.75) or less than 1", Off: "no jitter",
		Effect: "an open period is measured again", Help: "The maximum share by which an open period is shortened at random.",
	}),
	settings.Duration(func(c *Config) *time.Duration { return &c.LookMax }, settings.Field{
		Go: "LookMax", Allowed: "negative (off), 0 (default 1s) or more", Off: "no looks: only probes of users detect the return of the server",
		Help: "The maximum pause between looks of the pool itself at the server while the breaker is open.",
	}),
	settings.Int(func(c *Config) *int { return &c.Probes }, settings.Field{
		Go: "Probes", Unit: "attempts", Allowed: "0 (default 1) or more", Help: "The maximum number of probes in progress.",
	}),
	settings.Int(func(c *Config) *int { return &c.ProbeSuccesses }, settings.Field{
		Go: "ProbeSuccesses", Unit: "probes", Allowed: "0 (one of each operation) or more", Zero: "1 for each rejected operation", ZeroText: automatic,
		Help: "The number of successful probes that closes the breaker.",
	}),
	settings.Int(func(c *Config) *int { return &c.ProbeFailures }, settings.Field{
		Go: "ProbeFailures", Unit: "probes", Allowed: "0 (none) or more", Zero: "the first failure opens the breaker",
		Help: "The number of probes that may fail before the breaker opens again.",
	}),
	settings.Duration(func(c *Config) *time.Duration { return &c.RampUp }, settings.Field{
		Go: "RampUp", Off: "all uses pass after a recovery", OffIsZero: true, Effect: "a ramp-up in progress goes on as it began",
		Help: "The time after a recovery in which a growing share of the uses passes.",
	}),
	settings.Duration(func(c *Config) *time.Duration { return &c.ProbeTimeout }, settings.Field{
		Go: "ProbeTimeout", Allowed: "0 (default 15s) or more", Help: "The time after which a probe without an outcome counts as failed.",
	}),
}}

// Validate returns an error naming each invalid field, its value and the allowed values. Validate
// returns nil if all fields are valid. The error joins a *[settings.FieldError] for each field.
func (c Config) Validate() error {
	d := c.withDefaults()
	least := time.Duration(d.Buckets) * minBucket
	bucketsOK := c.Buckets >= 0 && c.Buckets <= maxBuckets
	return errors.Join(checkName(c.Name), configSpec.Validate(c, settings.Rule{
		Field: "Window", OK: !bucketsOK || d.Window >= least,
		Allowed: fmt.Sprintf("0 (default %v) or at least %v, for %d buckets", defaultWindow, least, d.Buckets),
	}, settings.Rule{
		Field: "OpenMax", OK: d.OpenMax >= d.OpenFor, Allowed: fmt.Sprintf("0 (default 800ms) or at least OpenFor, which is %v", d.OpenFor),
	}))
}

// checkName returns an error if name cannot be an attribute of metrics and a word in errors.
func checkName(name string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if len(name) <= maxName && utf8.ValidString(name) && !strings.ContainsFunc(name, bad) {
		return nil
	}
	return &settings.FieldError{
		Layer: kind, Field: "Name", Value: strconv.Quote(name[:min(len(name), maxName)]),
		Allowed: fmt.Sprintf("at most %d characters without spaces", maxName),
	}
}

// withDefaults returns c with the defaults in place of zero values.
func (c Config) withDefaults() Config {
	c.Window = cmp.Or(c.Window, defaultWindow)
	c.Buckets = cmp.Or(c.Buckets, defaultBuckets)
	c.FailureRatio = cmp.Or(c.FailureRatio, defaultFailureRatio)
	c.MinCalls = cmp.Or(c.MinCalls, defaultMinCalls)
	c.SlowRatio = cmp.Or(c.SlowRatio, defaultSlowRatio)
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
