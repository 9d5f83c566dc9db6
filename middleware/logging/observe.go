package logging

import (
	"context"
	"log/slog"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/settings"
)

// line tells how an event is logged.
type line struct {
	level    slog.Level
	message  string
	duration string // the key of Event.Duration; "" if the event has none
	always   bool   // never left out by sampling
	own      bool   // the error is the driver's or the operator's, not a use's
}

// lines holds the kinds of events with their lines. Most DEBUG events are details of failed uses.
// The failure itself is logged at the end of the use.
var lines = map[pool.EventKind]line{
	pool.EventAcquireFailed: {level: slog.LevelDebug, message: "no connection acquired", duration: took},
	pool.EventOpened:        {level: slog.LevelDebug, message: "connection opened", duration: took},
	pool.EventOpenFailed:    {level: slog.LevelWarn, message: "connection could not be opened", duration: took, own: true},
	pool.EventCheckFailed:   {level: slog.LevelInfo, message: "connection check failed", own: true},
	pool.EventClosed:        {level: slog.LevelDebug, message: "connection closed", own: true},
	pool.EventLeaked:        {level: slog.LevelWarn, message: "lease is out for too long", duration: "held"},
	pool.EventPaused:        {level: slog.LevelWarn, message: "pool paused", always: true, own: true},
	pool.EventResumed:       {level: slog.LevelInfo, message: "pool resumed", always: true},
	pool.EventCleared:       {level: slog.LevelInfo, message: "pool cleared", always: true},
	pool.EventConfigured:    {level: slog.LevelInfo, message: "configuration changed", always: true},
	pool.EventWarning:       {level: slog.LevelWarn, message: "possibly unwanted effect", always: true},
	pool.EventRetry:         {level: slog.LevelDebug, message: "repeating a failed attempt", duration: pause},
	pool.EventGaveUp:        {level: slog.LevelDebug, message: "gave up repeating", duration: pause},
	pool.EventStateChanged:  {level: slog.LevelInfo, message: stateChanged, duration: "next_probe", always: true},
	pool.EventRejected:      {level: slog.LevelDebug, message: "use refused", duration: "retry_after"},
	pool.EventTimeout:       {level: slog.LevelInfo, message: "time limit hit", duration: "limit"},
}

const (
	stateChanged = "state changed"
	took         = "duration" // the duration of the reported step
	pause        = "pause"    // before the attempt, or in which the use was given up
)

// lineOf returns how e is logged. known reports whether lines holds the kind. An event of another
// package with From and To is logged as a change of state.
func lineOf(e pool.Event) (l line, known bool) {
	l, known = lines[e.Kind]
	switch {
	case e.Kind == pool.EventStateChanged && e.To == "open":
		l.level = slog.LevelWarn
	case !known && e.From != "" && e.To != "":
		l = line{level: slog.LevelInfo, message: stateChanged, duration: took, always: true}
	case !known:
		l = line{level: slog.LevelDebug, message: "event", duration: took}
	}
	return l, known
}

// WantsEvent reports whether events of kind k are logged. Acquired and released are not logged:
// every use has both.
func (w *writer) WantsEvent(k pool.EventKind) bool {
	return k != pool.EventAcquired && k != pool.EventReleased
}

// Observe logs the event.
func (w *writer) Observe(ctx context.Context, e pool.Event) {
	if !w.WantsEvent(e.Kind) {
		return // passed on by another layer
	}
	l, known := lineOf(e)
	if !w.logger().Enabled(ctx, l.level) {
		return
	}
	suppressed := 0
	if !l.always {
		var ok bool
		a := about{pool: e.Pool, kind: string(e.Kind), layer: e.Layer, reason: e.Reason, level: l.level}
		if suppressed, ok = w.sampler.admit(a); !ok {
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
	if root, ok := pool.Because(e.Err); ok {
		attrs = appendNonEmpty(attrs, "cause", root.Type)
	}
	attrs = appendNonEmpty(attrs, "from", e.From)
	attrs = appendNonEmpty(attrs, "to", e.To)
	if l.duration != "" && e.Duration > 0 {
		attrs = append(attrs, slog.Duration(l.duration, e.Duration))
	}
	if e.Err != nil && (l.own || w.errorText.Load()) {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	attrs = append(attrs, changed(e.Settings)...)
	attrs = appendNonEmpty(attrs, "stack", e.Stack)
	w.write(ctx, l.level, l.message, attrs, suppressed)
}

// changed returns the attributes of a change of settings; none for nil.
func changed(r *settings.Result) (attrs []slog.Attr) {
	if r == nil {
		return nil
	}
	attrs = append(attrs, slog.String("source", r.Source.String()))
	attrs = appendNonEmpty(attrs, "id", r.ID)
	attrs = appendNonEmpty(attrs, "actor", r.Actor)
	attrs = appendNonEmpty(attrs, "reason", r.Reason)
	attrs = append(attrs, slog.Uint64("revision", r.Revision))
	changes := make([]any, len(r.Changes))
	for i, c := range r.Changes {
		changes[i] = slog.String(c.Name, c.From+" to "+c.To)
	}
	return append(attrs, slog.Group("changes", changes...))
}
