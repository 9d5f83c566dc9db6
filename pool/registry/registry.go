// Package registry lists the pools of a process, for a console, an HTTP endpoint or a debugger. A
// pool takes part only if its maker gives the registry to [pool.New] as a layer:
//
//	p, err := pool.New(driver, cfg, append(stack.Layers(), registry.Process)...)
//
// The reader of the list needs neither the type of the resources nor the variable of the pool:
//
//	for _, p := range registry.Process.Pools() {
//		fmt.Println(p.Identity().Name, p.Stat().InUse)
//	}
//
// A closed pool leaves the list by itself.
package registry

import (
	"slices"
	"sync"

	"github.com/earnorm/poolstack/pool"
)

// Process is the registry of the process. A library that offers a console reads Process, unless its
// user names another Registry.
var Process = new(Registry)

// Registry is a list of open pools. A Registry is a layer without an effect on uses, and may have
// any place among the layers. The zero Registry is empty and ready for use. All methods may be
// called concurrently. A Registry must not be copied.
type Registry struct {
	mu      sync.Mutex
	members []*member
	changed chan struct{} // closed at the next change; nil without a reader
}

// member is a pool in the list.
type member struct {
	name   string // unique among the open pools of the process
	pool   pool.PoolInfo
	layers int // the number of times that the pool has the Registry among its layers
}

// Wrap implements [pool.Middleware]. Wrap returns next.
func (r *Registry) Wrap(next pool.Handler) pool.Handler { return next }

// Attach implements [pool.Attacher]: p is in the list until p is closed. Attach returns no error. A
// pool with the Registry twice among its layers is in the list once.
func (r *Registry) Attach(p pool.PoolInfo) (detach func(), err error) {
	name := p.Identity().Name
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.members, func(m *member) bool { return m.name == name })
	if i < 0 {
		i = len(r.members)
		r.members = append(r.members, &member{name: name, pool: p})
		r.tell()
	}
	m := r.members[i]
	m.layers++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if m.layers--; m.layers > 0 {
			return
		}
		r.members = slices.DeleteFunc(r.members, func(other *member) bool { return other == m })
		r.tell()
	}, nil
}

// tell wakes the readers that wait for a change. The caller holds mu.
func (r *Registry) tell() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Pools returns the open pools in the order of their making. The slice belongs to the caller. A
// pool in the slice may be closed at any time; the methods of a closed pool still return.
func (r *Registry) Pools() []pool.PoolInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]pool.PoolInfo, len(r.members))
	for i, m := range r.members {
		all[i] = m.pool
	}
	return all
}

// Changed returns a channel closed when the next pool arrives or leaves. A reader calls Changed
// first and Pools afterwards, and so misses no change. A pool that arrives and leaves between two
// calls of Pools is not seen.
func (r *Registry) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.changed
}
