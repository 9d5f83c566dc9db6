package observed

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/earnorm/poolstack/examples/servers/local"
	"github.com/earnorm/poolstack/examples/tools"
)

// A jaeger is a running Jaeger.
type jaeger struct {
	*program
	otlpHTTP, otlpGRPC string // addresses for traces, HOST:PORT
	query              string // URL of the query API
}

// startJaeger starts a Jaeger that keeps everything in memory.
func startJaeger(t *testing.T, servers *local.Servers) *jaeger {
	t.Helper()
	path := tools.Need(t, tools.Jaeger)
	query := freeAddr(t)
	j := &jaeger{otlpHTTP: freeAddr(t), otlpGRPC: freeAddr(t), query: "http://" + query}
	admin := freeAddr(t)
	noTracesOfItsOwn := []string{"OTEL_TRACES_SAMPLER=always_off"}
	j.program = run(t, servers, noTracesOfItsOwn, path,
		"--collector.otlp.http.host-port="+j.otlpHTTP, "--collector.otlp.grpc.host-port="+j.otlpGRPC,
		"--collector.grpc-server.host-port="+freeAddr(t), "--collector.http-server.host-port="+freeAddr(t),
		"--query.http-server.host-port="+query, "--query.grpc-server.host-port="+freeAddr(t),
		"--admin.http.host-port="+admin, "--memory.max-traces=100000")
	j.awaitReady(t, "http://"+admin+"/")
	j.awaitReady(t, j.query+"/api/services")
	return j
}

// tracesURL returns the URL of all traces of a service.
func (j *jaeger) tracesURL(service string) string {
	const more = 1_000_000 // more than exist
	return fmt.Sprintf("%s/api/traces?service=%s&limit=%d&lookback=1h", j.query, url.QueryEscape(service), more)
}

// traces returns all traces of a service.
func (j *jaeger) traces(service string) (all []jaegerTrace, err error) {
	err = ask(j.tracesURL(service), &all)
	return all, err
}

// trace returns a single trace.
func (j *jaeger) trace(id string) (jaegerTrace, error) {
	var found []jaegerTrace
	if err := ask(j.query+"/api/traces/"+id, &found); err != nil {
		return jaegerTrace{}, err
	}
	if len(found) != 1 {
		return jaegerTrace{}, fmt.Errorf("%d traces with the id %s", len(found), id)
	}
	return found[0], nil
}

// The responses of Jaeger's query API.
type (
	jaegerTrace struct {
		TraceID   string                   `json:"traceID"`
		Spans     []*jaegerSpan            `json:"spans"`
		Processes map[string]jaegerProcess `json:"processes"`
		Warnings  []string                 `json:"warnings"`
	}
	jaegerSpan struct {
		TraceID       string            `json:"traceID"`
		SpanID        string            `json:"spanID"`
		OperationName string            `json:"operationName"`
		References    []jaegerReference `json:"references"`
		StartTime     int64             `json:"startTime"` // in microseconds
		Duration      int64             `json:"duration"`
		Tags          jaegerFields      `json:"tags"`
		Logs          []jaegerLog       `json:"logs"`
		ProcessID     string            `json:"processID"`
		Warnings      []string          `json:"warnings"`
	}
	jaegerReference struct {
		RefType string `json:"refType"`
		TraceID string `json:"traceID"`
		SpanID  string `json:"spanID"`
	}
	jaegerLog struct {
		Fields jaegerFields `json:"fields"`
	}
	jaegerProcess struct {
		ServiceName string       `json:"serviceName"`
		Tags        jaegerFields `json:"tags"`
	}
	jaegerFields []jaegerField
	jaegerField  struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
	}
)

// get returns a field's value, or "" without the field.
func (f jaegerFields) get(key string) string {
	for _, field := range f {
		if field.Key == key {
			return fmt.Sprint(field.Value)
		}
	}
	return ""
}

// parent returns the id of the parent span, or "" for a root.
func (s *jaegerSpan) parent() string {
	for _, ref := range s.References {
		if ref.RefType == "CHILD_OF" {
			return ref.SpanID
		}
	}
	return ""
}

// linked says that the span has a link to another trace.
func (s *jaegerSpan) linked() bool {
	for _, ref := range s.References {
		if ref.TraceID != s.TraceID {
			return true
		}
	}
	return false
}

func (s *jaegerSpan) failed() bool { return s.Tags.get("otel.status_code") == "ERROR" }

func (s *jaegerSpan) end() int64 { return s.StartTime + s.Duration }

// events returns the span's events of one name.
func (s *jaegerSpan) events(name string) (found []jaegerFields) {
	for _, log := range s.Logs {
		if log.Fields.get("event") == name {
			found = append(found, log.Fields)
		}
	}
	return found
}
