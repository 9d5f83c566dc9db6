package pool

import "sync"

// Attached keeps the pools around which a layer is placed. A layer uses an Attached to report facts
// outside any use, such as new settings of the layer. The zero Attached is ready for use. All
// methods may be called concurrently.
type Attached struct {
	mu    sync.Mutex
	pools map[*PoolInfo]struct{} // keyed by address: a PoolInfo need not be comparable
	all   []PoolInfo             // the same pools; the slice is replaced, never changed
}

// Add adds a pool to which the layer is attached. The returned function removes the pool again. A
// layer returns this function from its Attach method (see [Attacher]).
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

// list builds a new list of the pools. The caller holds mu.
func (a *Attached) list() {
	a.all = make([]PoolInfo, 0, len(a.pools))
	for p := range a.pools {
		a.all = append(a.all, *p)
	}
}

// Pools returns the pools to which the layer is attached now, in no particular order. The caller
// must not change the slice.
func (a *Attached) Pools() []PoolInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}

// Emit reports e to the observers of each pool. The caller must not hold a lock.
func (a *Attached) Emit(e Event) {
	for _, p := range a.Pools() {
		p.Emit(e)
	}
}
