package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// A metricsServer serves /metrics on a loopback port, and /healthz for the probe.
type metricsServer struct {
	url     string      // of the page; "" without a server
	note    string      // a note about the port, if any
	playing atomic.Bool // whether the load is running, for /healthz
	server  *http.Server
	done    chan struct{}
}

// serveMetrics serves handler at address. If another process uses the port, serveMetrics chooses
// another port and explains the choice in note. With metricsOff it serves nothing.
func serveMetrics(address string, handler http.Handler) (*metricsServer, error) {
	m := &metricsServer{}
	if address == metricsOff {
		return m, nil
	}
	listener, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		m.note = fmt.Sprintf("%s is taken, so /metrics is on another port", address)
		listener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("-metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler)
	mux.HandleFunc("GET /healthz", m.health)
	m.url = "http://" + listener.Addr().String() + "/metrics"
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	m.done = make(chan struct{})
	go func() {
		defer close(m.done)
		_ = m.server.Serve(listener) // ErrServerClosed after close
	}()
	return m, nil
}

func (m *metricsServer) health(w http.ResponseWriter, _ *http.Request) {
	if !m.playing.Load() {
		http.Error(w, "no load runs", http.StatusServiceUnavailable)
	}
}

// probe asks the metricsServer at address whether the load is running. It returns nil if so.
func probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %s", address, resp.Status)
	}
	return nil
}

func (m *metricsServer) close() {
	if m.server != nil {
		_ = m.server.Close()
		<-m.done
	}
}
