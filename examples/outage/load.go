package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A client carries out operations on one server. Its methods may be called concurrently, but for close.
type client interface {
	// do carries op out, and returns the text if it is a read: "" if there is none.
	do(ctx context.Context, op operation) (text string, err error)
	close(ctx context.Context) error
}

// A lane is the load on one server that passes through one client: the stack's or a bare one. Both lanes of a server get the same.
type lane struct {
	server string
	side   side
	client client
	ledger *ledger
	wire   *wire

	whole      meter
	chapter    atomic.Pointer[meter] // what began since the latest fault did
	wrongReads atomic.Int64
	okInSecond []atomic.Int64 // how many succeeded, by the second in which they did
	started    time.Time
}

// A side is one of the two that are compared.
type side string

// The sides.
const (
	stacked side = "stack"
	bare    side = "bare"
)

func newLane(server string, s side, c client, w *wire, duration time.Duration) *lane {
	l := &lane{
		server: server, side: s, client: c, wire: w, ledger: &ledger{},
		okInSecond: make([]atomic.Int64, int(duration/time.Second)),
	}
	l.chapter.Store(&meter{})
	return l
}

// The mix of operations, in parts of 1: the rest are reads.
const (
	putPart = 0.25
	addPart = 0.25
)

// tick is how often operations are begun: as many as are due by then, whether earlier ones have ended or not. Callers do not wait for
// one another, as those of a busy service do not.
const tick = 5 * time.Millisecond

// run begins rate operations a second until stop is closed, and returns when all have ended. They get ctx, which has no deadline: how
// long each may take is up to the client.
func (l *lane) run(ctx context.Context, stop <-chan struct{}, rate int, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var all sync.WaitGroup
	defer all.Wait()
	l.started = time.Now()
	for begun := 0; ; {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		for due := int(time.Since(l.started).Seconds() * float64(rate)); begun < due; begun++ {
			op := l.ledger.next(draw(random), random)
			all.Go(func() { l.one(ctx, op) })
		}
	}
}

// draw says what the next operation is to be.
func draw(random *rand.Rand) kind {
	switch x := random.Float64(); {
	case x < putPart:
		return put
	case x < putPart+addPart:
		return add
	}
	return read
}

// one carries out an operation and notes how it went.
func (l *lane) one(ctx context.Context, op operation) {
	chapter := l.chapter.Load()
	l.whole.begin()
	chapter.begin()
	start := time.Now()
	text, err := l.client.do(ctx, op)
	took := time.Since(start)
	l.whole.end(took, err)
	chapter.end(took, err)
	if err != nil {
		return
	}
	if second := int(time.Since(l.started) / time.Second); second < len(l.okInSecond) {
		l.okInSecond[second].Add(1)
	}
	switch {
	case op.kind != read:
		l.ledger.acknowledge(op)
	case l.ledger.wrong(op, text):
		l.wrongReads.Add(1)
	}
}

// turnPage begins a new chapter and returns it.
func (l *lane) turnPage() *meter {
	chapter := &meter{}
	l.chapter.Store(chapter)
	return chapter
}
