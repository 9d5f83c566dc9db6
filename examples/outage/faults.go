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

// A world is the set of servers and proxies in which faults happen. The caller of newWorld must
// call close.
type world struct {
	servers control.Controller
	proxies *toxiproxy.Client

	set     *replicaset.Set    // between clients and MongoDB; nil without -replica-set
	members []*toxiproxy.Proxy // proxies of the set's members
}

// toxicName is the name of our toxics. A proxy has at most one toxic at a time.
const toxicName = "outage"

// newWorld finds the servers and proxies from the environment variables of the command servers.
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

// double starts a replica set in front of the MongoDB server, and a proxy in front of each member.
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

// mongoURI returns the URI of MongoDB for the clients.
func (w *world) mongoURI() string {
	if w.set != nil {
		return w.set.URI()
	}
	return os.Getenv(control.EnvMongoDB)
}

// close stops the replica set and its proxies, if there is a replica set.
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

// begin starts the fault, and returns when the fault has begun.
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

// again repeats a fault of kind resets at each pulse. The proxy then chooses again which
// connections to cut.
func (w *world) again(ctx context.Context, f fault) error {
	if f.kind != resets {
		return nil
	}
	if err := w.removeToxic(f.server); err != nil {
		return err
	}
	return w.begin(ctx, f)
}

// end ends the fault, and returns when the server is reachable and answers again.
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

// addToxic disturbs the responses of the server. Requests still reach the server, and the server
// executes the requests.
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

// eachProxy calls do with the proxy of the server, or with the proxies of the replica set's
// members.
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
