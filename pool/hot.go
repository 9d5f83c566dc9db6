package pool

// Where one borrower at a time uses a pool, the same resource is lent again and again. That one, the hot resource, changes hands by a
// single atomic operation, without the lock and beside the books. Whoever takes the lock cools it first: then it is idle or lent like any
// other, so that what is done under the lock need not know of it. The maintainer cools it at each step of the coarse clock: no time is
// looked at while a resource is hot. There is none while somebody waits, the pool is paused, closed or at rest, or has layers, an observer
// or a driver that has a say at each use.
//
// Its turn says where the hot resource is. Each change makes a new number, so that those who come late with an old one find that out;
// the two lowest bits are its place.
const (
	turnFree  = 0 // may be taken by whoever moves the turn
	turnLent  = 1
	turnCold  = 2 // what cooling adds: the free one is in the books as idle, the lent one as lent
	turnPlace = 3
	turnNext  = 4

	hotLease = 1 << 63 // is set in the number of such a lease
)

// calmBefore is how often in a row a use must have been the only one before its resource is made hot: making and cooling it costs more
// than one use gains.
const calmBefore = 8

// lock takes the pool's lock, and cools the hot resource.
func (p *Pool[T]) lock() {
	p.mu.Lock()
	if r := p.hot.Load(); r != nil {
		p.cool(r)
	}
}

// takeHot lends the hot resource, if there is one and it is free, and returns the lease's number.
func (p *Pool[T]) takeHot() (r *resource[T], turn uint64) {
	r = p.hot.Load()
	if r == nil {
		return nil, 0
	}
	turn = r.turn.Load()
	if turn&turnPlace != turnFree || !r.turn.CompareAndSwap(turn, turn+turnLent) {
		return nil, 0
	}
	return r, turn + turnLent
}

// giveHot ends the lease with the number turn, if its resource is still hot.
func (r *resource[T]) giveHot(turn uint64) bool {
	return r.turn.CompareAndSwap(turn, turn-turnLent+turnNext)
}

// claimHot ends the lease with the number turn, which the caller gives back like any other, for its resource is hot no more. It is called
// under the lock.
func (r *resource[T]) claimHot(turn uint64) bool {
	return r.turn.CompareAndSwap(turn+turnCold, turn-turnLent+turnCold+turnNext)
}

// holdsHot says whether the lease with the number turn is not over.
func (r *resource[T]) holdsHot(turn uint64) bool {
	now := r.turn.Load()
	return now == turn || now == turn+turnCold
}

// heat makes r hot, which has just come back, if nobody else uses the pool. It is called under the lock, last before that is given up.
func (p *Pool[T]) heat(r *resource[T]) {
	top := len(p.idle) - 1
	if top < 0 || p.idle[top] != r {
		return
	}
	if p.inUse > 0 {
		p.calm = 0
		return
	}
	if p.calm++; p.calm < calmBefore || p.resting || p.paused != nil || p.leaks.Load() || p.checksAll() {
		return
	}
	p.idle[top] = nil
	p.idle = p.idle[:top]
	r.heated = r.turn.Load() - turnCold + turnNext
	r.turn.Store(r.heated)
	p.hot.Store(r)
}

// cool enters the hot resource in the books, with what has happened to it since it was made hot. It is called under the lock.
func (p *Pool[T]) cool(r *resource[T]) {
	p.hot.Store(nil)
	turn := r.turn.Add(turnCold)
	uses := (turn - r.heated) / turnNext
	r.used, r.proven = p.now, p.now
	if turn&turnPlace == turnLent+turnCold {
		uses++
		r.seq++
		r.since = p.now
		p.inUse++
		p.calm = 0
	} else {
		p.idle = append(p.idle, r)
	}
	r.uses += uses
	p.stat.Acquires += uses
}
