package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// A logbook is a slog.Handler that counts log lines, and writes the lines to an optional file. The
// lines do not disturb the table. Messages of go-redis are counted too. A logbook is safe for
// concurrent use.
type logbook struct {
	file  slog.Handler // nil for none
	pages *pages
}

// pages are shared by a logbook and its derived handlers.
type pages struct {
	mu    sync.Mutex
	lines map[line]int
}

type line struct {
	level   slog.Level
	message string
}

// newLogbook returns a logbook. The logbook writes JSON to file, unless file is nil.
func newLogbook(file io.Writer) *logbook {
	b := &logbook{pages: &pages{lines: map[line]int{}}}
	if file != nil {
		b.file = slog.NewJSONHandler(file, &slog.HandlerOptions{Level: slog.LevelInfo})
	}
	return b
}

// Enabled implements slog.Handler.
func (b *logbook) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler.
func (b *logbook) Handle(ctx context.Context, r slog.Record) error {
	b.pages.mu.Lock()
	b.pages.lines[line{r.Level, r.Message}]++
	b.pages.mu.Unlock()
	if b.file == nil {
		return nil
	}
	return b.file.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (b *logbook) WithAttrs(attrs []slog.Attr) slog.Handler {
	derived := *b
	if b.file != nil {
		derived.file = b.file.WithAttrs(attrs)
	}
	return &derived
}

// WithGroup implements slog.Handler.
func (b *logbook) WithGroup(name string) slog.Handler {
	derived := *b
	if b.file != nil {
		derived.file = b.file.WithGroup(name)
	}
	return &derived
}

// summary lists the lines with their counts: by descending level, and then by descending count.
func (b *logbook) summary() []string {
	b.pages.mu.Lock()
	defer b.pages.mu.Unlock()
	keys := slices.SortedFunc(maps.Keys(b.pages.lines), func(x, y line) int {
		if x.level != y.level {
			return int(y.level - x.level)
		}
		return b.pages.lines[y] - b.pages.lines[x]
	})
	var all []string
	for _, k := range keys {
		all = append(all, fmt.Sprintf("%d %v %q", b.pages.lines[k], k.level, k.message))
	}
	return all
}

// redisLog sends the messages of go-redis to the log. By default go-redis prints to standard error.
type redisLog struct{ log *slog.Logger }

// Printf implements the logger of go-redis.
func (l redisLog) Printf(ctx context.Context, format string, args ...any) {
	l.log.LogAttrs(ctx, slog.LevelInfo, "go-redis says something by itself", slog.String("text", fmt.Sprintf(format, args...)))
}
