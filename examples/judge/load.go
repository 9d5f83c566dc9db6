package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"sync"
	"time"
)

// A load describes the callers. In an open load, callers arrive at a rate, whether or not earlier
// callers have been served. In a closed load, a caller returns as soon as the caller has been
// served.
type load struct {
	rate    float64 // uses a second; 0: closed
	callers int     // of a closed load
	burst   int     // uses at the start, all at once
	lasts   time.Duration
	cancels bool // callers cancel at their deadline, without a deadline in the context
}

// A record is the outcome of a use. Times count from the start of the load.
type record struct {
	use
	begin, end time.Duration
	outcome    outcome
	late       bool // the answer came after the deadline
}

// outcome is how a use ended.
type outcome uint8

const (
	answered outcome = iota
	failed
	turnedAway // rejected by the stack without the server
)

// inTime reports whether the caller was served before the deadline.
func (r record) inTime() bool { return r.outcome == answered && !r.late }

const (
	// comeback is the pause of a caller of a closed load after a failure. Without the pause, a caller
	// would ask for a million rejections.
	comeback = 5 * time.Millisecond
	// patience bounds the wait for uses in progress after the end of the load. A bare client may need
	// all of patience.
	patience = 15 * time.Second
)

// A caller makes uses of a client and records the outcomes.
type caller struct {
	client   client
	deadline time.Duration
	cancels  bool
	start    time.Time

	mu      sync.Mutex
	records []record
	errors  map[string]int // how often each was met; numbers are left out
}

// explain makes a run print its errors in the end.
var explain bool

var digits = regexp.MustCompile(`[0-9][0-9.]*`)

// note keeps an error for complain.
func (c *caller) note(err error) {
	if explain && err != nil {
		if c.errors == nil {
			c.errors = map[string]int{}
		}
		c.errors[digits.ReplaceAllString(err.Error(), "#")]++
	}
}

// complain prints the errors of uses, the most frequent first.
func (c *caller) complain(who string) {
	texts := slices.SortedFunc(maps.Keys(c.errors), func(a, b string) int { return c.errors[b] - c.errors[a] })
	for _, text := range texts[:min(len(texts), 8)] {
		fmt.Fprintf(os.Stderr, "judge: %s: %d times: %s\n", who, c.errors[text], text)
	}
}

// ask makes a use.
func (c *caller) ask(ctx context.Context, u use) record {
	begin := time.Since(c.start)
	var cancel context.CancelFunc
	if c.cancels {
		ctx, cancel = context.WithCancel(ctx)
		defer time.AfterFunc(c.deadline, cancel).Stop()
	} else {
		ctx, cancel = context.WithTimeout(ctx, c.deadline)
	}
	defer cancel()
	err := c.client.do(ctx, u)
	r := record{use: u, begin: begin, end: time.Since(c.start)}
	r.late = r.end-r.begin > c.deadline
	switch {
	case err == nil:
	case refused(err):
		r.outcome = turnedAway
	default:
		r.outcome = failed
	}
	c.mu.Lock()
	c.records = append(c.records, r)
	c.note(err)
	c.mu.Unlock()
	return r
}

// run makes the uses of a load and returns when the last has ended.
func (c *caller) run(l load, mix func(i int) kind) []record {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.cancels = l.cancels
	var uses sync.WaitGroup
	if l.rate > 0 || l.burst > 0 {
		c.open(ctx, l, mix, &uses)
	} else {
		c.closed(ctx, l, mix, &uses)
	}
	defer time.AfterFunc(patience, cancel).Stop()
	uses.Wait()
	return c.records
}

func (c *caller) open(ctx context.Context, l load, mix func(i int) kind, uses *sync.WaitGroup) {
	for i := range l.burst {
		uses.Go(func() { c.ask(ctx, use{mix(i), i}) })
	}
	for i := range int(l.rate * l.lasts.Seconds()) {
		time.Sleep(time.Until(c.start.Add(time.Duration(float64(i) / l.rate * float64(time.Second)))))
		id := l.burst + i
		uses.Go(func() { c.ask(ctx, use{mix(id), id}) })
	}
}

func (c *caller) closed(ctx context.Context, l load, mix func(i int) kind, uses *sync.WaitGroup) {
	over := c.start.Add(l.lasts)
	for n := range l.callers {
		uses.Go(func() {
			for id := n; time.Now().Before(over); id += l.callers {
				if r := c.ask(ctx, use{mix(id), id}); r.outcome != answered {
					time.Sleep(comeback)
				}
			}
		})
	}
}
