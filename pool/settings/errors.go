package settings

import (
	"cmp"
	"errors"
	"fmt"
)

// ErrStale is the error of Apply and Preview for a Request.Revision that is not the present
// revision: the settings have changed since the caller read them.
var ErrStale = errors.New("the settings have changed since they were read")

// A FieldError says that a value of a field is not allowed. The errors of Validate, Configure and
// Apply join FieldErrors; [FieldErrors] lists the FieldErrors.
type FieldError struct {
	Layer string `json:"layer"` // the Spec.Layer: "breaker"
	Field string `json:"field"` // the Field.Name: "open_for"
	// Value is the refused value as text: Hidden for a secret, and "unknown" if Field is no field. A
	// text that may be mistaken for a part of the sentence is quoted, and a long text is cut.
	Value   string `json:"value"`
	Allowed string `json:"allowed"` // completes "must be"

	goName string // replaces Field in the text of an error about a Config
}

// Error returns the text of e: "breaker: OpenFor is -1s: must be 0 (default 200ms) or at least
// 1ms". The field has the name of the Go field in errors about a Config.
func (e *FieldError) Error() string {
	return fmt.Sprintf("%s: %s is %s: must be %s", e.Layer, cmp.Or(e.goName, e.Field), e.Value, e.Allowed)
}

// FieldErrors returns all FieldErrors in the tree of err, in order. The result is nil for a nil
// err.
func FieldErrors(err error) (all []*FieldError) {
	if e, ok := err.(*FieldError); ok { //nolint:errorlint // the loop below unwraps
		return []*FieldError{e}
	}
	switch e := err.(type) { //nolint:errorlint // every error of the tree is looked at
	case interface{ Unwrap() error }:
		return FieldErrors(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			all = append(all, FieldErrors(inner)...)
		}
	}
	return all
}

// Unchanged returns a *[FieldError] if value replaces used, for a field that cannot change while
// the layer lives and has no text: a provider, a logger. field is the name in Go. A nil value
// changes nothing. Hooks.Validate calls Unchanged.
func Unchanged[V comparable](layer, field string, value, used V) error {
	var none V
	if same(value, none) || same(value, used) {
		return nil
	}
	return &FieldError{Layer: layer, Field: field, Value: fmt.Sprintf("another %T", value), Allowed: "the same as before or nil, it cannot be changed"}
}

// same reports whether a == b. Two values of a type that cannot be compared count as the same.
func same[V comparable](a, b V) (equal bool) {
	defer func() {
		if recover() != nil {
			equal = true
		}
	}()
	return a == b
}
