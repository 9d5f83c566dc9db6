package pool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// logged is a slog.Handler that keeps the lines of the default logger.
type logged struct {
	slog.Handler

	mu    sync.Mutex
	lines []string
	meet  func() // called for each line; may be nil
}

// defaultLogger makes l the default logger of the process until the end of the test.
func defaultLogger(t *testing.T) *logged {
	t.Helper()
	l := &logged{}
	l.Handler = slog.NewTextHandler(l, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	before, output, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(l))
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(output)
		log.SetFlags(flags)
	})
	return l
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(string(line)))
	return len(line), nil
}

func (l *logged) Handle(ctx context.Context, r slog.Record) error {
	if l.meet != nil {
		l.meet()
	}
	return l.Handler.Handle(ctx, r)
}

// take returns the lines so far, and forgets the lines.
func (l *logged) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// speaker is a layer that emits a warning within each use.
type speaker struct{ event pool.Event }

func (s speaker) Wrap(next pool.Handler) pool.Handler {
	return func(ctx context.Context, c *pool.Call) error {
		c.Emit(ctx, s.event)
		return next(ctx, c)
	}
}

func surprise(format string, args ...any) pool.Event {
	return pool.Event{Kind: pool.EventWarning, Layer: "their", Reason: fmt.Sprintf(format, args...)}
}

const (
	saidNoAttempt = `level=WARN msg="pool: possibly unwanted effect" pool=cache layer=pool` +
		` reason="retry without a timeout for each attempt: one attempt can use up all the time"`
	saidNoTotal = `level=WARN msg="pool: possibly unwanted effect" pool=cache layer=pool` +
		` reason="retry without a timeout for the whole use: attempts and pauses add up"`
)

// Without an observer, the warnings of New, of new settings and of layers go to the default logger,
// each warning once in the life of the pool.
func TestWarningsWithoutObserver(t *testing.T) {
	said := defaultLogger(t)
	attempt := tunableLayer("their.attempt", pool.RoleAttempt)
	p := newPool(t, &pooltest.Fake{}, pool.Config{Name: "cache"}, described{orderKinds["retry"]}, attempt, speaker{surprise("heard in a use")})
	if got := said.take(); !slices.Equal(got, []string{saidNoAttempt, saidNoTotal}) {
		t.Errorf("New says\n%q", got)
	}
	for range 3 {
		if err := p.Do(background, op, func(context.Context, conn) error { return nil }); err != nil {
			t.Fatal(err)
		}
		p.Emit(surprise("heard outside"))
	}
	want := []string{
		`level=WARN msg="pool: possibly unwanted effect" pool=cache layer=their reason="heard in a use"`,
		`level=WARN msg="pool: possibly unwanted effect" pool=cache layer=their reason="heard outside"`,
	}
	if got := said.take(); !slices.Equal(got, want) {
		t.Errorf("the layers say\n%q, want\n%q", got, want)
	}
	want = []string{`level=WARN msg="pool: possibly unwanted effect" pool=cache layer=pool` +
		` reason="AcquireTimeout (2s) is longer than their.attempt (1s): a use may wait for its resource for longer than it may then use it"`}
	for range 3 { // the warning of New and the new warning come and go
		attempt.configure(time.Second, 0)
		attempt.configure(0, 0)
		if got := said.take(); !slices.Equal(got, want) {
			t.Errorf("new settings say\n%q, want\n%q", got, want)
		}
		want = nil
	}
	p.Pause(nil)
	p.Resume()
	if got := said.take(); got != nil {
		t.Errorf("events other than warnings are said: %q", got)
	}
	newPool(t, &pooltest.Fake{}, pool.Config{Name: "other"}, described{orderKinds["retry"]})
	if got := said.take(); len(got) != 2 || !strings.Contains(got[0], "pool=other") {
		t.Errorf("a second pool says %q", got)
	}
}

// An observer keeps the default logger silent, also an observer that ignores the warning.
func TestWarningsWithObserver(t *testing.T) {
	said := defaultLogger(t)
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, described{orderKinds["retry"]}, newListener(), speaker{surprise("heard in a use")})
	acquire(t, p).Release(nil)
	p.Emit(surprise("heard outside"))
	if got := said.take(); got != nil {
		t.Errorf("the default logger says %q", got)
	}
}

// The line contains neither the text of an error nor any field that may come from a caller.
func TestWarningsWithoutSecrets(t *testing.T) {
	said := defaultLogger(t)
	p := newPool(t, &pooltest.Fake{}, pool.Config{Name: "cache"})
	e := surprise("left behind")
	e.Err, e.Op, e.Stack = errors.New("auth with s3cret"), pool.Op{Name: "s3cret", Key: "s3cret"}, "main.go:1"
	p.Emit(e)
	want := []string{`level=WARN msg="pool: possibly unwanted effect" pool=cache layer=their reason="left behind" stack=main.go:1`}
	if got := said.take(); !slices.Equal(got, want) {
		t.Errorf("the line is\n%q, want\n%q", got, want)
	}
}

// No lock is held while the handler of the logger runs: the handler may use the pool, and may even
// emit the same warning. A panic of the handler ends in the pool.
func TestWarningsHandlerUsesThePool(t *testing.T) {
	said := defaultLogger(t)
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, speaker{surprise("heard in a use")})
	met := 0
	said.meet = func() {
		met++
		acquire(t, p).Release(nil)
		p.Emit(surprise("heard outside"))
		if p.Stat().InUse != 0 || p.Effective().MaxSize != 10 {
			t.Error("the pool has lost its books")
		}
		panic("no disk")
	}
	p.Emit(surprise("heard outside"))
	acquire(t, p).Release(nil)
	if met != 2 { // the second meeting is within the first meeting
		t.Errorf("the handler has been called %d times", met)
	}
}

// Concurrent reports of the same warnings give a line for each warning.
func TestWarningsConcurrently(t *testing.T) {
	said := defaultLogger(t)
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 4}, speaker{surprise("in a use")})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 20 {
				acquire(t, p).Release(nil)
				p.Emit(surprise("number %d", i))
			}
		})
	}
	wg.Wait()
	if got := said.take(); len(got) != 21 {
		t.Errorf("%d lines, want 21: %q", len(got), got)
	}
}

// A layer with ever new warnings fills neither the log nor the memory.
func TestWarningsAreBounded(t *testing.T) {
	said := defaultLogger(t)
	p := newPool(t, &pooltest.Fake{}, pool.Config{})
	for i := range 250 {
		p.Emit(surprise("number %d", i))
	}
	got := said.take()
	if len(got) != 100 || !strings.HasSuffix(got[99], `reason="number 99" last=true`) || strings.Contains(got[98], "last") {
		t.Errorf("%d lines, the latest are %q", len(got), got[max(len(got)-2, 0):])
	}
}
