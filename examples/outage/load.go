package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A client executes operations on a server. The methods may be called concurrently, except close.
type client interface {
	// do executes op. For a read, do returns the text, or "" if there is no text.
	do(ctx context.Context, op operation) (text string, err error)
	close(ctx context.Context) error
}

// A lane is the load on a server through a client, either the stack or a bare client. Both lanes of
// a server have the same load.
type lane struct {
	server string
	side   side
	client client
	ledger *ledger
	wire   *wire

	whole      meter
	chapter    atomic.Pointer[meter] // operations begun since the latest fault began
	wrongReads atomic.Int64
	okInSecond []atomic.Int64 // successes, by the second of their end
	started    time.Time
}

// A side is the stack or the bare client.
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

// The mix of operations, as fractions. The remaining operations are reads.
const (
	putPart = 0.25
	addPart = 0.25
)

// tick is the interval for beginning the due operations. Operations begin whether or not earlier
// operations have ended: the callers of a busy service do not wait for each other.
const tick = 5 * time.Millisecond

// run begins rate operations per second until stop is closed, and returns after all operations have
// ended. The operations receive ctx, which has no deadline. The client bounds the duration of an
// operation.
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

// draw chooses the kind of the next operation.
func draw(random *rand.Rand) kind {
	switch x := random.Float64(); {
	case x < putPart:
		return put
	case x < putPart+addPart:
		return add
	}
	return read
}

// one executes an operation and records the result.
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
