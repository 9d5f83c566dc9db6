package settings

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// The values of Field.Type.
const (
	TypeDuration = "duration"
	TypeInt      = "int"
	TypeFloat    = "float"
	TypeBool     = "bool"
	TypeString   = "string"
)

// off is the text of a value that switches something off.
const off = "off"

// Field describes a field of a Config. The author of a layer sets the fields that are not marked
// "filled in". Field is a plain value.
type Field struct {
	Go   string `json:"-"`              // the name in Go: "OpenFor"
	Name string `json:"name"`           // in snake case: "open_for"; filled in from Go if empty
	Type string `json:"type"`           // TypeDuration, ...; filled in
	Unit string `json:"unit,omitempty"` // of a number: "attempts"; "" for none

	// Min and Max are texts, and bound the values other than 0 and "off". Min "" means 0 for a number.
	// Max "" means no bound. With Below, the value must be less than Max.
	Min   string `json:"min,omitempty"`
	Max   string `json:"max,omitempty"`
	Below bool   `json:"below,omitempty"`
	// Allowed completes "must be" in errors. Allowed is filled in from the bounds if empty.
	Allowed string `json:"allowed"`

	// Default is the value in force while no source declares a value; filled in.
	Default string `json:"default"`
	// Zero says in words what 0 means. "" means that 0 is the default.
	Zero string `json:"zero,omitempty"`
	// ZeroText is the text of a 0 that is in force, such as "automatic". "" means the number.
	ZeroText string `json:"zero_text,omitempty"`
	// Off says in words what "off" means. "" means that "off" is no value of the field.
	Off string `json:"off,omitempty"`
	// OffIsZero reports that "off" is 0 in the Config. Otherwise "off" is negative.
	OffIsZero bool `json:"-"`

	Effect string `json:"effect,omitempty"` // a side effect of a change: "the window starts empty"
	Help   string `json:"help"`             // a sentence
	Fixed  bool   `json:"fixed,omitempty"`  // the value cannot change while the layer lives
	Secret bool   `json:"secret,omitempty"` // the value is never shown; filled in
}

// An Entry is a Field with access to the value in a C. [Duration], [Int], [Float], [Bool], [String]
// and [SecretString] make an Entry.
type Entry[C any] struct {
	field   Field
	allowed string // completes "must be" in errors about a Config, where no word stands for a number
	zero    func(c *C) bool
	text    func(c *C) string // in the style of texts
	raw     func(c *C) string // as in Go, for errors
	valid   func(c *C) bool
	parse   func(c *C, text string) bool // false: not a value of this type
	clear   func(c *C)
}

// Duration makes an Entry for a field of type time.Duration. at returns the address of the field.
// Duration panics if a bound in f is not a duration.
func Duration[C any](at func(c *C) *time.Duration, f Field) Entry[C] {
	f.Type = TypeDuration
	return number(at, f, time.ParseDuration)
}

// Int makes an Entry for a field of type int. at returns the address of the field. Int panics if a
// bound in f is not an integer.
func Int[C any](at func(c *C) *int, f Field) Entry[C] {
	f.Type = TypeInt
	return number(at, f, strconv.Atoi)
}

// Float makes an Entry for a field of type float64. at returns the address of the field. NaN and
// +Inf are not allowed. Float panics if a bound in f is not a number.
func Float[C any](at func(c *C) *float64, f Field) Entry[C] {
	f.Type = TypeFloat
	return number(at, f, func(text string) (float64, error) { return strconv.ParseFloat(text, 64) })
}

// Bool makes an Entry for a field of type bool. at returns the address of the field.
func Bool[C any](at func(c *C) *bool, f Field) Entry[C] {
	f.Type = TypeBool
	f.Allowed = cmp.Or(f.Allowed, "true or false")
	e := entry(at, f, strconv.FormatBool)
	e.parse = func(c *C, text string) bool {
		*at(c) = text == "true"
		return text == "true" || text == "false"
	}
	return e
}

// String makes an Entry for a field of type string. at returns the address of the field. "" is not
// declared.
func String[C any](at func(c *C) *string, f Field) Entry[C] {
	f.Type = TypeString
	f.Allowed = cmp.Or(f.Allowed, "a text")
	e := entry(at, f, func(s string) string { return s })
	e.parse = func(c *C, text string) bool { *at(c) = text; return true }
	return e
}

// SecretString makes an Entry for a field of type [Secret]. at returns the address of the field. ""
// is not declared.
func SecretString[C any](at func(c *C) *Secret, f Field) Entry[C] {
	f.Type, f.Secret = TypeString, true
	f.Allowed = cmp.Or(f.Allowed, "a text other than "+Hidden)
	e := entry(at, f, func(s Secret) string { return string(s) })
	e.raw = func(*C) string { return Hidden }
	e.valid = func(c *C) bool { return *at(c) != Hidden }
	e.parse = func(c *C, text string) bool { *at(c) = Secret(text); return true }
	return e
}

// entry makes the parts of an Entry that do not depend on bounds.
func entry[C any, V comparable](at func(*C) *V, f Field, format func(V) string) Entry[C] {
	var zero V
	f.Name = cmp.Or(f.Name, snake(f.Go))
	text := func(c *C) string { return format(*at(c)) }
	return Entry[C]{
		field: f, allowed: f.Allowed, text: text, raw: text,
		zero:  func(c *C) bool { return *at(c) == zero },
		valid: func(*C) bool { return true },
		clear: func(c *C) { *at(c) = zero },
	}
}

// number makes an Entry with bounds.
func number[C any, V int | float64 | time.Duration](at func(*C) *V, f Field, parse func(string) (V, error)) Entry[C] {
	bound := func(text string) V {
		v, err := parse(text)
		if err != nil {
			panic(fmt.Sprintf("settings: field %s: %q is not a bound: %v", f.Go, text, err))
		}
		return v
	}
	f.Min = cmp.Or(f.Min, "0")
	least, most := bound(f.Min), V(0)
	if f.Max != "" {
		most = bound(f.Max)
	}
	if f.Max != "" && least > most {
		panic(fmt.Sprintf("settings: field %s: Min is %s, and Max is %s", f.Go, f.Min, f.Max))
	}
	texts := f.allowedTexts()
	if f.Allowed != "" {
		texts = f.withWords()
	}
	f.Allowed = cmp.Or(f.Allowed, f.allowed())
	negativeOff := f.Off != "" && !f.OffIsZero
	plain := func(v V) string { return fmt.Sprint(v) }
	e := entry(at, f, func(v V) string {
		switch {
		case negativeOff && v < 0, f.OffIsZero && v == 0:
			return off
		case v == 0 && f.ZeroText != "":
			return f.ZeroText
		}
		return plain(v)
	})
	e.field.Allowed = texts
	e.raw = func(c *C) string { return plain(*at(c)) }
	e.valid = func(c *C) bool {
		v := *at(c)
		if v == 0 || negativeOff && v < 0 {
			return true
		}
		return v >= least && !math.IsInf(float64(v), 1) && (f.Max == "" || v < most || v == most && !f.Below)
	}
	e.parse = func(c *C, text string) bool {
		switch {
		case text == off && f.OffIsZero, f.ZeroText != "" && text == f.ZeroText:
			text = "0"
		case text == off && f.Off != "":
			*at(c) = V(-1)
			return true
		}
		v, ok := exactly(text, parse)
		*at(c) = v
		return ok
	}
	return e
}

// exactly returns the number in text. A text that is too small for its type is no number: 0 would
// mean the default.
func exactly[V int | float64 | time.Duration](text string, parse func(string) (V, error)) (v V, ok bool) {
	v, err := parse(text)
	if v == 0 {
		return 0, err == nil && !strings.ContainsAny(text, "123456789") // 0, and not -0
	}
	return v, err == nil
}

// allowed describes the values of f in a Config.
func (f *Field) allowed() string {
	var values []string
	if f.Off != "" && !f.OffIsZero {
		values = append(values, "negative (off)")
	}
	switch {
	case f.OffIsZero:
		values = append(values, "0 (off)")
	case f.Min != "0" && f.Zero == "":
		values = append(values, "0 (the default)")
	case f.Min != "0":
		values = append(values, "0")
	}
	return or(append(values, f.bounds()))
}

// allowedTexts describes the texts of f.
func (f *Field) allowedTexts() string {
	var values []string
	if f.ZeroText != "" {
		values = append(values, f.ZeroText)
	}
	if f.Off != "" {
		values = append(values, off)
	}
	if f.Min != "0" && f.Zero == "" && !f.OffIsZero {
		values = append(values, "0 (the default)")
	}
	return or(append(values, f.bounds()))
}

func (f *Field) bounds() string {
	switch {
	case f.Max != "" && f.Below:
		return "at least " + f.Min + " and less than " + f.Max
	case f.Max != "":
		return "at least " + f.Min + " and at most " + f.Max
	}
	return "at least " + f.Min
}

// or joins alternatives.
func or(values []string) string {
	last := len(values) - 1
	if last == 0 {
		return values[0]
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

// withWords returns the author's f.Allowed for texts: with the words that stand for numbers.
func (f *Field) withWords() string {
	words := ""
	if f.ZeroText != "" && !strings.Contains(f.Allowed, f.ZeroText) {
		words = f.ZeroText + ", "
	}
	if f.Off != "" && !strings.HasPrefix(f.Allowed, off) {
		words += off + ", "
	}
	return words + f.Allowed
}

// snake returns a Go name in snake case: "OpenFor" is "open_for", "MaxQPS" is "max_qps".
func snake(name string) string {
	runes := []rune(name)
	var b strings.Builder
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// A Spec describes the settings of a kind of layer. A Spec is made once, as a package variable, and
// must not change afterwards.
type Spec[C any] struct {
	// Layer is the kind of the layer, or its name: "breaker", "timeout.total". Errors begin with
	// Layer.
	Layer  string
	Fields []Entry[C] // in the order of the Config
}

// A Rule is a condition on a C that concerns several fields.
type Rule struct {
	Field   string // the name in Go of the field to blame
	OK      bool   // the condition holds
	Allowed string // completes "must be"
}

// Validate checks every field of c against the bounds, and then rules. For a field with a broken
// rule, the error has Rule.Allowed. The error joins a *[FieldError] for each invalid field, in the
// order of s.Fields. Validate returns nil if all fields are valid. Validate panics if a rule names
// no field of s.
func (s *Spec[C]) Validate(c C, rules ...Rule) error {
	for _, r := range rules {
		if !slices.ContainsFunc(s.Fields, func(e Entry[C]) bool { return e.field.Go == r.Field }) {
			panic(fmt.Sprintf("settings: a rule of %s is about %q, which is no field", s.Layer, r.Field))
		}
	}
	var errs []error
	for i := range s.Fields {
		e := &s.Fields[i]
		ok, allowed := e.valid(&c), e.allowed
		for _, r := range rules {
			if r.Field == e.field.Go && !r.OK {
				ok, allowed = false, r.Allowed
			}
		}
		if !ok {
			errs = append(errs, &FieldError{s.Layer, e.field.Name, e.raw(&c), allowed, e.field.Go})
		}
	}
	return errors.Join(errs...)
}

// untyped returns err with the names of fields as in texts. err is an error about a Config.
func (s *Spec[C]) untyped(err error) error {
	list := FieldErrors(err)
	if len(list) == 0 {
		return err
	}
	named := make([]error, len(list))
	for i, e := range list {
		plain := *e
		plain.goName = ""
		for j := range s.Fields {
			f := &s.Fields[j].field
			plain.Allowed = regexp.MustCompile(`\b`+f.Go+`\b`).ReplaceAllLiteralString(plain.Allowed, f.Name)
		}
		named[i] = &plain
	}
	return errors.Join(named...)
}

// find returns the Entry with the name of a Field, or nil.
func (s *Spec[C]) find(name string) *Entry[C] {
	for i := range s.Fields {
		if s.Fields[i].field.Name == name {
			return &s.Fields[i]
		}
	}
	return nil
}

// names returns the names of all fields, for errors.
func (s *Spec[C]) names() string {
	names := make([]string, len(s.Fields))
	for i := range s.Fields {
		names[i] = s.Fields[i].field.Name
	}
	return strings.Join(names, ", ")
}

// shown returns the text of the field in c, for people. Secrets are hidden.
func (e *Entry[C]) shown(c *C) string {
	if text := e.text(c); !e.field.Secret || text == "" {
		return text
	}
	return Hidden
}
