package rules

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Defaults of [Config].
const (
	DefaultObjective = 99.9
	DefaultRunbooks  = "https://github.com/earnorm/poolstack/blob/main/telemetry/rules/RUNBOOK.md"

	defaultFor        = 5 * time.Minute
	defaultBreakerFor = time.Minute
	defaultAbsentFor  = 5 * time.Minute
	defaultKeepFiring = 5 * time.Minute
	defaultLeaseAge   = time.Hour
	defaultMinErrors  = 10
)

// leastObjective is the one at which nothing but a total failure burns the budget 14.4 times as fast as allowed.
const leastObjective = 94

// Config says what the rules are to be like. The zero Config works.
type Config struct {
	// Objective is how many percent of a pool's uses are to be good, over 30 days: from 94 up to, but not, 100. 0 means 99.9. Below 94
	// not even a total outage would burn the budget as fast as the first page asks for.
	Objective float64
	// Runbooks is the address of the page with the paragraphs of RUNBOOK.md: http or https, without a fragment. Each alert's
	// runbook_url is this, # and the alert's name in lower case. "" means the page in this project's repository.
	Runbooks string
	// Labels are those by which everything is told apart, besides the pool. nil means job and instance. Both are on all series, be
	// they scraped or sent through a collector; others must be put there by the scrape or the resource.
	Labels []string

	// For is how long waits, timeouts, utilisation and old leases must last to alert. 0 means 5 m.
	For time.Duration
	// BreakerFor is how long a breaker must be seen open or half-open to alert. 0 means 1 m.
	BreakerFor time.Duration
	// AbsentFor is how long a target must have reported nothing to alert. 0 means 5 m.
	AbsentFor time.Duration
	// KeepFiring is how long the alerts of breakers and of the error budget go on after their condition has ended, so that what comes
	// and goes is one alert. 0 means 5 m.
	KeepFiring time.Duration

	// LeaseAge is how long a lease may last. 0 means 1 h. pool.Config.LeakAfter, which names the culprit, is off by default; this is
	// for where it is.
	LeaseAge time.Duration
	// MinErrors is how many bad uses the long window of an error budget's alert must hold. 0 means 10; 1: each counts, and a pool with
	// one use a minute pages for a single failure.
	MinErrors int
}

// Validate returns an error that names every field that is out of range, its value and what is allowed; nil when there is none.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("rules: %s is %v: must be %s", field, value, allowed))
	}
	if c.Objective != 0 && !(c.Objective >= leastObjective && c.Objective < 100) { // not < and >=, which NaN is not either
		bad("Objective", c.Objective, "0 (default 99.9) or from 94 up to, but not, 100 percent")
	}
	if allowed := checkRunbooks(c.Runbooks); allowed != "" {
		bad("Runbooks", fmt.Sprintf("%q", redact(c.Runbooks)), allowed)
	}
	for i, l := range c.Labels {
		if !labelName.MatchString(l) || strings.HasPrefix(l, "__") || slices.Contains(reserved, l) {
			bad(fmt.Sprintf("Labels[%d]", i), fmt.Sprintf("%q", l), "the name of a label, and none of "+strings.Join(reserved, ", "))
		}
		if slices.Contains(c.Labels[:i], l) {
			bad(fmt.Sprintf("Labels[%d]", i), fmt.Sprintf("%q", l), "different from those before it")
		}
	}
	for _, d := range []struct {
		field string
		value time.Duration
		zero  time.Duration
	}{
		{"For", c.For, defaultFor},
		{"BreakerFor", c.BreakerFor, defaultBreakerFor},
		{"AbsentFor", c.AbsentFor, defaultAbsentFor},
		{"KeepFiring", c.KeepFiring, defaultKeepFiring},
		{"LeaseAge", c.LeaseAge, defaultLeaseAge},
	} {
		if d.value < 0 || d.value%time.Second != 0 {
			bad(d.field, d.value, fmt.Sprintf("0 (default %v) or whole seconds", d.zero))
		}
	}
	if c.MinErrors < 0 {
		bad("MinErrors", c.MinErrors, fmt.Sprintf("0 (default %d) or more", defaultMinErrors))
	}
	return errors.Join(errs...)
}

var (
	labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	// reserved are the labels that the rules set or sum over.
	reserved = []string{"pool", "le", "severity", "window", "alertname"}
)

// checkRunbooks returns what is allowed, "" when the address is.
func checkRunbooks(address string) string {
	const allowed = "an http or https address with a host, without a user, a fragment or spaces"
	if address == "" {
		return ""
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.ContainsAny(address, "# \"\\{}\n") {
		return allowed
	}
	return ""
}

// redact hides what may be a password.
func redact(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return "..." + address[at:]
	}
	return address
}

// withDefaults returns c with every 0 that stands for a default replaced by it.
func (c Config) withDefaults() Config {
	c.Objective = cmp.Or(c.Objective, DefaultObjective)
	c.Runbooks = cmp.Or(c.Runbooks, DefaultRunbooks)
	if c.Labels == nil {
		c.Labels = []string{"job", "instance"}
	}
	c.For = cmp.Or(c.For, defaultFor)
	c.BreakerFor = cmp.Or(c.BreakerFor, defaultBreakerFor)
	c.AbsentFor = cmp.Or(c.AbsentFor, defaultAbsentFor)
	c.KeepFiring = cmp.Or(c.KeepFiring, defaultKeepFiring)
	c.LeaseAge = cmp.Or(c.LeaseAge, defaultLeaseAge)
	c.MinErrors = cmp.Or(c.MinErrors, defaultMinErrors)
	return c
}

// Budget returns the part of the uses that may be bad: 0.001 for an objective of 99.9 %.
func (c Config) Budget() float64 {
	const digits = 1e12 // of what binary fractions leave behind
	return math.Round((1-c.withDefaults().Objective/100)*digits) / digits
}
