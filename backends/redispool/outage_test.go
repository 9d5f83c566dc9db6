package redispool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/pool"
)

// A server that is killed during a use, and comes back.
func TestOutage(t *testing.T) {
	s := launch(t)
	opts := redispool.Options{Address: s.addr}
	p := open(t, opts, pool.Config{MaxSize: 4, AcquireTimeout: time.Second, OpenBackoff: 50 * time.Millisecond})
	if err := p.Warm(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	// A use with a command in progress.
	blocked := make(chan error, 1)
	go func() {
		blocked <- p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
			return c.BLPop(ctx, 0, "nothing").Err()
		})
	}()
	other := s.redis(t)
	eventually(t, func() error {
		if !strings.Contains(other.ClientList(t.Context()).Val(), "cmd=blpop") {
			return errors.New("nobody is blocked")
		}
		return nil
	})
	s.kill()
	d := newDriver(t, opts)
	if err := <-blocked; d.Classify(err) != ambiguous {
		t.Errorf("a use in mid-command: %v is %+v", err, d.Classify(err))
	}
	// The other connections fail at their next use, and no caller waits longer than necessary.
	ping := func(ctx context.Context, c *redispool.Conn) error { return c.Ping(ctx).Err() }
	for range 8 {
		err := p.Do(t.Context(), pool.Op{}, ping)
		if err == nil {
			t.Fatal("a dead server answers")
		}
		var refusal *pool.Error
		if !errors.As(err, &refusal) && d.Classify(err) != ambiguous {
			t.Errorf("%v is %+v", err, d.Classify(err))
		}
	}
	if h := p.Check(t.Context()); h.Status != pool.StatusDown {
		t.Errorf("health is %v", h.Status)
	}
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	eventually(t, func() error { return p.Do(t.Context(), pool.Op{}, ping) })
	if took := time.Since(back); took > 2*time.Second {
		t.Errorf("the pool was back after %v", took)
	}
	for range 100 {
		if err := p.Do(t.Context(), pool.Op{}, ping); err != nil {
			t.Error(err)
		}
	}
}

// A frozen server blocks no caller beyond the deadline. A connection with a command in progress is
// used again after its late replies have arrived.
func TestFrozenServer(t *testing.T) {
	s := launch(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 2})
	if err := p.Warm(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	thaw := pauseServer(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var uses sync.WaitGroup
	for range 4 {
		uses.Go(func() {
			err := p.Do(ctx, pool.Op{}, func(ctx context.Context, c *redispool.Conn) error { return c.Incr(ctx, "n").Err() })
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		})
	}
	uses.Wait()
	thaw()
	use(t, p, func(ctx context.Context, c *redispool.Conn) error { return c.Set(ctx, "k", "v", 0).Err() })
	eventually(t, func() error {
		if st := p.Stat(); st.Checking != 0 || st.Opened != 2 || st.Closed.Total() != 0 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
}

// The server stays frozen. A connection is closed if its late replies have not arrived in time.
func TestFrozenForGood(t *testing.T) {
	s := launch(t)
	p := open(t, redispool.Options{Address: s.addr}, pool.Config{MaxSize: 1, CheckTimeout: 100 * time.Millisecond})
	if err := p.Warm(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	pauseServer(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Do(ctx, pool.Op{}, do("incr", "n")); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	eventually(t, func() error {
		if st := p.Stat(); st.Closed[pool.CloseReset] != 1 {
			return fmt.Errorf("%+v", st)
		}
		return nil
	})
}

// pauseServer stops the process until the function returned is called, or the test ends.
func pauseServer(t *testing.T, s *server) (thaw func()) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw = func() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }
	t.Cleanup(thaw)
	return thaw
}

// A command is sent once, even if its reply is lost or a client would wait and try again. Only a
// layer repeats a command, because a layer can tell whether a repetition is allowed.
func TestSentOnce(t *testing.T) {
	var mu sync.Mutex
	sent := map[string]int{}
	addr := script(t, func(words []string) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		sent[words[0]]++
		switch words[0] {
		case "hello":
			return "%1\r\n$5\r\nproto\r\n:3\r\n", true
		case "get":
			return "-LOADING Redis is loading the dataset in memory\r\n", true
		case "incr":
			return "", false
		}
		return "+PONG\r\n", true
	})
	p := open(t, redispool.Options{Address: addr}, pool.Config{MaxSize: 1})
	err := p.Do(t.Context(), pool.Op{}, func(ctx context.Context, c *redispool.Conn) error {
		if err := c.Get(ctx, "k").Err(); err == nil {
			t.Error("GET was answered")
		}
		err := c.Incr(ctx, "n").Err()
		if again := c.Incr(ctx, "n").Err(); again == nil {
			t.Error("a dead connection has come back to life")
		}
		return err
	})
	if err == nil {
		t.Error("INCR was answered")
	}
	mu.Lock()
	defer mu.Unlock()
	if sent["incr"] != 1 || sent["get"] != 1 || sent["hello"] != 1 {
		t.Errorf("sent %v", sent)
	}
}
