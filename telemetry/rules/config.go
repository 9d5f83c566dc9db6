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

// leastObjective is the smallest allowed objective in percent. With this objective, the burn rate
// of the first page (14.4) needs 86.4 % bad uses. Below 93.06, even a total failure would not reach
// 14.4.
const leastObjective = 94

// Config holds the parameters of the rules. The zero value works.
type Config struct {
	// Objective is the required percentage of good uses of a pool over 30 days. It is at least 94 and
	// less than 100. Zero means 99.9. A lower bound is necessary: below 93.06, even a total outage
	// would not reach the burn rate of the first page.
	Objective float64
	// Runbooks is the http or https address of a page with the text of RUNBOOK.md, without a fragment.
	// An alert's runbook_url is Runbooks, then #, then the alert's name in lower case. The empty
	// string means the page in this project's repository.
	Runbooks string
	// Labels are the labels of the rules' results, besides pool. Nil means job and instance. An empty
	// slice means pool alone. All series have job and instance, both scraped series and series sent
	// through a collector. The scrape configuration or the resource must add any other label.
	Labels []string

	// For is the minimum duration of waits, timeouts, high utilisation and old leases before an alert.
	// Zero means 5 m.
	For time.Duration
	// BreakerFor is the minimum time of an open or half-open breaker before an alert. Zero means 1 m.
	BreakerFor time.Duration
	// AbsentFor is the minimum time without any report from a target before an alert. Zero means 5 m.
	AbsentFor time.Duration
	// KeepFiring is how long the alerts of breakers and error budgets continue after their condition
	// has ended. An intermittent condition is then a single alert. Zero means 5 m.
	KeepFiring time.Duration

	// LeaseAge is the allowed age of a lease. Zero means 1 h. The alert is for pools without
	// pool.Config.LeakAfter, which is off by default and reports the borrower's stack.
	LeaseAge time.Duration
	// MinErrors is the minimum number of bad uses in the long window of an error budget's alert. Zero
	// means 10. With 1, a pool with a use a minute pages for a single failure.
	MinErrors int
}

// Validate returns nil, or an error with every invalid field, its value and the allowed values.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, allowed string) {
		errs = append(errs, fmt.Errorf("rules: %s is %v: must be %s", field, value, allowed))
	}
	// The negation also rejects NaN.
	if c.Objective != 0 && !(c.Objective >= leastObjective && c.Objective < 100) {
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
	// reserved are the labels set or aggregated by the rules.
	reserved = []string{"pool", "le", "severity", "window", "alertname"}
)

// checkRunbooks returns the empty string if address is valid, and otherwise a description of a
// valid address.
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

// redact hides user information, which may contain a password.
func redact(address string) string {
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		return "..." + address[at:]
	}
	return address
}

// withDefaults returns c with defaults in place of zero values.
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

// Budget returns the allowed ratio of bad uses: 0.001 for an objective of 99.9 %.
func (c Config) Budget() float64 {
	const digits = 1e12 // rounds off the binary representation error
	return math.Round((1-c.withDefaults().Objective/100)*digits) / digits
}
