// Package otlphttp exports spans and metrics by OTLP over HTTP, in the binary encoding. The
// exporters of OpenTelemetry for the same protocol import the whole of gRPC
// (open-telemetry/opentelemetry-go#2579); the exporters of this package do not. Spans are still
// encoded by OpenTelemetry's code. Metrics are encoded here, because OpenTelemetry does not export
// the code, and a test compares the result with the result of OpenTelemetry's exporter.
package otlphttp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The pauses between two tries of one export begin with RetryFirst and grow to RetryMost, give or
// take RetryJitter of the pause. No try begins later than RetryFor after the first try.
const (
	RetryFirst  = time.Second
	RetryMost   = 3 * time.Second
	RetryJitter = 0.5
	RetryFor    = time.Minute
)

const (
	encoding  = "application/x-protobuf"
	maxAnswer = 4 << 20 // bytes; an answer is some words long
)

// Config says where and how to send.
type Config struct {
	URL     *url.URL          // complete, with the path of the signal
	Headers map[string]string // of each request; nil means none
	Gzip    bool
	Timeout time.Duration // of one request; 0 means no limit
	TLS     *tls.Config   // nil means the authorities of the system
}

// client sends messages to a collector. Its methods may be called concurrently.
type client struct {
	cfg Config
	// http is not shared: http.DefaultClient keeps connections for 90 seconds after a shutdown, and
	// the goroutines of the connections.
	http *http.Client
}

func newClient(cfg Config) *client {
	return &client{cfg: cfg, http: &http.Client{
		Timeout: cfg.Timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     cfg.TLS,
			TLSHandshakeTimeout: 10 * time.Second,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		},
	}}
}

// close closes idle connections.
func (c *client) close() { c.http.CloseIdleConnections() }

// send sends a message, again and again as long as the collector may accept the message later.
func (c *client) send(ctx context.Context, message proto.Message) error {
	body, err := c.encode(message)
	if err != nil {
		return err
	}
	pause, begun := RetryFirst, time.Now()
	for {
		err := c.try(ctx, body)
		later, ok := errors.AsType[*laterError](err)
		if !ok {
			return err
		}
		wait := max(later.after, jittered(pause))
		if time.Since(begun)+wait > RetryFor {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		pause = min(pause*3/2, RetryMost)
	}
}

func jittered(pause time.Duration) time.Duration {
	return time.Duration(float64(pause) * (1 - RetryJitter + 2*RetryJitter*rand.Float64()))
}

var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

// encode returns the body of a request.
func (c *client) encode(message proto.Message) ([]byte, error) {
	plain, err := proto.Marshal(message)
	if err != nil || !c.cfg.Gzip {
		return plain, err
	}
	var packed bytes.Buffer
	w, _ := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	w.Reset(&packed)
	_, err = w.Write(plain)
	err = errors.Join(err, w.Close()) // Close writes the end
	return packed.Bytes(), err
}

// laterError is an error that may pass.
type laterError struct {
	err   error
	after time.Duration // the least pause, as the collector asks for
}

func (e *laterError) Error() string { return e.err.Error() }
func (e *laterError) Unwrap() error { return e.err }

// try sends one request.
func (c *client) try(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.cfg.URL.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "poolstack-OTLP-Exporter-Go OpenTelemetry/"+otlptrace.Version())
	for name, value := range c.cfg.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", encoding)
	if c.cfg.Gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return c.unsent(err)
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	err = errors.Join(err, res.Body.Close())
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", c.where(), err)
	}
	binary := strings.HasPrefix(res.Header.Get("Content-Type"), encoding)
	if res.StatusCode/100 == 2 {
		if !binary {
			return nil
		}
		return partialSuccess(answer)
	}
	if binary {
		answer = statusMessage(answer)
	}
	err = fmt.Errorf("%s answers %s: %s", c.where(), res.Status, bytes.TrimSpace(answer))
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &laterError{err: err, after: retryAfter(res.Header.Get("Retry-After"))}
	}
	return err
}

// where is the URL as far as errors show the URL: a query may hold a key.
func (c *client) where() string {
	u := *c.cfg.URL
	u.RawQuery = ""
	return u.String()
}

// unsent returns the error of a request without an answer.
func (c *client) unsent(err error) error {
	outer, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	err = fmt.Errorf("sending to %s: %w", c.where(), outer.Err) // outer shows the whole URL
	if outer.Temporary() {
		return &laterError{err: err}
	}
	return err
}

// retryAfter reads the header of the same name: seconds, or a date. 0 means that there is none.
func retryAfter(value string) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(seconds, 0), int(RetryFor/time.Second)+1)) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(time.Until(date), 0)
	}
	return 0
}

// partialSuccess returns an error when the collector has rejected a part of an export, or warns.
// Such an export is not repeated (OTLP, "Partial Success").
func partialSuccess(answer []byte) error {
	var partial, reason []byte
	var rejected uint64
	err := fields(answer, func(number protowire.Number, _ uint64, text []byte) {
		if number == 1 {
			partial = text
		}
	})
	err = errors.Join(err, fields(partial, func(number protowire.Number, value uint64, text []byte) {
		switch number {
		case 1:
			rejected = value
		case 2:
			reason = text
		default: // a field of a later version
		}
	}))
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if rejected == 0 && len(reason) == 0 {
		return nil
	}
	return fmt.Errorf("the collector has rejected %d of the items: %s", rejected, reason)
}

// statusMessage returns the message of a google.rpc.Status.
func statusMessage(answer []byte) []byte {
	var message []byte
	_ = fields(answer, func(number protowire.Number, _ uint64, text []byte) { // an error leaves the message empty
		if number == 2 {
			message = text
		}
	})
	return message
}

// fields calls f with the number and the value of each field of a message of protocol buffers. The
// messages of answers are in packages that import gRPC, so this package reads the fields itself.
func fields(message []byte, f func(number protowire.Number, value uint64, text []byte)) error {
	for len(message) > 0 {
		number, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
		var value uint64
		var text []byte
		switch kind {
		case protowire.VarintType:
			value, size = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			text, size = protowire.ConsumeBytes(message)
		default:
			size = protowire.ConsumeFieldValue(number, kind, message)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		f(number, value, text)
		message = message[size:]
	}
	return nil
}
