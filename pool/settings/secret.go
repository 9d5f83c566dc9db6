package settings

import "fmt"

// Hidden stands in place of the value of a [Secret], wherever a text is shown.
const Hidden = "(hidden)"

// Secret is a text that must not be shown, such as a password. Package fmt and encodings show
// [Hidden] in its place, or "" for an empty Secret. Code gets the text by the conversion string(s).
type Secret string

// Format implements [fmt.Formatter]: every verb prints [Hidden].
func (s Secret) Format(f fmt.State, _ rune) {
	if s != "" {
		_, _ = f.Write([]byte(Hidden))
	}
}

// MarshalText returns [Hidden], for JSON and logs. The error is always nil.
func (s Secret) MarshalText() ([]byte, error) { return fmt.Append(nil, s), nil }
