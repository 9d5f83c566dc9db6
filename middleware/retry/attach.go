package retry

import (
	"sync"

	"github.com/earnorm/poolstack/pool"
)

// attached are the pools that a layer is around, which hear of its new settings.
type attached struct {
	mu    sync.Mutex
	pools map[*pool.PoolInfo]bool // by an address, as a PoolInfo need not be comparable
}

// add notes a pool, and returns what forgets it again.
func (a *attached) add(p pool.PoolInfo) (forget func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pools == nil {
		a.pools = map[*pool.PoolInfo]bool{}
	}
	a.pools[&p] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.pools, &p)
	}
}

// emit reports e to all of them, outside of the lock.
func (a *attached) emit(e pool.Event) {
	a.mu.Lock()
	pools := make([]pool.PoolInfo, 0, len(a.pools))
	for p := range a.pools {
		pools = append(pools, *p)
	}
	a.mu.Unlock()
	for _, p := range pools {
		p.Emit(e)
	}
}
