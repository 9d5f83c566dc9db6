// Package ledger writes to a server that fails meanwhile, and compares what was acknowledged with what the server holds.
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

// A Fault is something that happens to a server, or to the network before it.
type Fault struct {
	Name       string
	Begin, End func(ctx context.Context) error
}

// Faults returns what can happen to the server of that name (control.Redis, control.MongoDB): killed with SIGKILL, frozen with SIGSTOP, stopped, in
// a black hole, and each connection reset.
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
	hole, light := toxic("timeout", "downstream") // the server gets what is sent, and its answers are lost
	reset, join := toxic("reset_peer", "downstream")
	return []Fault{
		{"killed", with(s.Kill), with(s.Restart)},
		{"frozen", with(s.Freeze), with(s.Thaw)},
		{"stopped", with(s.Stop), with(s.Restart)},
		{"black hole", hole, light},
		{"reset", reset, join},
	}
}

// A Ledger is what several writers have written. The zero Ledger is empty.
type Ledger struct {
	next atomic.Int64

	mu           sync.Mutex
	acknowledged []string
}

// Write has the writers write until done is closed: each time something of a name of its own, within the time given.
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
					<-time.After(5 * time.Millisecond) // a refusal is quick
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

// Acknowledged returns how many writes have been.
func (l *Ledger) Acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

// Compare returns an error for each write that was acknowledged and is not held, and for each that is held more than once. held is how often the
// server holds each name.
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

// During has eight writers write before, during and after the fault, until the server has acknowledged something after it.
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

// Await waits for so many further acknowledgements.
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
