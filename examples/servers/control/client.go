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

// Client controls the servers of another process over HTTP, with the methods of Controller. The
// methods may be called concurrently. A Client keeps no connection between calls and needs no
// Close.
type Client struct {
	base *url.URL
	http *http.Client
}

var _ Controller = (*Client)(nil)

// New returns a client of the Handler at base, such as http://127.0.0.1:4711. New does not connect.
func New(base string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil {
		// The error of url.Parse would quote the whole address.
		return nil, errors.New("control: the address of the servers is no URL")
	}
	if u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("control: the address of the servers is %q: must be http://HOST:PORT", u.Redacted())
	}
	return &Client{base: u, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}, nil
}

// FromEnv returns a client of the servers at SERVERS_URL. The command `servers` sets SERVERS_URL
// for the program run under the command. FromEnv returns an error if the variable is not set.
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
	if name == "" { // an empty name would change the path
		return fmt.Errorf("control: %s: %w", action, Unknown(name))
	}
	if err := c.call(ctx, http.MethodPost, nil, "servers", url.PathEscape(name), action); err != nil {
		return fmt.Errorf("control: %s %s: %w", action, name, err)
	}
	return nil
}

// call sends a request and decodes the response into out, unless out is nil.
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

// refusal converts an error response back into the error of the Handler.
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

// remoteError is an error of the remote process: the text, and the sentinel error for the status.
type remoteError struct {
	text string
	kind error
}

func (e remoteError) Error() string { return e.text }
func (e remoteError) Unwrap() error { return e.kind }
