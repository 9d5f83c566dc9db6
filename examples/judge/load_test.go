package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// answers is a client that answers each use after a while, or as soon as its context ends.
type answers struct {
	takes time.Duration
	err   error
	deaf  bool // heeds no context
}

func (a answers) do(ctx context.Context, _ use) error {
	if a.deaf {
		ctx = context.Background()
	}
	timer := time.NewTimer(a.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (answers) warm(context.Context) (bool, error)                 { return true, nil }
func (answers) twice(context.Context, []int) (map[int]bool, error) { return nil, nil }
func (answers) close()                                             {}

// runLoad runs a load in a bubble and returns its records.
func runLoad(t *testing.T, a answers, l load) (records []record) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		c := &caller{client: a, deadline: time.Second, start: time.Now()}
		records = c.run(l, mostlyReads)
	})
	return records
}

// Callers of an open load arrive by rate, though nobody has been served yet.
func TestOpenLoad(t *testing.T) {
	records := runLoad(t, answers{takes: 900 * time.Millisecond}, load{rate: 10, burst: 3, lasts: 2 * time.Second})
	if len(records) != 23 {
		t.Fatalf("%d uses, want 3 at once and 20 by rate", len(records))
	}
	ids := map[int]bool{}
	for i, r := range records {
		ids[r.id] = true
		if want := time.Duration(max(0, i-3)) * 100 * time.Millisecond; r.begin != want || !r.inTime() {
			t.Errorf("use %d begins at %v, in time %t; want %v", i, r.begin, r.inTime(), want)
		}
	}
	if len(ids) != len(records) {
		t.Errorf("%d ids for %d uses", len(ids), len(records))
	}
}

// Callers of a closed load come again when they have been served, and a little later when they have
// not.
func TestClosedLoad(t *testing.T) {
	l := load{callers: 4, lasts: time.Second}
	if n := len(runLoad(t, answers{takes: 100 * time.Millisecond}, l)); n != 40 {
		t.Errorf("%d uses, want 4 callers with 10 each", n)
	}
	if n := len(runLoad(t, answers{err: pool.ErrExhausted}, l)); n != 4*int(time.Second/comeback) {
		t.Errorf("%d refused uses, want one each %v", n, comeback)
	}
}

func TestOutcomes(t *testing.T) {
	for name, tc := range map[string]struct {
		answers
		cancels bool
		want    outcome
		late    bool
		ends    time.Duration
	}{
		"in time":                  {answers{takes: time.Second / 2}, false, answered, false, time.Second / 2},
		"the deadline passes":      {answers{takes: time.Minute}, false, failed, false, time.Second},
		"the caller cancels":       {answers{takes: time.Minute}, true, failed, false, time.Second},
		"late, and heeds nothing":  {answers{takes: 2 * time.Second, deaf: true}, true, answered, true, 2 * time.Second},
		"refused":                  {answers{err: &pool.Error{Reason: pool.ErrOpen}}, false, turnedAway, false, 0},
		"an error of the server's": {answers{err: errors.New("ERR")}, false, failed, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			records := runLoad(t, tc.answers, load{burst: 1, cancels: tc.cancels})
			if len(records) != 1 {
				t.Fatalf("%d uses", len(records))
			}
			r := records[0]
			if r.outcome != tc.want || r.late != tc.late || r.end != tc.ends {
				t.Errorf("outcome %d, late %t, ends at %v; want %d, %t, %v", r.outcome, r.late, r.end, tc.want, tc.late, tc.ends)
			}
			if r.inTime() != (tc.want == answered && !tc.late) {
				t.Errorf("in time: %t", r.inTime())
			}
		})
	}
}
