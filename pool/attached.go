package pool

import "sync"

// Attached keeps the pools that a layer is around, for a layer that has something to report outside of any use, such as that it got new
// settings. The zero Attached works; all methods may be called concurrently.
type Attached struct {
	mu    sync.Mutex
	pools map[*PoolInfo]struct{} // by an address, as a PoolInfo need not be comparable
	all   []PoolInfo             // the same; replaced, never changed
}

// Add notes a pool that the layer is attached to, and returns what forgets it again: what the layer's Attach returns.
func (a *Attached) Add(p PoolInfo) (detach func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pools == nil {
		a.pools = map[*PoolInfo]struct{}{}
	}
	a.pools[&p] = struct{}{}
	a.list()
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.pools, &p)
		a.list()
	}
}

// list makes the list of pools anew. It is called under mu.
func (a *Attached) list() {
	a.all = make([]PoolInfo, 0, len(a.pools))
	for p := range a.pools {
		a.all = append(a.all, *p)
	}
}

// Pools returns the pools that the layer is attached to now, in no order. The caller must not change the slice.
func (a *Attached) Pools() []PoolInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}

// Emit reports e to the observers of each of the pools. It must not be called while a lock is held.
func (a *Attached) Emit(e Event) {
	for _, p := range a.Pools() {
		p.Emit(e)
	}
}
