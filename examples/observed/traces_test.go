package observed

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/middleware/tracing"
)

// tags are the attributes of a span.
type tags map[string]string

// uses returns the required attributes of the demo's uses, by span name.
func uses(t *testing.T, servers *local.Servers) map[string]tags {
	t.Helper()
	all := map[string]tags{}
	for _, op := range []string{"HGET puts", "HSET puts", "RPUSH adds"} {
		name, _, _ := strings.Cut(op, " ")
		all[op] = tags{
			"db.system.name": "redis", "db.namespace": "0", "db.operation.name": name, "db.query.summary": op,
			"server.address": "127.0.0.1", "server.port": port(t, servers.RedisURL()), "db.client.connection.pool.name": "redis",
		}
	}
	for _, op := range []string{"find puts", "insert puts", "update adds"} {
		name, target, _ := strings.Cut(op, " ")
		all[op] = tags{
			"db.system.name": "mongodb", "db.namespace": "outage", "db.operation.name": name, "db.collection.name": target,
			"server.address": "127.0.0.1", "server.port": port(t, servers.MongoDBURI()), "db.client.connection.pool.name": "mongodb",
		}
	}
	return all
}

func port(t *testing.T, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// errorTypes matches the possible values of error.type: reasons of the pool, the layers and the
// backends, and codes of the servers.
var errorTypes = regexp.MustCompile(`^(acquire_timeout|open_failed|pool_(exhausted|paused|closed|cleared)|` +
	`timeout(_attempt|_total|_begin)?|canceled|breaker_(open|half_open)|` +
	`network|connect|connection_(refused|reset)|unreachable|dns|tls|eof|broken|server_selection|wait_queue|[A-Z]+|[0-9]+|_OTHER)$`)

// checkTraces checks the shape of every trace of the demo. All possible shapes must occur.
func checkTraces(t *testing.T, traces []jaegerTrace, uses map[string]tags) {
	seen := map[string]int{}
	var wrong []error
	for _, trace := range traces {
		if err := checkTrace(trace, uses, seen); err != nil {
			wrong = append(wrong, fmt.Errorf("%s\n%w", describe(trace), err))
		}
	}
	for _, err := range wrong[:min(len(wrong), 5)] {
		t.Error(err)
	}
	t.Logf("%d of %d traces are wrong; seen: %v", len(wrong), len(traces), seen)
	for _, shape := range []string{
		// All operations, each with success.
		"HGET puts", "HSET puts", "RPUSH adds", "find puts", "insert puts", "update adds",
		"acquire", "failed acquire", "attempt", "failed attempt", "breaker_open",
		"poolstack.retry", "poolstack.rejected", "poolstack.timeout", "poolstack.state_changed", "link",
	} {
		if seen[shape] == 0 {
			t.Errorf("no trace has: %s", shape)
		}
	}
}

// checkTrace checks the trace of a single use, and counts its features in seen.
func checkTrace(trace jaegerTrace, uses map[string]tags, seen map[string]int) error {
	root, children, err := family(trace)
	if err != nil {
		return err
	}
	wrong := []error{checkUse(root, uses), checkEvents(root)}
	if !root.failed() {
		seen[root.OperationName]++
	}
	for _, log := range root.Logs {
		seen[log.Fields.get("event")]++
	}
	if root.linked() {
		seen["link"]++
	}
	attempts := named(children[root.SpanID], "attempt")
	wrong = append(wrong, checkAttempts(root, attempts))
	for parent, spans := range children {
		for _, s := range spans {
			within := root
			if i := slices.IndexFunc(attempts, func(a *jaegerSpan) bool { return a.SpanID == parent }); i >= 0 {
				within = attempts[i]
			}
			wrong = append(wrong, checkChild(s, within, root, len(attempts) > 0 && within == root))
			seen[s.OperationName]++
			if s.failed() {
				seen["failed "+s.OperationName]++
			}
		}
	}
	for _, rejection := range root.events("poolstack.rejected") {
		wrong = append(wrong, checkRejection(root, attempts, rejection.get("poolstack.reason")))
		seen[rejection.get("poolstack.reason")]++
	}
	return errors.Join(wrong...)
}

// family returns the single root of a trace and the children of each span, ordered by start time.
// Every other span must have a parent.
func family(trace jaegerTrace) (root *jaegerSpan, children map[string][]*jaegerSpan, err error) {
	ids := map[string]bool{}
	for _, s := range trace.Spans {
		ids[s.SpanID] = true
	}
	children = map[string][]*jaegerSpan{}
	for _, s := range trace.Spans {
		parent := s.parent()
		switch {
		case len(s.Warnings) > 0 || len(trace.Warnings) > 0:
			return nil, nil, fmt.Errorf("Jaeger warns: %q %q", trace.Warnings, s.Warnings)
		case parent == "" && root != nil:
			return nil, nil, errors.New("there are two roots")
		case parent == "":
			root = s
		case !ids[parent]:
			return nil, nil, fmt.Errorf("%s is an orphan", s.OperationName)
		default:
			children[parent] = append(children[parent], s)
		}
	}
	if root == nil {
		return nil, nil, errors.New("there is no root")
	}
	for _, spans := range children {
		slices.SortFunc(spans, func(a, b *jaegerSpan) int { return cmp.Compare(a.StartTime, b.StartTime) })
	}
	return root, children, nil
}

func named(spans []*jaegerSpan, name string) (found []*jaegerSpan) {
	for _, s := range spans {
		if s.OperationName == name {
			found = append(found, s)
		}
	}
	return found
}

// checkUse checks the span of a use.
func checkUse(s *jaegerSpan, uses map[string]tags) error {
	want, ok := uses[s.OperationName]
	if !ok {
		return errors.New("the root is no use of the demo")
	}
	return checkSpan(s, "client", want, "db.response.status_code", "poolstack.events.dropped", "poolstack.attempts", "poolstack.acquire.wait")
}

// checkSpan checks a span's kind, its required and optional attributes, and the attributes of its
// failure.
func checkSpan(s *jaegerSpan, kind string, want tags, optional ...string) error {
	want = maps.Clone(want)
	want["span.kind"], want["otel.scope.name"] = kind, tracing.ScopeName
	if s.failed() {
		want["otel.status_code"], want["error"] = "ERROR", "true"
		optional = append(optional, "error.type")
		if reason := s.Tags.get("error.type"); !errorTypes.MatchString(reason) {
			return fmt.Errorf("%s failed with error.type %q", s.OperationName, reason)
		}
	}
	got := tags{}
	for _, tag := range s.Tags {
		if !slices.Contains(optional, tag.Key) {
			got[tag.Key] = s.Tags.get(tag.Key)
		}
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("%s has the attributes %v, want %v", s.OperationName, got, want)
	}
	return nil
}

// checkAttempts checks the attempts of a use. The trace must contain either all attempts or none.
func checkAttempts(root *jaegerSpan, attempts []*jaegerSpan) error {
	var wrong []error
	n, retries := len(attempts), len(root.events("poolstack.retry"))
	// The total limit may pass after the last attempt: in the pause before another attempt, or when
	// the breaker has refused another attempt.
	overtaken := n > 0 && root.Tags.get("error.type") == "timeout_total"
	if n > 0 && retries != n-1 && (!overtaken || retries != n) || n == 0 && retries > 0 {
		wrong = append(wrong, fmt.Errorf("%d attempts, %d retries", n, retries))
	}
	if told := root.Tags.get("poolstack.attempts"); told != fmt.Sprint(n) && (told != "" || n > 0) {
		wrong = append(wrong, fmt.Errorf("%d attempts, the use tells of %q", n, told))
	}
	for i, s := range attempts {
		if s.Tags.get("poolstack.attempt") != fmt.Sprint(i+1) {
			wrong = append(wrong, fmt.Errorf("attempt %d has the number %s", i+1, s.Tags.get("poolstack.attempt")))
		}
		if i < len(attempts)-1 && (!s.failed() || s.end() > attempts[i+1].StartTime+slack) {
			wrong = append(wrong, fmt.Errorf("attempt %d has not failed before the next one", i+1))
		}
		if i == len(attempts)-1 && !overtaken && s.Tags.get("error.type") != root.Tags.get("error.type") {
			wrong = append(wrong, errors.New("the last attempt did not end as the use did"))
		}
	}
	return errors.Join(wrong...)
}

// slack is the allowed difference between times of parents and children in microseconds, because
// times are truncated.
const slack = 2

// leastWait is the shortest wait with a span, in microseconds.
const leastWait = 1000

// checkChild checks a span below another span. If misplaced is true, the span should be within an
// attempt.
func checkChild(s, parent, root *jaegerSpan, misplaced bool) error {
	if s.StartTime < parent.StartTime-slack || s.end() > parent.end()+slack {
		return fmt.Errorf("%s is not within %s", s.OperationName, parent.OperationName)
	}
	switch s.OperationName {
	case "attempt":
		return checkSpan(s, "internal", tags{
			"poolstack.attempt":              s.Tags.get("poolstack.attempt"),
			"db.client.connection.pool.name": root.Tags.get("db.client.connection.pool.name"),
		})
	case "acquire":
		if misplaced {
			return errors.New("a wait is not below its attempt")
		}
		if !s.failed() && s.Duration < leastWait-slack {
			return fmt.Errorf("a wait of %d us has a span", s.Duration)
		}
		want := tags{"db.client.connection.pool.name": root.Tags.get("db.client.connection.pool.name")}
		if !s.failed() {
			want["poolstack.connection.fresh"] = s.Tags.get("poolstack.connection.fresh")
		}
		return checkSpan(s, "internal", want)
	}
	return fmt.Errorf("%s is no span of ours", s.OperationName)
}

// eventFields are the possible fields of span events.
var eventFields = []string{
	"event", "poolstack.layer", "poolstack.attempt", "poolstack.reason", "poolstack.from", "poolstack.to", "poolstack.duration",
	"poolstack.cause",
}

// checkEvents checks the span events of a use.
func checkEvents(root *jaegerSpan) error {
	for _, log := range root.Logs {
		switch log.Fields.get("event") {
		case "poolstack.retry", "poolstack.gave_up", "poolstack.rejected", "poolstack.timeout", "poolstack.state_changed":
		default:
			return fmt.Errorf("there is an event %q", log.Fields.get("event"))
		}
		for _, field := range log.Fields {
			if !slices.Contains(eventFields, field.Key) {
				return fmt.Errorf("the event %s has a field %s", log.Fields.get("event"), field.Key)
			}
		}
	}
	return nil
}

// checkRejection checks a use rejected by a layer.
func checkRejection(root *jaegerSpan, attempts []*jaegerSpan, reason string) error {
	gaveUp := slices.ContainsFunc(root.events("poolstack.gave_up"), func(e jaegerFields) bool { return e.get("poolstack.reason") == "refused" })
	switch {
	case gaveUp && root.failed(): // the use ended with what its latest attempt had met
	case !root.failed() || root.Tags.get("error.type") != reason:
		return fmt.Errorf("it was refused by %s, but ended with %q", reason, root.Tags.get("error.type"))
	// A rejected use has no attempt. It may have ended the open period.
	case len(attempts) == 0 && len(root.Logs)-len(root.events("poolstack.state_changed")) != 1:
		return errors.New("something else happened to a use that was refused at once")
	}
	return nil
}

// describe formats a trace.
func describe(trace jaegerTrace) string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "trace %s:", trace.TraceID)
	for _, s := range trace.Spans {
		fmt.Fprintf(b, "\n  %s below %q: %s, %d + %d us, %v, events %v", s.SpanID, s.parent(), s.OperationName, s.StartTime, s.Duration, s.Tags, s.Logs)
	}
	return b.String()
}
