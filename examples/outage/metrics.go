package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"
)

// A metricsServer serves /metrics on a loopback port.
type metricsServer struct {
	url    string // of the page; "" when there is none
	note   string // what deserves to be said about the port
	server *http.Server
	done   chan struct{}
}

// serveMetrics serves handler at address; on another port, which the note says, when somebody else has that one. With metricsOff it
// serves nothing.
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
	m.url = "http://" + listener.Addr().String() + "/metrics"
	m.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	m.done = make(chan struct{})
	go func() {
		defer close(m.done)
		_ = m.server.Serve(listener) // ErrServerClosed, from close
	}()
	return m, nil
}

func (m *metricsServer) close() {
	if m.server != nil {
		_ = m.server.Close()
		<-m.done
	}
}
