package settings

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Hooks connect a [Live] to its layer. Each hook may be nil. Fill, Validate and Apply may be called
// while the Live holds its lock. So the three hooks may call the methods that read, such as Config,
// Effective and Tuning.Read. They must not call Configure, Apply or Preview, which wait for the
// lock.
type Hooks[C any] struct {
	// Fill returns c with defaults in place of zero values. nil means that c needs no defaults. Fill
	// is called at every read, so a default may depend on other things.
	Fill func(c C) C
	// Validate checks c before Fill. nil means the method Validate of C, or the bounds of the Spec if
	// C has no such method.
	Validate func(c C) error
	// Apply puts c in force. c is the merge of the sources before Fill. New does not call Apply. The
	// calls of Apply follow the order of the revisions.
	Apply func(c C)
	// Report reports an accepted change. No lock is held, and Report may be called concurrently.
	Report func(r Result)
}

// Live keeps the settings of a layer of type C: the values declared by each source, and the
// revision. [New] makes a Live. All methods may be called concurrently, and the methods that read
// take no lock.
type Live[C any] struct {
	spec   *Spec[C]
	hooks  Hooks[C]
	tuning Tuning

	changing sync.Mutex // held during a change
	state    atomic.Pointer[state[C]]
}

// state is a revision of the settings. A published state does not change.
type state[C any] struct {
	revision uint64
	code     C
	declared [sources]declared // without Code
	merged   C                 // of all sources, without defaults
}

// declared holds the values of a source, by name. Values have the form given by Entry.text.
type declared struct {
	id     string
	values map[string]string
}

// New makes a Live with the settings declared by code. The error is the error of Hooks.Validate for
// declared. New panics if two fields of spec have the same name.
func New[C any](spec *Spec[C], declared C, hooks Hooks[C]) (*Live[C], error) {
	for i := range spec.Fields {
		if name := spec.Fields[i].field.Name; spec.find(name) != &spec.Fields[i] {
			panic(fmt.Sprintf("settings: two fields of %s have the name %s", spec.Layer, name))
		}
	}
	l := &Live[C]{spec: spec, hooks: hooks}
	l.tuning.face = l
	if err := l.validate(declared); err != nil {
		return nil, err
	}
	l.state.Store(&state[C]{revision: 1, code: declared, merged: declared})
	return l, nil
}

// Tuning returns the untyped face of l, the same value at each call.
func (l *Live[C]) Tuning() *Tuning { return &l.tuning }

// Config returns the settings declared by code: a field that code has not set is 0.
func (l *Live[C]) Config() C { return l.state.Load().code }

// Effective returns the settings in force: the merge of all sources, with defaults in place of zero
// values.
func (l *Live[C]) Effective() C { return l.fill(l.state.Load().merged) }

// Texts returns the values in force as texts, by Field.Name. Secrets are [Hidden].
func (l *Live[C]) Texts() map[string]string { return l.texts(l.Effective()) }

// Configure replaces the settings declared by code. A field declared by a higher source keeps its
// value in force, and the report lists the field in Result.Held. The settings must be valid alone,
// and together with the other sources. The error is the error of Hooks.Validate, or names the
// sources in conflict. After an error, nothing has changed.
func (l *Live[C]) Configure(c C) error {
	if err := l.validate(c); err != nil {
		return err
	}
	_, err := l.change(Request{Source: Code}, false, func(next *state[C]) error { next.code = c; return nil })
	return err
}

func (l *Live[C]) layer() string { return l.spec.Layer }

func (l *Live[C]) fields() []Field {
	var zero C
	zero = l.fill(zero)
	fields := make([]Field, len(l.spec.Fields))
	for i := range fields {
		e := &l.spec.Fields[i]
		fields[i] = e.field
		fields[i].Default = e.shown(&zero)
	}
	return fields
}

func (l *Live[C]) read() State {
	s := l.state.Load()
	r := State{Revision: s.revision, Effective: l.texts(l.fill(s.merged)), Sources: []Declared{{Values: l.ofCode(&s.code)}}}
	for source, d := range s.declared {
		if len(d.values) == 0 {
			continue
		}
		values := maps.Clone(d.values)
		for name := range values {
			if l.spec.find(name).field.Secret {
				values[name] = Hidden
			}
		}
		r.Sources = append(r.Sources, Declared{Source(source), d.id, values})
	}
	return r
}

// ofCode returns the values declared by code.
func (l *Live[C]) ofCode(c *C) map[string]string {
	values := map[string]string{}
	for i := range l.spec.Fields {
		if e := &l.spec.Fields[i]; !e.zero(c) {
			values[e.field.Name] = e.shown(c)
		}
	}
	return values
}

func (l *Live[C]) apply(r Request, preview bool) (Result, error) {
	if r.Source == Code || int(r.Source) >= sources {
		return Result{}, fmt.Errorf("%s: the source of a request is %v: must be one of %s",
			l.spec.Layer, r.Source, strings.Join(sourceNames[1:], ", "))
	}
	return l.change(r, preview, func(next *state[C]) error {
		ends := len(r.Values) == 0
		if r.Revision != next.revision && (!ends || r.Revision != 0) {
			return fmt.Errorf("%s: revision is %d, and the present revision is %d: %w", l.spec.Layer, r.Revision, next.revision, ErrStale)
		}
		values, err := l.decode(r.Values, next.declared[r.Source].values)
		next.declared[r.Source] = declared{r.ID, values}
		return err
	})
}

// change makes a change, without effect for a preview. edit edits a copy of the present state.
func (l *Live[C]) change(r Request, preview bool, edit func(next *state[C]) error) (Result, error) {
	result, err := l.changed(r, preview, edit)
	if err == nil && !preview && l.hooks.Report != nil {
		l.hooks.Report(result)
	}
	return result, err
}

// changed is change without the report.
func (l *Live[C]) changed(r Request, preview bool, edit func(next *state[C]) error) (Result, error) {
	l.changing.Lock()
	defer l.changing.Unlock()
	old := l.state.Load()
	next := *old
	if err := edit(&next); err != nil {
		return Result{}, err
	}
	next.merged = l.merge(&next, all)
	if err := l.accept(old, &next, r.Source); err != nil {
		return Result{}, err
	}
	result := Result{Source: r.Source, ID: r.ID, Actor: r.Actor, Reason: r.Reason, Revision: old.revision}
	result.Changes = l.changes(old, &next)
	result.Held = l.held(&next, r.Source)
	if preview {
		return result, nil
	}
	next.revision++
	result.Revision = next.revision
	l.state.Store(&next)
	if l.hooks.Apply != nil {
		l.hooks.Apply(next.merged)
	}
	return result, nil
}

// decode checks the values of a request, and returns the values in the form of Entry.text. present
// holds the present values of the same source.
func (l *Live[C]) decode(values, present map[string]string) (map[string]string, error) {
	decoded := map[string]string{}
	var errs []error
	bad := func(name, value, allowed string) {
		errs = append(errs, &FieldError{Layer: l.spec.Layer, Field: name, Value: value, Allowed: allowed})
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value, e := values[name], l.spec.find(name)
		var c C
		switch {
		case e == nil:
			bad(name, unknown, "one of "+l.spec.names())
		case value == "":
		case e.field.Secret && value == Hidden:
			if present[name] == "" {
				bad(name, Hidden, "the secret itself, because this source has declared none")
				continue
			}
			decoded[name] = present[name]
		case !e.parse(&c, value):
			bad(name, e.quote(value), typeNames[e.field.Type]+": "+e.field.Allowed)
		case !e.valid(&c):
			bad(name, e.quote(value), e.field.Allowed)
		default:
			decoded[name] = e.text(&c)
		}
	}
	return decoded, errors.Join(errs...)
}

var typeNames = map[string]string{
	TypeDuration: "a duration such as 1.5s", TypeInt: "an integer", TypeFloat: "a number", TypeBool: "a truth value",
}

// quote returns a refused text. A text that may be mistaken for a part of the sentence is quoted.
func (e *Entry[C]) quote(text string) string {
	switch {
	case e.field.Secret:
		return Hidden
	case len(text) > maxQuoted:
		return strconv.Quote(text[:maxQuoted]) + "..."
	case text != strings.TrimSpace(text) || strings.ContainsAny(text, " \n:\"") || !strconv.CanBackquote(text):
		return strconv.Quote(text)
	}
	return text
}

const (
	unknown   = "unknown" // in place of the value of a field that does not exist
	maxQuoted = 100       // maximum number of bytes of a refused text in an error
)

// sourceSet is a set of sources.
type sourceSet uint8

const all = sourceSet(1<<sources - 1)

func (s sourceSet) has(source Source) bool          { return s&(1<<source) != 0 }
func (s sourceSet) with(source Source) sourceSet    { return s | 1<<source }
func (s sourceSet) without(source Source) sourceSet { return s &^ (1 << source) }

// merge returns the merge of the sources in set. Without Code in set, the fields in the list begin
// at 0.
func (l *Live[C]) merge(s *state[C], set sourceSet) C {
	c := s.code
	for i := range l.spec.Fields {
		e := &l.spec.Fields[i]
		if !set.has(Code) {
			e.clear(&c)
		}
		for source := File; int(source) < sources; source++ {
			if text := s.declared[source].values[e.field.Name]; text != "" && set.has(source) {
				e.parse(&c, text)
			}
		}
	}
	return c
}

// accept returns an error if next cannot follow old. Trials and forced settings end at a deadline,
// so next must be valid after their end too. newcomer is the source with new values.
func (l *Live[C]) accept(old, next *state[C], newcomer Source) error {
	sets := []sourceSet{all}
	for source := Trial; int(source) < sources; source++ {
		if source.temporary() && len(next.declared[source].values) > 0 && source != newcomer {
			for _, set := range slices.Clone(sets) {
				sets = append(sets, set.without(source))
			}
		}
	}
	for _, set := range sets {
		merged := l.merge(next, set)
		if err := l.unmoved(old, merged); err != nil {
			return l.named(err, newcomer)
		}
		if err := l.validate(merged); err != nil {
			return l.conflict(next, set, newcomer, err)
		}
	}
	return nil
}

// unmoved returns an error for each fixed field with another value in c than in force. c is without
// defaults.
func (l *Live[C]) unmoved(old *state[C], c C) error {
	var errs []error
	was, is := l.fill(old.merged), l.fill(c)
	for i := range l.spec.Fields {
		if e := &l.spec.Fields[i]; e.field.Fixed && e.text(&was) != e.text(&is) {
			errs = append(errs, &FieldError{l.spec.Layer, e.field.Name, e.shown(&is), e.shown(&was) + ", it cannot be changed", e.field.Go})
		}
	}
	return errors.Join(errs...)
}

// named returns err with the names of fields that newcomer uses.
func (l *Live[C]) named(err error, newcomer Source) error {
	if newcomer == Code {
		return err
	}
	return l.spec.untyped(err)
}

// conflict explains err, the error of the merge of the sources in set.
func (l *Live[C]) conflict(next *state[C], set sourceSet, newcomer Source, err error) error {
	name := func(s Source) string { return s.called(next.declared[s].id) }
	err = l.named(err, newcomer)
	if newcomer != Code && len(next.declared[newcomer].values) == 0 {
		return fmt.Errorf("%s: %s cannot end: the other sources do not go together: %w", l.spec.Layer, name(newcomer), err)
	}
	alone := sourceSet(0).with(newcomer)
	if l.validate(l.merge(next, alone)) != nil {
		return err
	}
	var others, partners []string
	for source := range Source(sources) {
		if source == newcomer || !set.has(source) || source != Code && len(next.declared[source].values) == 0 {
			continue
		}
		others = append(others, name(source))
		if l.validate(l.merge(next, alone.with(source))) != nil {
			partners = append(partners, name(source))
		}
	}
	if len(partners) == 0 {
		partners = others
	}
	return fmt.Errorf("%s: %s does not go with %s: %w", l.spec.Layer, name(newcomer), strings.Join(partners, " and "), err)
}

func (l *Live[C]) validate(c C) error {
	if l.hooks.Validate != nil {
		return l.hooks.Validate(c)
	}
	if v, ok := any(c).(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return l.spec.Validate(c)
}

func (l *Live[C]) fill(c C) C {
	if l.hooks.Fill == nil {
		return c
	}
	return l.hooks.Fill(c)
}

func (l *Live[C]) texts(c C) map[string]string {
	texts := make(map[string]string, len(l.spec.Fields))
	for i := range l.spec.Fields {
		e := &l.spec.Fields[i]
		texts[e.field.Name] = e.shown(&c)
	}
	return texts
}

// changes returns the differences in force.
func (l *Live[C]) changes(old, next *state[C]) (changes []Change) {
	was, is := l.fill(old.merged), l.fill(next.merged)
	changes = []Change{} // in JSON a list, not null
	for i := range l.spec.Fields {
		if e := &l.spec.Fields[i]; e.text(&was) != e.text(&is) {
			changes = append(changes, Change{e.field.Name, e.shown(&was), e.shown(&is)})
		}
	}
	return changes
}

// held returns the fields that newcomer declares, and that a higher source holds.
func (l *Live[C]) held(next *state[C], newcomer Source) (held []Hold) {
	is := l.fill(next.merged)
	for i := range l.spec.Fields {
		e := &l.spec.Fields[i]
		name := e.field.Name
		if newcomer == Code && e.zero(&next.code) || newcomer != Code && next.declared[newcomer].values[name] == "" {
			continue
		}
		for source := Force; source > newcomer; source-- {
			if d := next.declared[source]; d.values[name] != "" {
				held = append(held, Hold{name, source, d.id, e.shown(&is)})
				break
			}
		}
	}
	return held
}
