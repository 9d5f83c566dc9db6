package pool

// Where borrowers find enough resources, the same ones are lent again and again. Such a hot resource changes hands by a single atomic
// operation, without the lock and beside the books. Without layers a pool has at most one, which came to be while it had a single
// borrower. With layers the record of a use keeps the one that it lent last in its seat, so that each processor comes to have its own, as
// it has its records.
//
// Whoever needs the books to be right takes the lock by lock, which cools all hot resources first: then they are idle or lent like any
// other, and what is done under the lock need not know of them. Only a use that begins or ends in the common way leaves alone what is hot
// and lent to others, as long as there is enough for all; what is hot and free it cools before it takes something else, so that what was
// used lately is lent first, and the rest grows old. The maintainer cools all at each step of the coarse clock: no time is looked at while
// a resource is hot. There are none while somebody waits; while the pool is paused, closed or at rest, looks for leaks or checks before
// each use; and if an observer or the driver has a say at each use.
//
// Its turn says where a hot resource is. Each change makes a new number, so that those who come late with an old one find that out;
// the two lowest bits are its place.
const (
	turnFree  = 0 // may be taken by whoever moves the turn
	turnLent  = 1
	turnCold  = 2 // what cooling adds: the free one is in the books as idle, the lent one as lent
	turnPlace = 3
	turnNext  = 4

	hotLease = 1 << 63 // is set in the number of such a lease
)

// calmBefore is how many uses must have ended without one in between that needed what was hot, before one is made hot: making and cooling
// it costs more than one use gains.
const calmBefore = 8

// lock takes the pool's lock, and cools what is hot.
func (p *Pool[T]) lock() {
	p.mu.Lock()
	if len(p.hots) > 0 {
		p.coolAll()
	}
}

// takeHot lends the hot resource of uses without layers, if there is one and it is free, and returns the lease's number.
func (p *Pool[T]) takeHot() (r *resource[T], number uint64) {
	r = p.hot.Load()
	if r == nil {
		return nil, 0
	}
	turn := r.turn.Load()
	if turn&turnPlace != turnFree || !r.turn.CompareAndSwap(turn, turn+turnLent) {
		return nil, 0
	}
	return r, (turn + turnLent) | hotLease
}

// giveHot ends the lease with the number given, if it is a hot one and its resource still is. next is then the resource's turn.
func (r *resource[T]) giveHot(number uint64) (next uint64, ok bool) {
	if number&hotLease == 0 {
		return 0, false
	}
	turn := number &^ hotLease
	next = turn - turnLent + turnNext
	return next, r.turn.CompareAndSwap(turn, next)
}

// claimHot ends the lease with the number turn, which the caller gives back like any other. It is called under the lock.
func (r *resource[T]) claimHot(turn uint64) bool {
	return r.turn.CompareAndSwap(turn+turnCold, turn-turnLent+turnCold+turnNext)
}

// holdsHot says whether the lease with the number turn is not over.
func (r *resource[T]) holdsHot(turn uint64) bool {
	now := r.turn.Load()
	return now == turn || now == turn+turnCold
}

// seat is where the record of a use keeps the resource that it lent last, if it was hot in the end. It is but a hint: the resource may
// have been cooled since, lent to others, and closed.
type seat[T any] struct {
	r    *resource[T]
	turn uint64 // when it was left here
}

// take empties the seat, and lends the resource if nothing has happened to it. number is the lease's.
func (s *seat[T]) take() (r *resource[T], number uint64) {
	r = s.r
	if r == nil {
		return nil, 0
	}
	s.r = nil
	if !r.turn.CompareAndSwap(s.turn, s.turn+turnLent) {
		return nil, 0
	}
	return r, (s.turn + turnLent) | hotLease
}

// heat makes r hot, which has just come back from a use without layers, if nobody else uses the pool. It is called under the lock, last
// before that is given up.
func (p *Pool[T]) heat(r *resource[T]) {
	if p.inUse > 0 || len(p.hots) > 0 {
		p.calm = 0
		return
	}
	if p.makeHot(r) {
		p.hot.Store(r)
	}
}

// heatSeat makes r hot, which has just come back from a use with layers, and puts it in the seat of its record. It is called under the
// lock, last before that is given up.
func (p *Pool[T]) heatSeat(s *seat[T], r *resource[T]) {
	if p.makeHot(r) {
		*s = seat[T]{r, r.heated}
	}
}

func (p *Pool[T]) makeHot(r *resource[T]) bool {
	top := len(p.idle) - 1
	if !p.plain || top < 0 || p.idle[top] != r || r.trust != p.suspicion {
		return false
	}
	if p.calm++; p.calm < calmBefore || p.paused != nil || p.leaks.Load() || p.checksAll() {
		return false
	}
	p.idle[top] = nil
	p.idle = p.idle[:top]
	r.heated = r.turn.Load() - turnCold + turnNext
	r.turn.Store(r.heated)
	p.hots = append(p.hots, r)
	return true
}

// coolAll enters what is hot in the books. It is called under the lock.
func (p *Pool[T]) coolAll() {
	if len(p.hots) == 0 {
		return
	}
	p.hot.Store(nil)
	for i, r := range p.hots {
		p.enter(r, r.turn.Add(turnCold))
		p.hots[i] = nil
	}
	p.hots = p.hots[:0]
}

// coolFree does so for what is hot and not lent. It is called under the lock.
func (p *Pool[T]) coolFree() {
	lent := p.hots[:0]
	for _, r := range p.hots {
		turn := r.turn.Load()
		if turn&turnPlace != turnFree || !r.turn.CompareAndSwap(turn, turn+turnCold) {
			lent = append(lent, r)
			continue
		}
		p.enter(r, turn+turnCold)
		p.calm = 0
	}
	clear(p.hots[len(lent):])
	p.hots = lent
}

// enter puts a resource that is hot no more in the books, with what has happened to it since it was made hot. turn is its present one.
func (p *Pool[T]) enter(r *resource[T], turn uint64) {
	uses := (turn - r.heated) / turnNext
	r.used, r.proven = p.now, p.now
	if turn&turnPlace == turnLent+turnCold {
		uses++
		r.seq++
		r.since = p.now
		p.inUse++
		p.calm = 0
	} else {
		r.forgetUse()
		p.idle = append(p.idle, r)
	}
	r.uses += uses
	p.stat.Acquires += uses
}

// settleTurn ends the lease of r, if it began as a hot one and nobody has claimed it. If r is still hot, all are cooled. It is called under
// the lock.
func (p *Pool[T]) settleTurn(r *resource[T]) {
	turn := r.turn.Load()
	if turn&turnCold == 0 {
		p.coolAll()
		turn += turnCold
	}
	if turn&turnPlace == turnLent+turnCold {
		r.turn.Store(turn - turnLent + turnNext)
	}
}
