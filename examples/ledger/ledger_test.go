package ledger

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// A ledger reports lost and repeated writes. It does not report missing writes without an
// acknowledgement.
func TestCompare(t *testing.T) {
	var l Ledger
	done := make(chan struct{})
	n := 0
	l.Write(t.Context(), 1, time.Second, done, func(context.Context, string) error {
		if n++; n == 3 {
			close(done)
			return errors.New("not acknowledged")
		}
		return nil
	})
	if l.Acknowledged() != 2 {
		t.Errorf("%d were acknowledged", l.Acknowledged())
	}
	for _, test := range []struct {
		held map[string]int
		want string
	}{
		{map[string]int{"entry 1": 1, "entry 2": 1}, ""},
		{map[string]int{"entry 1": 1, "entry 2": 1, "entry 3": 1}, ""},
		{map[string]int{"entry 1": 1}, "entry 2 was acknowledged and is lost"},
		{map[string]int{"entry 1": 1, "entry 2": 2}, "entry 2 is held 2 times"},
		{map[string]int{"entry 1": 1, "entry 2": 1, "entry 3": 2}, "entry 3 is held 2 times"},
	} {
		err := l.Compare(test.held)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%v: %v, want %q", test.held, err, test.want)
		}
	}
}
