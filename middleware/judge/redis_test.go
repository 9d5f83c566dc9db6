package judge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/pool"
)

func startRedis(t *testing.T, port int) *exec.Cmd {
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs redis-server")
	}
	cmd := exec.Command(bin, "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return cmd
}

// The same with a real Redis on loopback.
func TestRealRedis(t *testing.T) {
	for _, sc := range []struct {
		name     string
		deadline time.Duration
		event    func(t *testing.T, port int, cmd *exec.Cmd) *exec.Cmd
	}{
		{"CLIENT KILL of all, 20 in flight", time.Second, func(t *testing.T, port int, cmd *exec.Cmd) *exec.Cmd {
			c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
			defer c.Close()
			c.Do(context.Background(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			return cmd
		}},
		{"SIGSTOP 2 s, D 100 ms", 100 * time.Millisecond, stop(2 * time.Second)},
		{"SIGSTOP 4 s, D 1 s", time.Second, stop(4 * time.Second)},
		{"SIGKILL, started after 2 s, D 1 s", time.Second, func(t *testing.T, port int, cmd *exec.Cmd) *exec.Cmd {
			_ = cmd.Process.Kill()
			_, _ = cmd.Process.Wait()
			time.Sleep(2 * time.Second)
			return startRedis(t, port)
		}},
	} {
		for _, who := range []string{"stack", "bare"} {
			l, _ := net.Listen("tcp", "127.0.0.1:0")
			port := l.Addr().(*net.TCPAddr).Port
			l.Close()
			cmd := startRedis(t, port)
			var do func(ctx context.Context) error
			closer := func() {}
			blpop := []any{"BLPOP", "nothing", "0.02"} // so that some are in flight
			if who == "stack" {
				o, _ := redispool.ParseURL(fmt.Sprintf("redis://127.0.0.1:%d/0", port))
				st, _ := middleware.Standard(middleware.Options{Without: []string{"tracing", "metrics", "logging"}})
				p, err := redispool.New(o, pool.Config{MaxSize: 20}, st.Layers()...)
				if err != nil {
					t.Fatal(err)
				}
				do = func(ctx context.Context) error {
					return p.Do(ctx, pool.Op{Name: "BLPOP", Idempotent: true}, func(ctx context.Context, c *redispool.Conn) error { return c.Do(ctx, blpop...).Err() })
				}
				closer = func() { _ = p.Close(context.Background()) }
			} else {
				c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port), PoolSize: 20, ContextTimeoutEnabled: true})
				do = func(ctx context.Context) error { return c.Do(ctx, blpop...).Err() }
				closer = func() { _ = c.Close() }
			}
			var uses, served, refused, waiting, peak, waited atomic.Int64
			var last atomic.Int64
			var quit atomic.Bool
			var wg sync.WaitGroup
			begin := time.Now()
			wg.Go(func() {
				for !quit.Load() {
					wg.Go(func() {
						ctx, cancel := context.WithTimeout(context.Background(), sc.deadline)
						defer cancel()
						at := time.Now()
						n := waiting.Add(1)
						for m := peak.Load(); n > m && !peak.CompareAndSwap(m, n); m = peak.Load() {
						}
						err := do(ctx)
						waiting.Add(-1)
						waited.Add(int64(time.Since(at)))
						uses.Add(1)
						switch {
						case err == nil || errors.Is(err, redis.Nil):
							served.Add(1)
							return
						case errors.Is(err, breaker.ErrOpen):
							refused.Add(1)
						}
						last.Store(max(last.Load(), int64(at.Sub(begin))))
					})
					time.Sleep(5 * time.Millisecond)
				}
			})
			time.Sleep(time.Second)
			cmd = sc.event(t, port, cmd)
			returned := time.Since(begin)
			time.Sleep(2500 * time.Millisecond)
			quit.Store(true)
			wg.Wait()
			fmt.Printf("%-36s %-6s uses %5d served %5d refused %5d peak %4d waited %7.1fs last unserved began %v after the return\n", sc.name, who, uses.Load(), served.Load(), refused.Load(), peak.Load(),
				time.Duration(waited.Load()).Seconds(), max(time.Duration(last.Load())-returned, 0).Round(time.Millisecond))
			closer()
			_ = cmd.Process.Kill()
			_, _ = cmd.Process.Wait()
		}
	}
}

func stop(d time.Duration) func(*testing.T, int, *exec.Cmd) *exec.Cmd {
	return func(_ *testing.T, _ int, cmd *exec.Cmd) *exec.Cmd {
		_ = cmd.Process.Signal(syscall.SIGSTOP)
		time.Sleep(d)
		_ = cmd.Process.Signal(syscall.SIGCONT)
		return cmd
	}
}
