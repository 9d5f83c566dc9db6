package logging

import (
	"context"
	"log/slog"

	"github.com/earnorm/poolstack/pool"
)

// line is how an event is logged.
type line struct {
	level    slog.Level
	message  string
	duration string // the name of its Duration; "" if it has none
	always   bool   // it is not sampled
}

// lines has the events that are logged. Those at DEBUG are what the failure of a use, logged at its end, is made up of.
var lines = map[pool.Kind]line{
	pool.EventAcquireFailed: {level: slog.LevelDebug, message: "no connection acquired", duration: "duration"},
	pool.EventOpened:        {level: slog.LevelDebug, message: "connection opened", duration: "duration"},
	pool.EventOpenFailed:    {level: slog.LevelWarn, message: "connection could not be opened", duration: "duration"},
	pool.EventCheckFailed:   {level: slog.LevelInfo, message: "connection check failed"},
	pool.EventClosed:        {level: slog.LevelDebug, message: "connection closed"},
	pool.EventLeaked:        {level: slog.LevelWarn, message: "lease is out for too long", duration: "held"},
	pool.EventPaused:        {level: slog.LevelWarn, message: "pool paused", always: true},
	pool.EventResumed:       {level: slog.LevelInfo, message: "pool resumed", always: true},
	pool.EventCleared:       {level: slog.LevelInfo, message: "pool cleared", always: true},
	pool.EventConfigured:    {level: slog.LevelInfo, message: "configuration changed", always: true},
	pool.EventWarning:       {level: slog.LevelWarn, message: "warning", always: true},
	pool.EventRetry:         {level: slog.LevelDebug, message: "attempt failed, will repeat", duration: "pause"},
	pool.EventGaveUp:        {level: slog.LevelDebug, message: "gave up repeating"},
	pool.EventStateChanged:  {level: slog.LevelInfo, message: "state changed", duration: "next_probe", always: true},
	pool.EventRejected:      {level: slog.LevelDebug, message: "use refused", duration: "retry_after"},
	pool.EventTimeout:       {level: slog.LevelInfo, message: "time limit hit", duration: "limit"},
}

// Observe logs the event.
func (w *writer) Observe(ctx context.Context, e pool.Event) {
	if e.Kind == pool.EventAcquired || e.Kind == pool.EventReleased {
		return // there is one of each in every use
	}
	l, known := lines[e.Kind]
	if !known {
		l = line{level: slog.LevelDebug, message: "event", duration: "duration"}
	}
	if e.Kind == pool.EventStateChanged && e.To == "open" {
		l.level = slog.LevelWarn
	}
	if !w.logger().Enabled(ctx, l.level) {
		return
	}
	suppressed := 0
	if !l.always {
		var ok bool
		if suppressed, ok = w.sampler.admit(about{pool: e.Pool, kind: string(e.Kind), layer: e.Layer, reason: e.Reason}); !ok {
			return
		}
	}
	attrs := w.begin(e.Pool, e.Op, e.Attempt)
	if e.Layer != "pool" {
		attrs = appendNonEmpty(attrs, "layer", e.Layer)
	}
	if !known {
		attrs = append(attrs, slog.String("kind", string(e.Kind)))
	}
	attrs = appendNonEmpty(attrs, "reason", e.Reason)
	attrs = appendNonEmpty(attrs, "from", e.From)
	attrs = appendNonEmpty(attrs, "to", e.To)
	if l.duration != "" && e.Duration > 0 {
		attrs = append(attrs, slog.Duration(l.duration, e.Duration))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	attrs = appendNonEmpty(attrs, "stack", e.Stack)
	w.write(ctx, l.level, l.message, attrs, suppressed)
}
