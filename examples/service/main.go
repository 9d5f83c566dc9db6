// Service is an HTTP service over two pools, with readiness, liveness and an orderly shutdown:
//
//	POST /visits/{page}   counts a visit in Redis, and keeps the number in MongoDB
//	GET  /livez           200 while the process runs
//	GET  /readyz          200 while the service can serve requests
//	GET  /metrics         the metrics for Prometheus
//
// The servers are at REDIS_URL and MONGODB_URI, by default on the usual ports of 127.0.0.1. SIGTERM
// ends the service.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/earnorm/poolstack/telemetry"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address of the service")
	drain := flag.Duration("drain", 5*time.Second, "time from the signal until the service stops accepting: the balancer learns of the end")
	flag.Parse()
	// After the first signal the next signal ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, *addr, *drain); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. The steps at the end stand in the opposite order of the beginning, and
// each step has a bound of its own.
func run(ctx context.Context, addr string, drain time.Duration) (err error) {
	tel, err := telemetry.Setup(ctx, telemetry.Config{ServiceName: "visits"})
	if err != nil {
		return err
	}
	defer atEnd(&err, 5*time.Second, tel.Shutdown) // the last step: the telemetry of the shutdown is exported, too

	s, err := newService(cmp.Or(os.Getenv("REDIS_URL"), "redis://127.0.0.1:6379/0"), cmp.Or(os.Getenv("MONGODB_URI"), "mongodb://127.0.0.1:27017/"), tel)
	if err != nil {
		return err
	}
	defer atEnd(&err, 5*time.Second, s.close)

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	// The requests do not descend from ctx, so the signal cancels no request.
	server := &http.Server{Handler: s.handler(tel), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	defer atEnd(&err, 10*time.Second, server.Shutdown) // waits for the requests in progress
	slog.Info("serving", "addr", listener.Addr().String())

	s.warm(ctx)
	s.ready.Store(true)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	slog.Info("draining")
	s.ready.Store(false)
	select {
	case err := <-failed:
		return err
	case <-time.After(drain):
	}
	return nil
}

// atEnd runs a step of the shutdown for a bounded time, and adds the error of the step to err.
func atEnd(err *error, bound time.Duration, step func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	*err = errors.Join(*err, step(ctx))
}
