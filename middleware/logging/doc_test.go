package logging

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// The rows of the table of lines in the package documentation that are no kind of event, and the
// error or event of each row.
var special = map[string]struct {
	err error
	e   pool.Event
}{
	"by the server's fault":               {err: pooltest.ErrRefused},
	"by local fault":                      {err: refusal{}},
	"aborted by a panic":                  {err: pool.ErrAborted},
	"by the caller's fault":               {err: context.Canceled},
	"by nobody's fault":                   {err: pooltest.ErrReply},
	"elsewhere":                           {err: errors.New("the function's own")},
	"state_changed to open":               {e: pool.Event{Kind: pool.EventStateChanged, From: "closed", To: "open"}},
	"state_changed otherwise":             {e: pool.Event{Kind: pool.EventStateChanged, From: "open", To: "half-open"}},
	"another package's, with From and To": {e: pool.Event{Kind: "mine", From: "a", To: "b"}},
	"another package's":                   {e: pool.Event{Kind: "mine"}},
}

var row = regexp.MustCompile(`^//\t(DEBUG|INFO|WARN|ERROR) +(\S.*?) {2,}(.*)$`)

// The table of lines in the package documentation agrees with the written lines, and has a row for
// each line.
func TestDocumentedLines(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		parts := row.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if parts == nil {
			continue
		}
		about := parts[2]
		seen[about] = true
		s, isSpecial := special[about]
		if !isSpecial {
			s.e.Kind = pool.EventKind(about)
			if _, known := lines[s.e.Kind]; !known {
				t.Errorf("%q is no kind of event", about)
			}
		}
		if level, message := written(t, s.err, s.e); level != parts[1] || message != parts[3] {
			t.Errorf("%s: %s %q is written, %s %q documented", about, level, message, parts[1], parts[3])
		}
	}
	for about := range special {
		if !seen[about] {
			t.Errorf("%q is not documented", about)
		}
	}
	for kind := range lines {
		if !seen[string(kind)] && kind != pool.EventStateChanged {
			t.Errorf("%s is not documented", kind)
		}
	}
}

// written returns the level and the message of the line for a use that ends with err. If err is
// nil, written returns the level and the message of the line for e.
func written(t *testing.T, err error, e pool.Event) (level, message string) {
	t.Helper()
	var got slog.Record
	layer, failed := New(Config{Logger: slog.New(catcher{&got})})
	if failed != nil {
		t.Fatal(failed)
	}
	if err == nil {
		layer.writer.Observe(context.Background(), e)
		return got.Level.String(), got.Message
	}
	fake := &pooltest.Fake{}
	p, failed := pool.New(fake, pool.Config{}, unobserving{layer})
	if failed != nil {
		t.Fatal(failed)
	}
	defer func() { _ = p.Close(context.Background()) }()
	if got := p.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return err }); !errors.Is(got, err) {
		t.Errorf("Do returned %v", got)
	}
	return got.Level.String(), got.Message
}

// unobserving hides that the layer hears of events, so that only the end of the use is logged.
type unobserving struct{ l *Logging }

func (u unobserving) Wrap(next pool.Handler) pool.Handler { return u.l.Wrap(next) }

// catcher is a handler that keeps the last record.
type catcher struct{ last *slog.Record }

func (c catcher) Enabled(context.Context, slog.Level) bool      { return true }
func (c catcher) Handle(_ context.Context, r slog.Record) error { *c.last = r; return nil }
func (c catcher) WithAttrs([]slog.Attr) slog.Handler            { return c }
func (c catcher) WithGroup(string) slog.Handler                 { return c }
