package pool

// Where borrowers find enough resources, the same ones are lent again and again. Such a hot resource changes hands by a single atomic
// operation, without the lock and beside the books. Without layers a pool has at most one, that of its only borrower; with layers the
// record of a use keeps the one that it used last, in its seat, so that each processor comes to have its own, as it has its records.
//
// Whoever needs the books to be right takes the lock by lock, which cools all hot resources first: then they are idle or lent like any
// other, and what is done under the lock need not know of them. A use that takes an idle resource, or gives one back, leaves them alone
// as long as there are idle ones left. The maintainer cools them at each step of the coarse clock: no time is looked at while a resource
// is hot. There are none while somebody waits, the pool is paused, closed or at rest, or has an observer or a driver that has a say at each
// use.
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

// calmBefore is how many uses in a row must have found enough resources before one is made hot: making and cooling it costs more than one
// use gains.
const calmBefore = 8

// lock takes the pool's lock, and cools what is hot.
func (p *Pool[T]) lock() {
	p.mu.Lock()
	if len(p.hots) > 0 {
		p.coolAll()
	}
}

// takeHot lends the hot resource of uses without layers, if there is one and it is free, and returns the lease's number.
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

// giveHot ends the lease with the number seq, if it is a hot one and its resource still is. next is then the resource's turn.
func (r *resource[T]) giveHot(seq uint64) (next uint64, ok bool) {
	if seq&hotLease == 0 {
		return 0, false
	}
	turn := seq &^ hotLease
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

// seat is where the record of a use keeps the resource that it used last, as long as that is hot. It belongs to the use that has the
// record; those after it find the resource by its turn, if nobody has cooled it.
type seat[T any] struct {
	r    *resource[T] // nil if the present use has another, or the last one left none
	turn uint64
}

// take lends the resource, if it is still hot.
func (s *seat[T]) take() *resource[T] {
	r := s.r
	if r == nil || !r.turn.CompareAndSwap(s.turn, s.turn+turnLent) {
		s.r = nil
		return nil
	}
	s.turn += turnLent
	return r
}

// give ends the present use of the resource, if it is hot.
func (s *seat[T]) give() bool {
	r := s.r
	if r == nil {
		return false
	}
	next := s.turn - turnLent + turnNext
	if !r.turn.CompareAndSwap(s.turn, next) {
		s.r = nil
		return false
	}
	s.turn = next
	return true
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
	s.r = nil
	if p.makeHot(r) {
		s.r, s.turn = r, r.heated
	}
}

func (p *Pool[T]) makeHot(r *resource[T]) bool {
	top := len(p.idle) - 1
	if !p.plain || top < 0 || p.idle[top] != r {
		return false
	}
	if p.calm++; p.calm < calmBefore || p.resting || p.paused != nil || p.leaks.Load() || p.checksAll() {
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
		p.cool(r)
		p.hots[i] = nil
	}
	p.hots = p.hots[:0]
}

// cool enters a hot resource in the books, with what has happened to it since it was made hot.
func (p *Pool[T]) cool(r *resource[T]) {
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

// settleTurn ends the lease of r, if it began as a hot one and nobody has claimed it. It is called under the lock.
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
