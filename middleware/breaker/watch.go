package breaker

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/earnorm/poolstack/pool"
)

// watch is a goroutine that looks at the server while the breaker is open, so that no user has to find out that it is still dead. It ends
// with the first look that succeeds, or with the pool.
type watch struct {
	cancel context.CancelFunc
	over   chan struct{}
}

// stop ends it, and waits for it. There may be none.
func (w *watch) stop() {
	if w != nil {
		w.cancel()
		<-w.over
	}
}

const (
	firstLook   = 100 * time.Millisecond
	lookTimeout = time.Second // for one look
	lookJitter  = 0.5
)

// look has somebody look at the server from now on. It is called under mu when the breaker opens.
func (b *Breaker) look() {
	longest := b.cfg.Load().LookMax
	if b.seen = longest < 0 || b.info == nil; b.seen || b.watch != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{cancel, make(chan struct{})}
	b.watch = w
	pause := min(firstLook, b.cfg.Load().OpenFor/2, longest)
	info := b.info
	go func() {
		defer close(w.over)
		defer cancel()
		for {
			timer := time.NewTimer(pause - time.Duration(rand.Float64()*lookJitter*float64(pause)))
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			if well(ctx, info) {
				break
			}
			pause = min(2*pause, longest)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.watch == w {
			b.seen, b.watch = true, nil
		}
	}()
}

// well says whether the pool's own check has passed. If no resource was free to look with, nobody knows, and the users' probes must tell.
func well(ctx context.Context, p pool.PoolInfo) bool {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	h := p.Check(ctx)
	if h.Err != nil {
		return h.Status != pool.StatusDown && h.Stat.InUse >= h.Stat.Max && h.Stat.Max > 0
	}
	return h.Status != pool.StatusDown
}
