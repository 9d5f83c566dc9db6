package main

import (
	"context"
	"fmt"
	"os"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// A world is where faults happen.
type world struct {
	servers control.Controller
	proxies *toxiproxy.Client
}

// toxicName is what our toxics are called; there is one at a time in each proxy.
const toxicName = "outage"

// newWorld finds the servers that this program runs under.
func newWorld() (*world, error) {
	servers, err := control.FromEnv()
	if err != nil {
		return nil, err
	}
	proxies := os.Getenv(control.EnvToxiproxy)
	if proxies == "" {
		return nil, fmt.Errorf("%s is not set: run this program as `servers -- outage`", control.EnvToxiproxy)
	}
	return &world{servers: servers, proxies: toxiproxy.NewClient(proxies)}, nil
}

// begin makes the fault happen; it returns when it has.
func (w *world) begin(ctx context.Context, f fault) error {
	switch f.kind {
	case slow:
		return w.addToxic(f.server, "latency", 1, toxiproxy.Attributes{
			"latency": slowness.Milliseconds(), "jitter": slowness.Milliseconds() / 10,
		})
	case resets:
		return w.addToxic(f.server, "reset_peer", 0.5, toxiproxy.Attributes{"timeout": 0})
	case killed:
		return w.servers.Kill(ctx, f.server)
	case frozen:
		return w.servers.Freeze(ctx, f.server)
	}
	return fmt.Errorf("no such fault: %q", f.kind)
}

// again is called at each pulse while the fault lasts. The proxy decides anew which connections to cut.
func (w *world) again(ctx context.Context, f fault) error {
	if f.kind != resets {
		return nil
	}
	if err := w.removeToxic(f.server); err != nil {
		return err
	}
	return w.begin(ctx, f)
}

// end undoes the fault; it returns when the server can be reached again and answers.
func (w *world) end(ctx context.Context, f fault) error {
	switch f.kind {
	case killed:
		return w.servers.Restart(ctx, f.server)
	case frozen:
		return w.servers.Thaw(ctx, f.server)
	default:
		return w.removeToxic(f.server)
	}
}

// addToxic disturbs what comes from the server: whatever is sent reaches it, and is carried out.
func (w *world) addToxic(server, kind string, toxicity float32, attributes toxiproxy.Attributes) error {
	_, err := w.proxies.AddToxic(&toxiproxy.ToxicOptions{
		ProxyName: server, ToxicName: toxicName, ToxicType: kind, Stream: "downstream", Toxicity: toxicity, Attributes: attributes,
	})
	return err
}

func (w *world) removeToxic(server string) error {
	return w.proxies.RemoveToxic(&toxiproxy.ToxicOptions{ProxyName: server, ToxicName: toxicName})
}
