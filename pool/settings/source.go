package settings

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Source is the origin of a declared value. For each field, the highest Source with a value wins.
type Source uint8

// The sources, the lowest first.
const (
	Code  Source = iota // the program: New and Configure
	File                // a file of the deployment
	Fleet               // a document for all instances
	Trial               // a change on trial: its author ends it
	Force               // a decision of an operator in an emergency: the operator ends it
)

const sources = int(Force) + 1

var sourceNames = [sources]string{"code", "file", "fleet", "trial", "force"}

// String returns the name of s: "code", "file", "fleet", "trial" or "force".
func (s Source) String() string {
	if int(s) >= sources {
		return "source(" + strconv.Itoa(int(s)) + ")"
	}
	return sourceNames[s]
}

// MarshalText returns the name of s. The error is always nil.
func (s Source) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets s to the source with the name text. The error lists the names.
func (s *Source) UnmarshalText(text []byte) error {
	i := slices.Index(sourceNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("settings: source is %q: must be one of %s", text, strings.Join(sourceNames[:], ", "))
	}
	*s = Source(i) //nolint:gosec // an index of sourceNames
	return nil
}

// temporary reports whether values of s end at a deadline.
func (s Source) temporary() bool { return s == Trial || s == Force }

// called returns s with an ID, for people: trial "c-12".
func (s Source) called(id string) string {
	if id == "" {
		return s.String()
	}
	return s.String() + " " + strconv.Quote(id)
}
