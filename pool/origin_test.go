package pool_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// all is an error with several causes that is not comparable.
type all []error

func (all) Error() string     { return "several" }
func (a all) Unwrap() []error { return a }

// word is an error of a layer that wraps other errors and has a class.
type word struct {
	class driver.Class
	err   error
}

func (w *word) Error() string       { return "a layer's word" }
func (w *word) Unwrap() error       { return w.err }
func (w *word) Class() driver.Class { return w.class }

// forest makes trees of errors from numbers. A simple model predicts the meaning of a tree: the
// leaves in their order.
type forest struct {
	own, other, around *pool.Pool[conn]

	asked  *asking // a layer of own
	refuse error   // the error returned by another layer of own in place of a call of next, if any
	draw   func(n int) int
}

// leaf is an error at the end of a branch. A leaf that has left another use is not seen.
type leaf struct {
	err    error
	unseen bool // to a use that has its resource
	marked bool // to any use
}

// grow returns a tree and its leaves. A word hides the errors inside the word.
func (f *forest) grow(depth int) ([]leaf, error) {
	if depth == 0 || f.draw(3) == 0 {
		l := f.leaf()
		return []leaf{l}, l.err
	}
	switch f.draw(4) {
	case 0:
		leaves, err := f.grow(depth - 1)
		return leaves, fmt.Errorf("wrapped: %w", err)
	case 1:
		_, err := f.grow(depth - 1)
		w := &word{driver.Class{Fault: driver.FaultServer, Repeat: driver.Repeat(f.draw(3)), Type: "word"}, err}
		return []leaf{{err: w}}, w
	}
	var branches, leaves = []error{nil}, []leaf(nil)
	for range 1 + f.draw(3) {
		more, err := f.grow(depth - 1)
		branches, leaves = append(branches, err), append(leaves, more...)
	}
	if f.draw(2) == 0 {
		return leaves, all(branches)
	}
	return leaves, errors.Join(branches...)
}

func (f *forest) leaf() leaf {
	raw := []error{pooltest.ErrBroken, pooltest.ErrRefused, pooltest.ErrDenied, context.Canceled, context.DeadlineExceeded}
	plain := []error{pooltest.ErrReply, pooltest.ErrMiss, errors.New("the function's own"), all{errors.New("two"), errors.New("in one")}}
	switch i := f.draw(len(raw) + len(plain) + 3); {
	case i < len(raw):
		return leaf{err: raw[i]}
	case i < len(raw)+len(plain):
		return leaf{err: plain[i-len(raw)]}
	case i == len(raw)+len(plain):
		return leaf{err: &pool.Error{Pool: "other", Reason: pool.ErrExhausted}, unseen: true}
	case i == len(raw)+len(plain)+1:
		return leaf{err: leaves(f.other, raw[f.draw(len(raw))]), marked: true}
	}
	return leaf{err: leaves(f.own, raw[f.draw(len(raw))]), marked: true}
}

// leaves returns err as returned by a use of p.
func leaves(p *pool.Pool[conn], err error) error {
	return p.Do(background, op, func(context.Context, conn) error { return err })
}

// means is the model for the meaning of err with these leaves. The first word among the seen leaves
// decides, or else the driver.
func means(err error, leaves []leaf, granted, gone bool) (class driver.Class) {
	var seen []error
	for _, l := range leaves {
		switch w := driver.Classified(nil); {
		case l.marked || granted && l.unseen:
		case errors.As(l.err, &w):
			if class = w.Class(); gone && class.Fault == driver.FaultServer { // the layer met the cancellation
				class.Fault, class.Repeat = driver.FaultCaller, driver.RepeatNever
			}
			return class
		default:
			seen = append(seen, l.err)
		}
	}
	switch {
	case seen == nil:
		class.Fault = driver.FaultElsewhere
	case gone && !errors.Is(err, context.Canceled): // the pool adds the cancellation
		class = (&pooltest.Fake{}).Classify(errors.Join(append(seen, context.Canceled)...))
	default:
		class = (&pooltest.Fake{}).Classify(errors.Join(seen...))
	}
	class.Suspect = seen != nil && granted && class.Fault == driver.FaultElsewhere
	if gone {
		class.Fault, class.Repeat = driver.FaultCaller, driver.RepeatNever
	}
	return class
}

// judge ends a use with the tree, either by its function or by a layer before the grant, and
// compares the class with the model.
func (f *forest) judge(t *testing.T) {
	t.Helper()
	grown, err := f.grow(3)
	granted, gone := f.draw(4) > 0, f.draw(4) == 0
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	if !granted {
		f.refuse = err
		defer func() { f.refuse = nil }()
	}
	left := f.own.Do(ctx, op, func(context.Context, conn) error {
		if gone {
			cancel()
		}
		return err
	})
	want, got := means(err, grown, granted, granted && gone), f.asked.class
	got.Type, want.Type = "", ""
	if got != want {
		t.Fatalf("%v (%#v)\ngranted %t, gone %t: got %+v, want %+v", err, err, granted, gone, got, want)
	}
	use, marked := left.(*pool.UseError)
	_, before := err.(*pool.UseError)
	tells := want.Broken || want.Fault == driver.FaultServer || want.Fault == driver.FaultCaller || want.Fault == driver.FaultLocal
	switch {
	case marked != (tells || before):
		t.Fatalf("%v of %+v leaves as %#v", err, want, left)
	case !granted || !gone:
		if left.Error() != err.Error() {
			t.Fatalf("%v leaves as %v", err, left)
		}
	}
	if !marked || before {
		return
	}
	if again := use.Class(); again.Fault != want.Fault || again.Repeat != want.Repeat || again.Broken != want.Broken {
		t.Fatalf("%v: its class is %+v, want %+v", left, again, want)
	}
	around := f.around.Classify(fmt.Errorf("around: %w", errors.Join(left)))
	if around != (driver.Class{Fault: driver.FaultElsewhere, Type: around.Type}) {
		t.Fatalf("%v: to another pool it is %+v", left, around)
	}
}

func newForest(t *testing.T) *forest {
	t.Helper()
	f := &forest{asked: &asking{}}
	refusing := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if f.refuse != nil {
				return f.refuse
			}
			return next(ctx, c)
		}
	})
	f.own = newPool(t, &pooltest.Fake{}, pool.Config{Name: "same"}, pool.Bracket(f.asked), refusing)
	f.other = newPool(t, &pooltest.Fake{}, pool.Config{Name: "same"})
	f.around = newPool(t, &pooltest.Fake{}, pool.Config{Name: "same"})
	return f
}

func TestTreesOfErrors(t *testing.T) {
	f := newForest(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f.draw = rand.New(rand.NewPCG(seed, 1)).IntN
	for range 20000 {
		f.judge(t)
	}
}

func FuzzTreesOfErrors(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{2, 3, 1, 11, 2, 0, 1, 9, 2, 2, 10})
	f.Fuzz(func(t *testing.T, numbers []byte) {
		forest := newForest(t)
		forest.draw = func(n int) int {
			if len(numbers) == 0 {
				return 0
			}
			first := numbers[0]
			numbers = numbers[1:]
			return int(first) % n
		}
		forest.judge(t)
	})
}

// Two pools whose drivers have no identity are still two pools.
func TestPoolsWithoutIdentity(t *testing.T) {
	type nameless struct {
		driver.Driver[conn]
		driver.Classifier
	}
	a, outerFake, innerFake := &asking{}, &pooltest.Fake{}, &pooltest.Fake{}
	outer := newPoolOver(t, outerFake, nameless{outerFake, outerFake}, pool.Config{}, pool.Bracket(a))
	inner := newPoolOver(t, innerFake, nameless{innerFake, innerFake}, pool.Config{}, pool.Bracket(&asking{}))
	if outer.Identity().Name != "pool" || inner.Identity().Name != "pool~2" {
		t.Errorf("they are called %q and %q", outer.Identity().Name, inner.Identity().Name)
	}
	err := outer.Do(background, op, func(ctx context.Context, _ conn) error { return leaves(inner, pooltest.ErrBroken) })
	if a.class.Fault != driver.FaultElsewhere || a.class.Broken || outer.Stat().Opened != 1 {
		t.Errorf("the outer pool's: %v: %+v", err, a.class)
	}
	_ = outer.Do(background, op, func(context.Context, conn) error { return pooltest.ErrBroken })
	if a.class.Fault != driver.FaultServer || !a.class.Broken {
		t.Errorf("its own: %+v", a.class)
	}
}

// Intact connections stay open when other uses break inside their uses.
func TestInnerBreakClosesNothing(t *testing.T) {
	outer := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 5}, pool.Bracket(&passing[int]{}))
	for name, layers := range map[string][]pool.Middleware{"layers": {pool.Bracket(&passing[int]{})}, "bare": nil} {
		inner := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 5}, layers...)
		if err := outer.Warm(background, 5); err != nil {
			t.Fatal(err)
		}
		var leases []pool.Lease[conn]
		for range 5 {
			leases = append(leases, acquire(t, outer))
		}
		for i, l := range leases {
			err := inner.Do(l.Context(), op, func(context.Context, conn) error { return pooltest.ErrBroken })
			if i%2 == 0 {
				l.Release(fmt.Errorf("find: %w", err))
			} else if left := l.Finish(err); left != err {
				t.Errorf("%v left once more, as %v", err, left)
			}
		}
		if s := outer.Stat(); s.Opened != 5 || s.Idle != 5 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// Every failure of a pool without layers is marked, too, even a refusal.
func TestBareRefusalIsMarked(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, MaxWaiters: -1})
	defer acquire(t, p).Release(nil)
	_, acquired := p.Acquire(background, op)
	_, got := pool.Get(background, p, op, getID)
	_, tried := p.TryAcquire(background, op)
	for what, err := range map[string]error{"Acquire": acquired, "Get": got, "TryAcquire": tried, "Do": p.Do(background, op, use)} {
		left, ok := err.(*pool.UseError)
		if !ok || !errors.Is(err, pool.ErrExhausted) || left.Class().Fault != driver.FaultLocal || left.Pool() != p.Identity() {
			t.Errorf("%s: %#v", what, err)
		}
	}
}

// The cost of marks: none for a success, a mark for a failure, and none for a repetition of the
// same refusal.
func TestAllocationsOfMarks(t *testing.T) {
	skipUnderRace(t)
	for name, layers := range map[string][]pool.Middleware{"bare": nil, "six layers": sixBrackets()} {
		p := newPool(t, &pooltest.Fake{}, pool.Config{MaxSize: 1, CheckAfter: -1}, layers...)
		for what, c := range map[string]struct {
			err  error
			want float64
		}{"a miss": {pooltest.ErrMiss, 0}, "an answer": {pooltest.ErrReply, 0}, "a failure": {pooltest.ErrDenied, 1}} {
			fn := func(context.Context, conn) error { return c.err }
			allocations(t, name+", Do, "+what, c.want, func() { _ = p.Do(background, op, fn) })
			allocations(t, name+", Finish, "+what, c.want, func() { _ = acquire(t, p).Finish(c.err) })
		}
		allocations(t, name+", Finish", 0, func() { _ = acquire(t, p).Finish(nil) })
	}
	refusal := &word{class: driver.Class{Fault: driver.FaultLocal, Type: "breaker_open"}}
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, pool.MiddlewareFunc(func(pool.Handler) pool.Handler {
		return func(context.Context, *pool.Call) error { return refusal }
	}))
	allocations(t, "a refusal", 0, func() { _ = p.Do(background, op, use) })
	if left, ok := p.Do(background, op, use).(*pool.UseError); !ok || left.Err != error(refusal) {
		t.Error("the refusal is not marked")
	}
}

// A layer may return an error of another pool in place of its own error. The error still belongs to
// the other pool.
func TestLayerReturnsAnotherUsesError(t *testing.T) {
	other := newPool(t, &pooltest.Fake{}, pool.Config{})
	a := &asking{}
	p := newPool(t, &pooltest.Fake{}, pool.Config{}, pool.Bracket(a), pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			if err := leaves(other, pooltest.ErrDenied); err != nil {
				return err
			}
			return next(ctx, c)
		}
	}))
	for range 2 { // the second use might find the mark of the first use
		err := p.Do(background, op, use)
		if left, ok := err.(*pool.UseError); !ok || left.Err != pooltest.ErrDenied || a.class.Fault != driver.FaultElsewhere {
			t.Errorf("%#v: %+v", err, a.class)
		}
		if got := other.Classify(err); got.Fault != driver.FaultServer {
			t.Errorf("to the other pool it is %+v", got)
		}
		if got := p.Classify(err); got.Fault != driver.FaultElsewhere {
			t.Errorf("to its own pool it is %+v", got)
		}
	}
}

// knowing is a driver whose client knows by itself that no server is reachable.
type knowing struct{ *pooltest.Fake }

func (k knowing) Classify(err error) driver.Class {
	if errors.Is(err, pooltest.ErrRefused) {
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Certain: true}
	}
	return k.Fake.Classify(err)
}

// An error with Certain stays the server's fault after the caller's time is over. The use is not
// repeated then.
func TestCertainFaultOutlastsTheCaller(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		end   func(cancel func())
		fault driver.Fault
	}{
		{"certain, a deadline", pooltest.ErrRefused, func(func()) {}, driver.FaultServer},
		{"certain, a cancel", pooltest.ErrRefused, func(cancel func()) { cancel() }, driver.FaultServer},
		{"not certain, a deadline", pooltest.ErrDenied, func(func()) {}, driver.FaultCaller},
		{"not certain, a cancel", pooltest.ErrDenied, func(cancel func()) { cancel() }, driver.FaultCaller},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := &pooltest.Fake{}
				p := newPoolOver(t, fake, knowing{fake}, pool.Config{})
				ctx, cancel := context.WithTimeout(background, time.Second)
				defer cancel()
				err := p.Do(ctx, pool.Op{}, func(ctx context.Context, _ conn) error {
					test.end(cancel)
					<-ctx.Done()
					return errors.Join(test.err, ctx.Err())
				})
				if class := p.Classify(err); class.Fault != test.fault || class.Repeat != driver.RepeatNever {
					t.Errorf("the class is %+v, want fault %v, repeat never", class, test.fault)
				}
			})
		})
	}
}

// A borrower's function may keep only the text of its client's error. The classifier does not know
// such an error, and a dead connection would be lent again and again. So the connection is checked
// before the next lease. Exceptions: a witness testifies, or the error contains errors of other
// uses only.
func TestDisguisedErrorHasItsConnectionChecked(t *testing.T) {
	fake := func() (*pooltest.Fake, driver.Driver[conn]) { f := &pooltest.Fake{}; return f, f }
	threeMethods := func() (*pooltest.Fake, driver.Driver[conn]) {
		f := &pooltest.Fake{}
		return f, struct{ driver.Driver[conn] }{f}
	}
	other := newPool(t, &pooltest.Fake{}, pool.Config{Name: "other"})
	for name, driven := range map[string]func() (*pooltest.Fake, driver.Driver[conn]){"classifier": fake, "three methods": threeMethods} {
		for _, checkAfter := range []time.Duration{0, -1} {
			t.Run(fmt.Sprintf("%s, CheckAfter %v", name, checkAfter), func(t *testing.T) {
				f, d := driven()
				f.DieAfter(2)
				p := newPoolOver(t, f, d, pool.Config{MaxSize: 1, CheckAfter: checkAfter})
				failed, inRow, worst := 0, 0, 0
				for range 30 {
					err := p.Do(background, op, func(ctx context.Context, c conn) error {
						if err := c.Use(ctx); err != nil {
							return fmt.Errorf("the thing was not found: %v", err)
						}
						return nil
					})
					if inRow++; err == nil {
						inRow = 0
					} else {
						failed++
					}
					worst = max(worst, inRow)
				}
				if failed == 0 || worst > 1 {
					t.Errorf("of 30 uses %d failed, %d in a row", failed, worst)
				}
			})
		}
	}
	t.Run("an error of another use", func(t *testing.T) {
		f := &pooltest.Fake{}
		p := newPool(t, f, pool.Config{MaxSize: 1})
		f.Inject(pooltest.Check, -1, pooltest.Fail(pooltest.ErrBroken)) // a check closes the connection
		for range 10 {
			_ = p.Do(background, op, func(context.Context, conn) error { return leaves(other, pooltest.ErrBroken) })
		}
		if opened, _, _, _ := f.Counts(); opened != 1 {
			t.Errorf("%d connections were opened", opened)
		}
	})
	t.Run("a witness", func(t *testing.T) {
		d := newTestifying()
		p := newPoolOver(t, d.Fake, d, pool.Config{MaxSize: 1})
		d.Inject(pooltest.Check, -1, pooltest.Fail(pooltest.ErrBroken))
		for range 10 {
			_ = p.Do(background, op, func(context.Context, conn) error { return errors.New("the function's own") })
		}
		if opened, _, _, _ := d.Counts(); opened != 1 {
			t.Errorf("%d connections were opened", opened)
		}
	})
}
