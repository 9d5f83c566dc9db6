package pool_test

import (
	"encoding/json"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// What an operator reads has names, not numbers.
func TestValuesMarshalAsNames(t *testing.T) {
	var closed pool.CloseCounts
	closed[pool.CloseBroken] = 2
	for _, test := range []struct {
		value any
		want  string
	}{
		{driver.FaultElsewhere, `"elsewhere"`},
		{driver.RepeatIfIdempotent, `"if idempotent"`},
		{pool.StatusDegraded, `"degraded"`},
		{pool.CloseShrunk, `"shrunk"`},
		{closed, `{"lifetime":0,"idle":0,"broken":2,"discarded":0,"check_failed":0,"reset_failed":0,` +
			`"cleared":0,"shrunk":0,"pool_closed":0}`},
	} {
		b, err := json.Marshal(test.value)
		if err != nil || string(b) != test.want {
			t.Errorf("%T: %s, %v; want %s", test.value, b, err, test.want)
		}
	}
}
