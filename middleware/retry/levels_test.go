package retry_test

import (
	"testing"

	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
)

var _ pool.Leveler = (*retry.Retry)(nil)

func TestLevels(t *testing.T) {
	r := newRetry(t, retry.Config{BudgetBurst: 7})
	levels := r.Levels()
	if len(levels) != 1 || levels[0].Layer != "retry" || levels[0].Name != "budget" {
		t.Fatalf("got %+v, want the budget", levels)
	}
	if v, ok := levels[0].Read(); v != 7 || !ok {
		t.Errorf("the budget is %v, %v, want 7, true", v, ok)
	}
	if err := r.Configure(retry.Config{Budget: -1}); err != nil {
		t.Fatal(err)
	}
	if v, ok := levels[0].Read(); ok {
		t.Errorf("the budget is %v although retries are not budgeted", v)
	}
}
