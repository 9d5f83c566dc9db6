package tracing

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

const systemRedis = "redis"

// defaultPorts holds the default port of each system. A default port is not recorded as
// server.port.
var defaultPorts = map[string]int{systemRedis: 6379, "mongodb": 27017}

// maxPlans is the maximum number of plans kept for a pool. Beyond maxPlans, a span of a new
// operation costs a few more allocations.
const maxPlans = 2000

// specKind is the kind of a span.
type specKind uint8

const (
	ofUse specKind = iota
	ofUseAboveCommands
	ofCommand
	ofWait
	ofAttempt
)

// spec identifies a plan.
type spec struct {
	kind                    specKind
	name, target, namespace string
	onDatabase              bool   // see driver.Command
	server                  string // of a command, see driver.Command
}

// plan is the name and the start options of a span. A plan is made once for each spec and is
// shared, so no options may be appended to the slice.
type plan struct {
	name    string
	options []trace.SpanStartOption
}

// startedAt returns the options for a span that began at begin, with the additional attributes
// extra.
func (p *plan) startedAt(begin time.Time, extra ...attribute.KeyValue) []trace.SpanStartOption {
	options := make([]trace.SpanStartOption, 0, len(p.options)+2)
	options = append(options, p.options...)
	return append(options, trace.WithTimestamp(begin), trace.WithAttributes(extra...))
}

// plans holds the plans of a pool. The map is replaced, never changed.
type plans struct {
	known atomic.Pointer[map[spec]*plan]
	mu    sync.Mutex
}

func (p *plans) get(c *pool.Call, s spec) *plan {
	if known := p.known.Load(); known != nil {
		if found := (*known)[s]; found != nil {
			return found
		}
		if len(*known) >= maxPlans {
			return newPlan(c.Identity(), s)
		}
	}
	return p.add(s, newPlan(c.Identity(), s))
}

// add keeps the plan. Concurrent calls may exceed maxPlans by a few plans.
func (p *plans) add(s spec, made *plan) *plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	grown := map[spec]*plan{}
	if known := p.known.Load(); known != nil {
		maps.Copy(grown, *known)
	}
	grown[s] = made
	p.known.Store(&grown)
	return made
}

func newPlan(id driver.Identity, s spec) *plan {
	kind := trace.SpanKindInternal
	name := s.name
	var attrs []attribute.KeyValue
	if s.kind == ofUse || s.kind == ofCommand {
		kind, attrs = trace.SpanKindClient, database(id, s)
	}
	if s.kind != ofWait && s.kind != ofAttempt {
		name = spanName(id, s)
	}
	attrs = append(attrs, semconv.DBClientConnectionPoolName(id.Name))
	return &plan{name, []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attrs...)}}
}

// spanName returns the span name by the conventions: the operation and its target, or the part that
// is not empty, else the system. Without a system, spanName returns the pool's name. The target is
// a collection or, for a command on a database, the database.
func spanName(id driver.Identity, s spec) string {
	target := s.target
	if s.onDatabase {
		target = cmp.Or(s.namespace, id.Namespace)
	}
	name := strings.TrimSpace(s.name + " " + target)
	if name == "" {
		name = id.System
	}
	if name == "" {
		name = id.Name
	}
	return name
}

func database(id driver.Identity, s spec) (attrs []attribute.KeyValue) {
	add := func(key attribute.Key, value string) {
		if value != "" {
			attrs = append(attrs, key.String(value))
		}
	}
	add(semconv.DBSystemNameKey, id.System)
	add(semconv.DBNamespaceKey, cmp.Or(s.namespace, id.Namespace))
	add(semconv.DBOperationNameKey, s.name)
	if id.System == systemRedis {
		add(semconv.DBQuerySummaryKey, strings.TrimSpace(s.name+" "+s.target))
	} else {
		add(semconv.DBCollectionNameKey, s.target)
	}
	address, port := id.Address, id.Port
	if s.server != "" {
		address, port = split(s.server)
	}
	add(semconv.ServerAddressKey, address)
	if port != 0 && port != defaultPorts[id.System] {
		attrs = append(attrs, semconv.ServerPort(port))
	}
	if s.server != "" && isPeer(address) {
		add(semconv.NetworkPeerAddressKey, address)
		if port != 0 {
			attrs = append(attrs, semconv.NetworkPeerPort(port))
		}
	}
	return attrs
}

// split returns the parts of a server's address. port is 0 for the path of a socket.
func split(server string) (address string, port int) {
	host, number, err := net.SplitHostPort(server)
	if err != nil {
		return server, 0
	}
	port, _ = strconv.Atoi(number)
	return host, port
}

// isPeer reports whether address is the address of a network peer: an IP address, or the path of a
// socket. A host name is no such address, and may have several.
func isPeer(address string) bool {
	_, err := netip.ParseAddr(address)
	return err == nil || strings.HasPrefix(address, "/")
}

// outcome is the result of a span, in values that may be recorded.
type outcome struct {
	failed       bool
	reason, code string // values of error.type and db.response.status_code
}

// judge returns the outcome of err. A miss is no failure.
func judge(c *pool.Call, err error) outcome {
	class := c.Classify(err)
	return outcome{failed: err != nil && !class.Miss, reason: class.Type, code: class.Code}
}

// mark records a failure on the span. The status has no description, because the conventions advise
// against a description that only repeats error.type.
func (o outcome) mark(span trace.Span, database bool) {
	if !o.failed {
		return
	}
	span.SetStatus(codes.Error, "")
	span.SetAttributes(semconv.ErrorTypeKey.String(o.reason))
	if database && o.code != "" {
		span.SetAttributes(semconv.DBResponseStatusCode(o.code))
	}
}
