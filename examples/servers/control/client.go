package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
)

// Client controls the servers of another process over HTTP. Its methods are those of Controller and may be called concurrently.
// It holds no connection between calls, so there is nothing to close.
type Client struct {
	base *url.URL
	http *http.Client
}

var _ Controller = (*Client)(nil)

// New returns a client of the Handler at base, such as http://127.0.0.1:4711. It does not connect yet.
func New(base string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, errors.New("control: the address of the servers is no URL") // url's own error would quote it whole
	}
	if u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("control: the address of the servers is %q: must be http://HOST:PORT", u.Redacted())
	}
	return &Client{base: u, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

// FromEnv returns a client of the servers that this program runs under: those at SERVERS_URL. It fails when that is not set.
func FromEnv() (*Client, error) {
	base := os.Getenv(EnvServers)
	if base == "" {
		return nil, fmt.Errorf("control: %s is not set: run this program as `servers -- PROGRAM`", EnvServers)
	}
	return New(base)
}

// Status lists all servers; see Controller.
func (c *Client) Status(ctx context.Context) ([]Status, error) {
	var all []Status
	if err := c.call(ctx, http.MethodGet, &all, "servers"); err != nil {
		return nil, fmt.Errorf("control: status: %w", err)
	}
	return all, nil
}

// Stop ends a server with SIGTERM; see Controller.
func (c *Client) Stop(ctx context.Context, name string) error { return c.do(ctx, name, "stop") }

// Kill ends a server with SIGKILL; see Controller.
func (c *Client) Kill(ctx context.Context, name string) error { return c.do(ctx, name, "kill") }

// Restart starts a server that has ended; see Controller.
func (c *Client) Restart(ctx context.Context, name string) error { return c.do(ctx, name, "restart") }

// Freeze suspends a server with SIGSTOP; see Controller.
func (c *Client) Freeze(ctx context.Context, name string) error { return c.do(ctx, name, "freeze") }

// Thaw resumes a frozen server with SIGCONT; see Controller.
func (c *Client) Thaw(ctx context.Context, name string) error { return c.do(ctx, name, "thaw") }

func (c *Client) do(ctx context.Context, name, action string) error {
	if name == "" { // would name another path
		return fmt.Errorf("control: %s: %w", action, Unknown(name))
	}
	if err := c.call(ctx, http.MethodPost, nil, "servers", url.PathEscape(name), action); err != nil {
		return fmt.Errorf("control: %s %s: %w", action, name, err)
	}
	return nil
}

// call makes one request and decodes the answer into out unless that is nil.
func (c *Client) call(ctx context.Context, method string, out any, path ...string) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base.JoinPath(path...).String(), nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return refusal(resp.StatusCode, body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

// refusal turns an answer that is no success back into the error it was made from.
func refusal(status int, body []byte) error {
	var f failure
	if json.Unmarshal(body, &f) != nil || f.Error == "" {
		f.Error = "the servers answered " + http.StatusText(status)
	}
	switch status {
	case http.StatusNotFound:
		return remoteError{f.Error, ErrUnknownServer}
	case http.StatusConflict:
		return remoteError{f.Error, ErrState}
	default:
		return remoteError{f.Error, nil}
	}
}

// remoteError is an error that happened at the other end: its text, and the sentinel its status stands for.
type remoteError struct {
	text string
	kind error
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.kind }
