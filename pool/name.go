package pool

import (
	"strconv"
	"sync"
)

// names holds the names of the open pools in this process. Two pools with the same name would be
// added up in telemetry.
var names struct {
	mu    sync.Mutex
	taken map[string]bool
}

// takeName reserves a name for a pool. If an open pool already has the name, takeName returns the
// first free name of name~2, name~3 and so on. Dashboards put the name into addresses and regular
// expressions, and ~ needs no escape there. release frees the name.
func takeName(name string) (distinct string, release func()) {
	names.mu.Lock()
	defer names.mu.Unlock()
	distinct = name
	for n := 2; names.taken[distinct]; n++ {
		distinct = name + "~" + strconv.Itoa(n)
	}
	if names.taken == nil {
		names.taken = map[string]bool{}
	}
	names.taken[distinct] = true
	return distinct, func() {
		names.mu.Lock()
		defer names.mu.Unlock()
		delete(names.taken, distinct)
	}
}
