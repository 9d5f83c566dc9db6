package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"

	"github.com/earnorm/poolstack/examples/replicaset"
	"github.com/earnorm/poolstack/examples/servers/control"
)

// A world is where faults happen. Whoever made it must call close.
type world struct {
	servers control.Controller
	proxies *toxiproxy.Client

	set     *replicaset.Set    // before the MongoDB server; nil without -replica-set
	members []*toxiproxy.Proxy // before the set's members
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

// double puts a replica set before the MongoDB server, and a proxy before each of its members.
func (w *world) double(ctx context.Context) error {
	server, err := control.Find(ctx, w.servers, control.MongoDB)
	if err != nil {
		return err
	}
	w.set, err = replicaset.Start("mongodb://"+server.Addr+"/", replicaset.Options{Announce: func(member string) (string, error) {
		proxy, err := w.proxies.CreateProxy(control.MongoDB+" "+member, "127.0.0.1:0", member)
		if err != nil {
			return "", err
		}
		w.members = append(w.members, proxy)
		return proxy.Listen, nil
	}})
	return err
}

// mongoURI is where the clients find MongoDB.
func (w *world) mongoURI() string {
	if w.set != nil {
		return w.set.URI()
	}
	return os.Getenv(control.EnvMongoDB)
}

// close takes the replica set away, if there is one.
func (w *world) close() error {
	var errs []error
	for _, proxy := range w.members {
		errs = append(errs, proxy.Delete())
	}
	if w.set != nil {
		errs = append(errs, w.set.Close())
	}
	return errors.Join(errs...)
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
	case steppedDown:
		w.set.StepDown()
		return nil
	case primaryKilled:
		return w.set.KillPrimary()
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
	case steppedDown:
		return w.set.Elect()
	case primaryKilled:
		return errors.Join(w.set.Elect(), w.set.Revive())
	default:
		return w.removeToxic(f.server)
	}
}

// addToxic disturbs what comes from the server: whatever is sent reaches it, and is carried out.
func (w *world) addToxic(server, kind string, toxicity float32, attributes toxiproxy.Attributes) error {
	return w.eachProxy(server, func(name string) error {
		_, err := w.proxies.AddToxic(&toxiproxy.ToxicOptions{
			ProxyName: name, ToxicName: toxicName, ToxicType: kind, Stream: "downstream", Toxicity: toxicity, Attributes: attributes,
		})
		return err
	})
}

func (w *world) removeToxic(server string) error {
	return w.eachProxy(server, func(name string) error {
		return w.proxies.RemoveToxic(&toxiproxy.ToxicOptions{ProxyName: name, ToxicName: toxicName})
	})
}

// eachProxy calls do for the proxy before the server, or for those before the members of the set.
func (w *world) eachProxy(server string, do func(name string) error) error {
	if server != control.MongoDB || w.set == nil {
		return do(server)
	}
	var errs []error
	for _, proxy := range w.members {
		errs = append(errs, do(proxy.Name))
	}
	return errors.Join(errs...)
}
