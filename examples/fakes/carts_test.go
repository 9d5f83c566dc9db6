package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// withFake runs a test in a bubble of synctest: time passes at once when all goroutines wait. The
// layers are the layers of the program.
func withFake(t *testing.T, test func(t *testing.T, carts Carts[*fakeConn], server *fakeServer)) {
	synctest.Test(t, func(t *testing.T) {
		stack, err := middleware.Standard(middleware.Options{Logging: logging.Config{Logger: slog.New(slog.DiscardHandler)}})
		if err != nil {
			t.Fatal(err)
		}
		server := &fakeServer{}
		p, err := pool.New(server, pool.Config{MaxSize: 2}, stack.Layers()...)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(context.Background())
		test(t, Carts[*fakeConn]{p}, server)
		for _, violation := range server.Violations() {
			t.Error(violation)
		}
	})
}

// A cart behaves in the same way with the fake and with a real server.
func TestCart(t *testing.T) {
	t.Run("fake", func(t *testing.T) {
		withFake(t, func(t *testing.T, carts Carts[*fakeConn], _ *fakeServer) { testCart(t, carts) })
	})
	t.Run("redis", func(t *testing.T) {
		p, err := newRedis(redisURL(t))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(context.Background())
		testCart(t, Carts[*redispool.Conn]{p})
	})
}

func testCart[C Conn](t *testing.T, carts Carts[C]) {
	ctx, user := t.Context(), "user "+time.Now().String()
	if items, err := carts.Items(ctx, user); len(items) != 0 || err != nil {
		t.Errorf("a new cart has %v, %v", items, err)
	}
	for want := int64(2); want <= 4; want += 2 {
		if n, err := carts.Add(ctx, user, "pears", 2); n != want || err != nil {
			t.Errorf("Add returns %d, %v, want %d", n, err, want)
		}
	}
	if items, err := carts.Items(ctx, user); len(items) != 1 || items["pears"] != "4" || err != nil {
		t.Errorf("the cart has %v, %v, want 4 pears", items, err)
	}
}

// A lost connection costs a read nothing, because Items is idempotent. Add reports the loss.
func TestLostConnection(t *testing.T) {
	withFake(t, func(t *testing.T, carts Carts[*fakeConn], server *fakeServer) {
		server.Inject(pooltest.Use, 1, pooltest.Fail(pooltest.ErrBroken))
		if _, err := carts.Items(t.Context(), "ada"); err != nil {
			t.Errorf("Items: %v", err)
		}
		server.Inject(pooltest.Use, 1, pooltest.Fail(pooltest.ErrBroken))
		if _, err := carts.Add(t.Context(), "ada", "pears", 1); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Add ends with %v, want ErrUnavailable", err)
		}
		server.Inject(pooltest.Use, 1, pooltest.Fail(pooltest.ErrRefused)) // certainly not carried out
		if n, err := carts.Add(t.Context(), "ada", "pears", 1); n != 1 || err != nil {
			t.Errorf("Add after a refusal: %d, %v", n, err)
		}
	})
}

// While the server is down, the breaker refuses uses at once. After the return all is well.
func TestServerDown(t *testing.T) {
	withFake(t, func(t *testing.T, carts Carts[*fakeConn], server *fakeServer) {
		server.Inject(pooltest.Open, -1, pooltest.Fail(pooltest.ErrRefused))
		server.Inject(pooltest.Use, -1, pooltest.Fail(pooltest.ErrBroken))
		for range 100 { // five seconds of traffic
			if _, err := carts.Items(t.Context(), "ada"); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("Items ends with %v, want ErrUnavailable", err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		began := time.Now()
		_, err := carts.Items(t.Context(), "ada")
		if took := time.Since(began); took != 0 || !errors.Is(err, ErrUnavailable) || !errors.Is(err, breaker.ErrOpen) {
			t.Errorf("Items ends with %v after %v, want a refusal at once", err, took)
		}

		server.Inject(pooltest.Open, 0, nil)
		server.Inject(pooltest.Use, 0, nil)
		time.Sleep(2 * time.Second) // the pool finds the server
		if _, err := carts.Items(t.Context(), "ada"); err != nil {
			t.Errorf("Items after the return: %v", err)
		}
	})
}

// A server that does not answer keeps nobody longer than the deadline, or than the default limit.
func TestTimeout(t *testing.T) {
	withFake(t, func(t *testing.T, carts Carts[*fakeConn], server *fakeServer) {
		server.Inject(pooltest.Use, -1, pooltest.Hang())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := carts.Items(ctx, "ada")
		if took := time.Since(began); took != 100*time.Millisecond || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
			t.Errorf("Items ends with %v after %v, want the deadline after 100ms", err, took)
		}
		began = time.Now()
		_, err = carts.Add(t.Context(), "ada", "pears", 1)
		if took := time.Since(began); took != 10*time.Second || !errors.Is(err, ErrUnavailable) {
			t.Errorf("without a deadline, Add ends with %v after %v, want ErrUnavailable after 10s", err, took)
		}
	})
}

// The program runs against a real server.
func TestProgram(t *testing.T) {
	t.Setenv("REDIS_URL", redisURL(t))
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil || out.String() != "the cart has apples: true\n" {
		t.Errorf("it prints %q, and ends with %v", out.String(), err)
	}
}

func redisURL(t *testing.T) string {
	t.Helper()
	url := os.Getenv("REDIS_URL")
	if url == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("REDIS_URL is not set, and CI is true")
		}
		t.Skip("REDIS_URL is not set: run the tests by make test")
	}
	return url
}
