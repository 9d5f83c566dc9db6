package main

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// The driver keeps the contract of driver.Driver.
func TestConformance(t *testing.T) {
	get := func(key string) func(context.Context, *Conn) error {
		return func(ctx context.Context, c *Conn) error {
			if _, err := c.Get(ctx, key); !errors.Is(err, ErrMiss) {
				return err
			}
			return nil
		}
	}
	pooltest.RunDriver(t, pooltest.DriverSuite[*Conn]{
		New:         func(t testing.TB) driver.Driver[*Conn] { return Driver{startServer(t).address()} },
		Use:         get("key"), // the reply to "late" has another key
		Block:       get("silent"),
		Late:        get("late"),
		Break:       func(_ testing.TB, c *Conn) { c.net.(*net.TCPConn).CloseRead() },
		Unreachable: func(testing.TB) driver.Driver[*Conn] { return Driver{"127.0.0.1:1"} },
	})
}

// Each kind of error has its class, and its effect on the connection and on retries.
func TestClasses(t *testing.T) {
	s := startServer(t)
	p, err := pool.New(Driver{s.address()}, pool.Config{MaxSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close(context.Background())
	for _, c := range []struct {
		key  string
		want driver.Class
		open uint64 // connections opened so far, after one more use
	}{
		{"missing", driver.Class{Miss: true}, 1},
		{"full", driver.Class{Fault: driver.FaultServer, Narrow: true, Suspect: true, Code: "SERVER_ERROR", Type: "SERVER_ERROR"}, 1},
		{"a key", driver.Class{Fault: driver.FaultElsewhere, Suspect: true}, 1},
		{"garbage", driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true, Type: "protocol"}, 2},
		{"silent", driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatIfIdempotent, Broken: true, Type: "timeout"}, 3},
	} {
		err := p.Do(t.Context(), pool.Op{Name: c.key}, func(ctx context.Context, conn *Conn) error {
			if c.key == "full" {
				return conn.Set(ctx, c.key, []byte("value"), time.Minute)
			}
			ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			_, err := conn.Get(ctx, c.key)
			return err
		})
		got := p.Classify(err)
		if c.want.Type == "" {
			got.Type = ""
		}
		if got != c.want {
			t.Errorf("%s: %v has the class %+v, want %+v", c.key, err, got, c.want)
		}
		if err := set(t.Context(), p, "a", "1"); err != nil {
			t.Errorf("the use after %s: %v", c.key, err)
		}
		if n := p.Stat().Opened; n != c.open {
			t.Errorf("%d connections have been opened after %s, want %d", n, c.key, c.open)
		}
	}
}

func set(ctx context.Context, p *pool.Pool[*Conn], key, value string) error {
	return p.Do(ctx, pool.Op{Name: "set", Idempotent: true}, func(ctx context.Context, c *Conn) error {
		return c.Set(ctx, key, []byte(value), time.Minute)
	})
}
