package pool

import (
	"context"
	"log/slog"
	"sync"
)

// maxWarnings bounds the distinct warnings of a pool in the default logger. Without the bound, a
// layer with ever new warnings would fill the memory and the log.
const maxWarnings = 100

// warnings holds the warnings of a pool in the default logger. The zero value is ready for use.
type warnings struct {
	mu   sync.Mutex
	said map[warning]bool
}

// warning identifies a warning of a pool.
type warning struct{ layer, reason string }

// first reports whether one is said for the first time. last reports whether one reaches the bound.
func (w *warnings) first(one warning) (first, last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said[one] || len(w.said) >= maxWarnings {
		return false, false
	}
	if w.said == nil {
		w.said = map[warning]bool{}
	}
	w.said[one] = true
	return true, len(w.said) == maxWarnings
}

// warn gives an [EventWarning] of a pool without observers to the default logger, once in the life
// of the pool. The line has no Event.Err, because the text of an error may contain a secret. The
// caller holds no lock, so a handler of the logger may use the pool. A panic of the handler ends in
// warn.
func (h *hub) warn(ctx context.Context, e *Event) {
	h.sign(e)
	first, last := h.warnings.first(warning{e.Layer, e.Reason})
	if !first {
		return
	}
	defer func() { _ = recover() }()
	attrs := []slog.Attr{slog.String("pool", e.Pool), slog.String("layer", e.Layer), slog.String("reason", e.Reason)}
	if e.Stack != "" {
		attrs = append(attrs, slog.String("stack", e.Stack))
	}
	if last {
		attrs = append(attrs, slog.Bool("last", true)) // the pool says no further warning
	}
	slog.Default().LogAttrs(ctx, slog.LevelWarn, "pool: possibly unwanted effect", attrs...)
}
