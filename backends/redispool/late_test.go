package redispool_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// slowProxy passes on what a server says, each piece after the time that delay returns. It counts connections.
type slowProxy struct {
	addr  string
	delay func() time.Duration
	conns atomic.Int64
}

// everyThird is the delay of the replies: 10 ms, and 60 ms for every third.
func everyThird() func() time.Duration {
	var n atomic.Int64
	return func() time.Duration {
		if n.Add(1)%3 == 0 {
			return 60 * time.Millisecond
		}
		return 10 * time.Millisecond
	}
}

func newSlowProxy(t testing.TB, target string, delay func() time.Duration) *slowProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowProxy{addr: l.Addr().String(), delay: delay}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.conns.Add(1)
			running.Go(func() { p.serve(ctx, c, target) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); stop(); running.Wait() })
	return p
}

func (p *slowProxy) serve(ctx context.Context, client net.Conn, target string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	buffer := make([]byte, 1<<20)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if d := p.delay(); d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return
			}
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// callers has 16 callers send GETs for the time given, each bounded by 40 ms, and says how many were served.
func callers(d time.Duration, bound func(context.Context) (context.Context, context.CancelFunc), get func(context.Context) error) (served, failed int64) {
	var yes, no atomic.Int64
	stop := time.Now().Add(d)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for time.Now().Before(stop) {
				ctx, cancel := bound(context.Background())
				if err := get(ctx); err == nil || errors.Is(err, redis.Nil) {
					yes.Add(1)
				} else {
					no.Add(1)
				}
				cancel()
			}
		})
	}
	all.Wait()
	return yes.Load(), no.Load()
}

const patienceOfCallers = 40 * time.Millisecond

func byDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, patienceOfCallers)
}

func byCancel(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(patienceOfCallers, cancel)
	return ctx, func() { timer.Stop(); cancel() }
}

// A deadline, or a cancel, does not cost a connection.
func TestDeadlinesCostNoConnection(t *testing.T) {
	s := need(t)
	d := 5 * time.Second
	for name, bound := range map[string]func(context.Context) (context.Context, context.CancelFunc){"deadline": byDeadline, "cancel": byCancel} {
		t.Run(name, func(t *testing.T) {
			theirs := newSlowProxy(t, s.addr, everyThird())
			client := redis.NewClient(&redis.Options{Addr: theirs.addr, PoolSize: 16, ContextTimeoutEnabled: true})
			defer func() { _ = client.Close() }()
			bare, bareFailed := callers(d, bound, func(ctx context.Context) error { return client.Get(ctx, "none").Err() })
			for _, commands := range []int{1, 3} {
				ours := newSlowProxy(t, s.addr, everyThird())
				p := open(t, redispool.Options{Address: ours.addr}, pool.Config{MaxSize: 16})
				served, failed := callers(d, bound, func(ctx context.Context) error {
					return p.Do(ctx, pool.Op{Name: "GET"}, func(ctx context.Context, c *redispool.Conn) error {
						for range commands {
							if err := c.Get(ctx, "none").Err(); !errors.Is(err, redis.Nil) {
								return err
							}
						}
						return nil
					})
				})
				t.Logf("%d commands: served %d, failed %d, %d connections (go-redis %d, %d, %d); %+v", commands, served, failed, ours.conns.Load(),
					bare, bareFailed, theirs.conns.Load(), p.Stat().Closed)
			}
		})
	}
}
