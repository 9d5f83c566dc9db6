// Tracing serves GET /orders/{id} from a cache in Redis and a store in MongoDB, with a span for
// each step. The OTEL_* variables select the exporters of spans. The servers are at REDIS_URL and
// MONGODB_URI, by default on the usual ports of 127.0.0.1. ADDR is the address of the service,
// 127.0.0.1:8080 by default.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/earnorm/poolstack/backends/mongopool"
	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"))
	if err == nil {
		err = run(ctx, listener, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tracing:", err)
		os.Exit(1)
	}
}

// run serves requests until ctx ends. console receives the spans of OTEL_TRACES_EXPORTER=console.
func run(ctx context.Context, listener net.Listener, console io.Writer) (err error) {
	defer listener.Close()
	tel, err := telemetry.Setup(ctx, telemetry.Config{ServiceName: "shop", NoPrometheus: true, Console: console})
	if err != nil {
		return err
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err = errors.Join(err, tel.Shutdown(bounded)) // the last step, so no span is lost
	}()
	cache, err := redispool.ParseURL(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379/0"))
	if err != nil {
		return err
	}
	store := mongopool.Options{URI: cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://127.0.0.1:27017/"), Database: "shop"}
	s, err := newShop(cache, store, tel.TracerProvider())
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(bounded), s.close(bounded))
}
