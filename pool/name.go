package pool

import (
	"strconv"
	"sync"
)

// names are those of the pools that are open in this process. No two pools have the same, or telemetry would add them up.
var names struct {
	mu    sync.Mutex
	taken map[string]bool
}

// takeName takes name for a pool; while an open pool has that name, the first of name~2, name~3, ... that is free. The sign needs no
// escaping in an address or in a regular expression, where dashboards put the name.
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
