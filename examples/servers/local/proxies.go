package local

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// proxies is a toxiproxy in this process: a proxy for each server, with the server's name, and the
// API for toxics.
//
// A proxy accepts a client before it dials the server. If the server is down, clients do not see
// "connection refused". They see a connection that ends at once.
type proxies struct {
	collection *toxiproxy.ProxyCollection
	api        *endpoint
}

// startProxies starts a proxy for each upstream (host:port, by name), and the API.
func startProxies(upstreams map[string]string, log io.Writer) (_ *proxies, err error) {
	logger := zerolog.Nop()
	if log != io.Discard {
		logger = zerolog.New(newJournal("toxiproxy", "", log)).Level(zerolog.InfoLevel)
	}
	tp := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), logger)
	p := &proxies{collection: tp.Collection}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("local: toxiproxy: %w", err), p.close())
		}
	}()
	for name, upstream := range upstreams {
		if err := p.add(tp, name, upstream); err != nil {
			return nil, err
		}
	}
	p.api, err = listenAndServe(tp.Routes())
	return p, err
}

// add starts a proxy for upstream. If another process takes the port first, add tries other ports.
func (p *proxies) add(tp *toxiproxy.ApiServer, name, upstream string) error {
	var errs []error
	for range portAttempts {
		addr, err := FreeAddr()
		if err != nil {
			return err
		}
		if err = p.collection.Add(toxiproxy.NewProxy(tp, name, addr, upstream), true); err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// to returns the proxy with the name. The proxy must exist.
func (p *proxies) to(name string) *toxiproxy.Proxy {
	proxy, err := p.collection.Get(name)
	if err != nil {
		panic(err) // cannot happen: the names are constants
	}
	return proxy
}

// close stops the proxies and cuts their connections. The servers must have ended, because a proxy
// cannot be stopped while it dials an unresponsive server.
func (p *proxies) close() error {
	if p.api != nil {
		p.api.close()
	}
	return p.collection.Clear()
}

// An endpoint is an HTTP server on a loopback port.
type endpoint struct {
	url    string
	server *http.Server
	done   chan struct{}
}

func listenAndServe(handler http.Handler) (*endpoint, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &endpoint{
		url:    "http://" + ln.Addr().String(),
		server: &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second},
		done:   make(chan struct{}),
	}
	go func() {
		defer close(e.done)
		_ = e.server.Serve(ln) // ErrServerClosed after close
	}()
	return e, nil
}

// close stops listening and cuts the connections. Handlers end by their contexts.
func (e *endpoint) close() {
	_ = e.server.Close()
	<-e.done
}
