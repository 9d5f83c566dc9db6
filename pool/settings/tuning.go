package settings

// Tunable is an optional interface of a layer and of a pool. A pool finds the Tunable layers, also
// inside a Chain or a Bracket.
type Tunable interface {
	// Tuning returns the same value at each call, and must not return nil.
	Tuning() *Tuning
}

// Tuning is the untyped face of a [Live]. [Live.Tuning] returns the Tuning. The zero Tuning is not
// usable. All methods may be called concurrently.
type Tuning struct{ face face }

// face is a Live without its type parameter.
type face interface {
	layer() string
	fields() []Field
	read() State
	apply(r Request, preview bool) (Result, error)
}

// Layer returns the Spec.Layer: the name of the layer as in events. A layer without a name is
// called by its kind, such as "breaker". A pool returns "pool".
func (t *Tuning) Layer() string { return t.face.layer() }

// Fields describes the settings, in the order of the Config. The slice is a copy.
func (t *Tuning) Fields() []Field { return t.face.fields() }

// Read returns the present settings. The State is a copy.
func (t *Tuning) Read() State { return t.face.read() }

// Apply replaces the values declared by a source. Without values, Apply ends the source. A Tuning
// has no clock: whoever declares a trial or forced settings also ends them. The error
// is [ErrStale] for an old revision, joins a *[FieldError] for each value that is not allowed, or
// names the sources in conflict. After an error, nothing has changed.
func (t *Tuning) Apply(r Request) (Result, error) { return t.face.apply(r, false) }

// Preview returns the result of Apply, and changes nothing. Result.Revision is the present
// revision.
func (t *Tuning) Preview(r Request) (Result, error) { return t.face.apply(r, true) }

// A Request is a change of the values declared by a source. A Request is a plain value.
type Request struct {
	Source Source `json:"source"` // any source but Code: only Configure writes Code
	ID     string `json:"id"`     // names the file, the document or the trial; for people
	// Values replace all values of the source, by Field.Name. nil ends the source.
	Values map[string]string `json:"values"`
	// Revision is the State.Revision on which the Request is based. 0 is allowed if the Request ends a
	// source, and then means any revision.
	Revision uint64 `json:"revision"`
	Actor    string `json:"actor"`  // the author of the change
	Reason   string `json:"reason"` // a sentence
}

// A Result is an accepted change, and also the record of the change in an event. A Result is a
// plain value; its slices must not be changed.
type Result struct {
	Source   Source `json:"source"`
	ID       string `json:"id,omitempty"`
	Actor    string `json:"actor,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Revision uint64 `json:"revision"` // after the change
	// Changes lists the fields with another value in force, also if only a default has moved.
	Changes []Change `json:"changes"`
	// Held lists the declared values without effect, because a higher source holds the field.
	Held []Hold `json:"held,omitempty"`
}

// A Change is a difference between the settings in force before and after. From and To are
// [Hidden] for a secret.
type Change struct {
	Name string `json:"name"` // the Field.Name
	From string `json:"from"`
	To   string `json:"to"`
}

// A Hold says that a higher source decides about a field.
type Hold struct {
	Name   string `json:"name"`   // the Field.Name
	Source Source `json:"source"` // the holder
	ID     string `json:"id,omitempty"`
	Value  string `json:"value"` // the value in force
}

// String returns a sentence: open_for is held by trial "c-12" at 1s.
func (h Hold) String() string {
	return h.Name + " is held by " + h.Source.called(h.ID) + " at " + h.Value
}

// State is the state of settings at a revision. A State is a plain value.
type State struct {
	Revision uint64 `json:"revision"` // 1 after New
	// Effective holds the values in force, by Field.Name, also the defaults. To write settings back,
	// use the Values of Sources.
	Effective map[string]string `json:"effective"`
	Sources   []Declared        `json:"sources"` // Code, and each higher source with values; the lowest first
}

// Declared holds the values declared by a source.
type Declared struct {
	Source Source `json:"source"`
	ID     string `json:"id,omitempty"`
	// Values are the declared values, by Field.Name. A secret is Hidden. A Request of the same source
	// may have the same Values.
	Values map[string]string `json:"values"`
}
