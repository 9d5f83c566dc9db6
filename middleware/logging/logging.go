package logging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/settings"
)

const (
	kind            = "logging"
	defaultInterval = 10 * time.Second
	defaultEvery    = 1000
)

// Config holds the settings of a [Logging]. The zero Config is valid.
type Config struct {
	// Logger writes the lines. nil means slog.Default() at the time of each line. A line at a disabled
	// level costs only the check of the level. With slog.DiscardHandler, the layer does nothing.
	Logger *slog.Logger
	// Interval is the time for counting alike lines. After Interval the next line is written as a
	// first line. 0 means 10 s.
	Interval time.Duration
	// Every is the number of alike lines for each written line, after the first line. 0 means 1000. 1
	// writes all lines.
	Every int
	// ErrorText enables the error texts of uses. Borrowers, clients and servers make the texts, so a
	// text may hold keys, values or secrets. Without ErrorText, a line has the type of the error, and
	// for an error of the pool also the state of the pool.
	ErrorText bool
}

// configSpec lists the settings of a logging layer. Logger has no text.
var configSpec = settings.Spec[Config]{Layer: kind, Fields: []settings.Entry[Config]{
	settings.Duration(func(c *Config) *time.Duration { return &c.Interval }, settings.Field{
		Go: "Interval", Allowed: fmt.Sprintf("0 (default %v) or more", defaultInterval), Effect: "intervals in progress keep their end",
		Help: "The time for counting alike lines.",
	}),
	settings.Int(func(c *Config) *int { return &c.Every }, settings.Field{
		Go: "Every", Unit: "lines", Allowed: fmt.Sprintf("0 (default %d) or more", defaultEvery),
		Help: "The number of alike lines for each written line, after the first line. 1 writes all lines.",
	}),
	settings.Bool(func(c *Config) *bool { return &c.ErrorText }, settings.Field{
		Go: "ErrorText", Help: "Error texts of uses are written. A text may hold keys, values or secrets.",
	}),
}}

// Validate returns an error naming every invalid field and its allowed values. Validate returns nil
// if all fields are valid. The error joins a *[settings.FieldError] for each field.
func (c Config) Validate() error { return configSpec.Validate(c) }

// withDefaults returns c with defaults in place of 0.
func (c Config) withDefaults() Config {
	c.Interval = cmp.Or(c.Interval, defaultInterval)
	c.Every = cmp.Or(c.Every, defaultEvery)
	return c
}

// Logging is the logging layer. Create a Logging with [New]. A Logging may serve several pools,
// concurrently, and needs no closing.
type Logging struct {
	live     *settings.Live[Config]
	attached pool.Attached
	logger   *slog.Logger // of New; nil means slog.Default()
	writer   *writer      // nil with slog.DiscardHandler
}

// New returns a Logging with the settings cfg. New returns the error of [Config.Validate] if cfg is
// invalid.
func New(cfg Config) (*Logging, error) {
	l := &Logging{logger: cfg.Logger}
	var err error
	l.live, err = settings.New(&configSpec, cfg, settings.Hooks[Config]{Fill: l.fill, Validate: l.validate, Apply: l.configure, Report: l.report})
	if err != nil {
		return nil, err
	}
	if cfg.Logger == nil || cfg.Logger.Handler() != slog.DiscardHandler {
		filled := cfg.withDefaults()
		l.writer = &writer{fixed: cfg.Logger, sampler: newSampler(filled.Interval, filled.Every)}
		l.writer.errorText.Store(cfg.ErrorText)
	}
	return l, nil
}

// Config returns the settings declared by New or Configure: a field that was not set is 0 or nil.
func (l *Logging) Config() Config { return l.live.Config() }

// Effective returns the settings in force: the merge of all sources, with defaults in place of 0. A
// nil Logger stays nil, because slog.Default() may change.
func (l *Logging) Effective() Config { return l.live.Effective() }

// Configure replaces the settings declared by code. A field declared by a higher source keeps its
// value (see package settings); the pools then report a warning. Logger cannot change: the value
// must be nil or the logger given to New. Configure reports a [pool.EventConfigured]. After an
// error, the settings are unchanged.
func (l *Logging) Configure(cfg Config) error { return l.live.Configure(cfg) }

// Tuning implements [settings.Tunable].
func (l *Logging) Tuning() *settings.Tuning { return l.live.Tuning() }

// Attach implements [pool.Attacher]. The observers of the pool receive the event of Configure.
func (l *Logging) Attach(p pool.PoolInfo) (detach func(), err error) { return l.attached.Add(p), nil }

// fill returns cfg with the logger in use, and defaults in place of 0.
func (l *Logging) fill(cfg Config) Config {
	cfg.Logger = l.logger
	return cfg.withDefaults()
}

func (l *Logging) validate(cfg Config) error {
	return errors.Join(cfg.Validate(), settings.Unchanged(kind, "Logger", cfg.Logger, l.logger))
}

// configure puts cfg in force.
func (l *Logging) configure(cfg Config) {
	if l.writer == nil {
		return
	}
	cfg = cfg.withDefaults()
	l.writer.errorText.Store(cfg.ErrorText)
	l.writer.sampler.configure(cfg.Interval, cfg.Every)
}

func (l *Logging) report(r settings.Result) {
	l.attached.Emit(pool.Event{Kind: pool.EventConfigured, Layer: kind, Settings: &r})
}

// Wrap implements [pool.Middleware].
func (l *Logging) Wrap(next pool.Handler) pool.Handler {
	if l.writer == nil {
		return next
	}
	return pool.Bracket(&layer{l.writer}).Wrap(next)
}

// Unwrap returns the observer of the layer, for [pool.New]. With slog.DiscardHandler, Unwrap
// returns nil.
func (l *Logging) Unwrap() []any {
	if l.writer == nil {
		return nil
	}
	return []any{l.writer}
}

// Describe implements [pool.Describer].
func (l *Logging) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: kind, Role: pool.RoleObserve, Settings: l.live.Texts(), Events: []pool.Event{{Kind: pool.EventConfigured}}}
}

// layer logs the uses of a pool.
type layer struct{ w *writer }

// Begin reads the start time of the use, if failures are logged.
func (l *layer) Begin(ctx context.Context, c *pool.Call) (context.Context, struct{}, error) {
	if l.w.logger().Enabled(ctx, slog.LevelError) {
		c.Started()
	}
	return ctx, struct{}{}, nil
}

// End logs a failed use.
func (l *layer) End(ctx context.Context, c *pool.Call, _ struct{}, err error) {
	if err == nil || !l.w.logger().Enabled(ctx, slog.LevelError) {
		return
	}
	class := c.Classify(err)
	level := levelOf(class, err)
	if class.Miss || !l.w.logger().Enabled(ctx, level) {
		return
	}
	name := c.Identity().Name
	fault, cause := class.Fault, ""
	if root, ok := pool.Because(err); ok && fault == driver.FaultLocal {
		fault, cause = root.Fault, root.Type
	}
	suppressed, ok := l.w.sampler.admit(about{pool: name, kind: useFailed, reason: class.Type, level: level, fault: fault})
	if !ok {
		return
	}
	attrs := l.w.begin(name, c.Op(), c.Attempt())
	attrs = append(attrs, slog.String("error_type", class.Type), slog.String("fault", fault.String()))
	attrs = appendNonEmpty(attrs, "cause", cause)
	attrs = append(attrs, slog.Duration(took, time.Since(c.Started())))
	attrs = append(attrs, l.w.why(err)...)
	l.w.write(ctx, level, useFailed, attrs, suppressed)
}

const useFailed = "use failed"

// why returns the attributes for the error of a use.
func (w *writer) why(err error) (attrs []slog.Attr) {
	if refused := (*pool.Error)(nil); errors.As(err, &refused) {
		s := refused.Occupancy
		attrs = append(attrs, slog.Group("state", slog.Int("in_use", s.InUse), slog.Int("max", s.Max), slog.Int("idle", s.Idle),
			slog.Int("opening", s.Opening), slog.Int("waiters", s.Waiters), slog.Duration("oldest_lease", s.OldestLease)))
	}
	if w.errorText.Load() {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	return attrs
}

// levelOf returns the level of a failed use. Operators need to see failures of the server (ERROR)
// and of this process (WARN). Failures by the caller, and errors for the caller to handle, are
// DEBUG.
func levelOf(class driver.Class, err error) slog.Level {
	switch {
	case class.Fault == driver.FaultServer:
		return slog.LevelError
	case class.Fault == driver.FaultLocal, errors.Is(err, pool.ErrAborted):
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// writer writes lines.
type writer struct {
	fixed     *slog.Logger // nil means slog.Default()
	sampler   *sampler
	errorText atomic.Bool
}

func (w *writer) logger() *slog.Logger {
	if w.fixed != nil {
		return w.fixed
	}
	return slog.Default()
}

// begin returns the first attributes of a line.
func (w *writer) begin(name string, op pool.Op, attempt int) []slog.Attr {
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String("pool", name))
	attrs = appendNonEmpty(attrs, "operation", op.Name)
	attrs = appendNonEmpty(attrs, "target", op.Target)
	if attempt > 1 {
		attrs = append(attrs, slog.Int("attempt", attempt))
	}
	return attrs
}

func appendNonEmpty(attrs []slog.Attr, key, value string) []slog.Attr {
	if value == "" {
		return attrs
	}
	return append(attrs, slog.String(key, value))
}

// write writes a line, and adds the last attributes: suppressed, trace_id and span_id.
func (w *writer) write(ctx context.Context, level slog.Level, message string, attrs []slog.Attr, suppressed int) {
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		attrs = append(attrs, slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	w.logger().LogAttrs(ctx, level, message, attrs...)
}
