// Package ledger writes to a server during a fault. Afterwards it compares the acknowledged writes
// with the data on the server.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"

	"github.com/earnorm/poolstack/examples/servers/local"
)

// A Fault is a fault of a server or of its network. Begin starts the fault and End ends the fault.
type Fault struct {
	Name       string
	Begin, End func(ctx context.Context) error
}

// Faults returns the possible faults of the named server (control.Redis or control.MongoDB): killed
// with SIGKILL, frozen with SIGSTOP, stopped, a black hole for the server's answers, and a reset of
// each connection.
func Faults(s *local.Servers, name string) []Fault {
	with := func(f func(context.Context, string) error) func(context.Context) error {
		return func(ctx context.Context) error { return f(ctx, name) }
	}
	proxies := toxiproxy.NewClient(s.ToxiproxyURL())
	toxic := func(kind, stream string) (begin, end func(context.Context) error) {
		opts := &toxiproxy.ToxicOptions{
			ProxyName: name, ToxicName: "ledger", ToxicType: kind, Stream: stream, Toxicity: 1, Attributes: toxiproxy.Attributes{"timeout": 0},
		}
		return func(context.Context) error { _, err := proxies.AddToxic(opts); return err },
			func(context.Context) error { return proxies.RemoveToxic(opts) }
	}
	hole, light := toxic("timeout", "downstream") // requests arrive, and answers are lost
	reset, join := toxic("reset_peer", "downstream")
	return []Fault{
		{"killed", with(s.Kill), with(s.Restart)},
		{"frozen", with(s.Freeze), with(s.Thaw)},
		{"stopped", with(s.Stop), with(s.Restart)},
		{"black hole", hole, light},
		{"reset", reset, join},
	}
}

// A Ledger records the acknowledged writes of several writers. The zero value is empty. The methods
// may be called concurrently.
type Ledger struct {
	next atomic.Int64

	mu           sync.Mutex
	acknowledged []string
}

// Write starts the given number of writers, and returns after done is closed and all writers have
// ended. Each write has a unique name and a timeout of within. A failed write is not repeated.
func (l *Ledger) Write(
	ctx context.Context, writers int, within time.Duration, done <-chan struct{}, write func(ctx context.Context, name string) error,
) {
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				name := fmt.Sprint("entry ", l.next.Add(1))
				ctx, cancel := context.WithTimeout(ctx, within)
				err := write(ctx, name)
				cancel()
				if err != nil {
					<-time.After(5 * time.Millisecond) // a rejection returns at once, so pause
					continue
				}
				l.mu.Lock()
				l.acknowledged = append(l.acknowledged, name)
				l.mu.Unlock()
			}
		})
	}
	all.Wait()
}

// Acknowledged returns the number of acknowledged writes.
func (l *Ledger) Acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

// Compare returns an error for each acknowledged write missing on the server, and for each write
// found more than once. The map held has the number of occurrences of each name on the server.
func (l *Ledger) Compare(held map[string]int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, name := range l.acknowledged {
		if held[name] == 0 {
			errs = append(errs, fmt.Errorf("%s was acknowledged and is lost", name))
		}
	}
	for name, n := range held {
		if n > 1 {
			errs = append(errs, fmt.Errorf("%s is held %d times", name, n))
		}
	}
	return errors.Join(errs...)
}

// During runs eight writers before, during and after the fault. It returns after the server has
// acknowledged 50 writes after the fault. It fails the test if ctx ends before.
func During(ctx context.Context, t testing.TB, fault Fault, write func(ctx context.Context, name string) error) *Ledger {
	t.Helper()
	const (
		writers = 8
		within  = 300 * time.Millisecond
		lasting = 600 * time.Millisecond
	)
	l, done := &Ledger{}, make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() { l.Write(ctx, writers, within, done, write) })
	defer writing.Wait()
	defer close(done)
	l.Await(ctx, t, 50)
	if err := fault.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	<-time.After(lasting)
	if err := fault.End(ctx); err != nil {
		t.Fatal(err)
	}
	l.Await(ctx, t, 50)
	return l
}

// Await waits for more further acknowledgements. It fails the test if ctx ends before.
func (l *Ledger) Await(ctx context.Context, t testing.TB, more int) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for want := l.Acknowledged() + more; l.Acknowledged() < want; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d writes are acknowledged, %d were waited for", l.Acknowledged(), want)
		}
	}
}
