package telemetry

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // to accept compressed requests
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// receiver is a collector that stores the received data, over gRPC or HTTP.
type receiver struct {
	collectortrace.UnimplementedTraceServiceServer

	url string
	// gate, if not nil, holds every request back until it is closed.
	gate chan struct{}

	mu       sync.Mutex
	arrived  int // requests, including requests held back
	spans    []*tracepb.ResourceSpans
	metrics  []*metricspb.ResourceMetrics
	headers  []string // the values of "authorization"
	encoding []string // of the bodies, over HTTP
}

// newReceiver starts a receiver for protocol, encrypted if cert is not nil, and stops it when the
// test ends.
func newReceiver(t testing.TB, protocol string, cert *tls.Certificate, gate chan struct{}) *receiver {
	t.Helper()
	return newReceiverAt(t, "127.0.0.1:0", protocol, cert, gate)
}

func newReceiverAt(t testing.TB, address, protocol string, cert *tls.Certificate, gate chan struct{}) *receiver {
	t.Helper()
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	r := &receiver{gate: gate, url: "http://" + lis.Addr().String()}
	if cert != nil {
		r.url = "https://" + lis.Addr().String()
	}
	if protocol == protocolGRPC {
		r.startGRPC(t, lis, cert)
	} else {
		r.startHTTP(t, lis, cert)
	}
	return r
}

func (r *receiver) startGRPC(t testing.TB, lis net.Listener, cert *tls.Certificate) {
	t.Helper()
	var opts []grpc.ServerOption
	if cert != nil {
		opts = append(opts, grpc.Creds(credentials.NewServerTLSFromCert(cert)))
	}
	srv := grpc.NewServer(opts...)
	collectortrace.RegisterTraceServiceServer(srv, r)
	collectormetrics.RegisterMetricsServiceServer(srv, metricsService{receiver: r})
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(lis) }()
	t.Cleanup(func() { srv.Stop(); <-served })
}

func (r *receiver) startHTTP(t testing.TB, lis net.Listener, cert *tls.Certificate) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(_ http.ResponseWriter, req *http.Request) {
		msg := &collectortrace.ExportTraceServiceRequest{}
		if r.read(t, req, msg) {
			r.addSpans(msg.GetResourceSpans())
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(_ http.ResponseWriter, req *http.Request) {
		msg := &collectormetrics.ExportMetricsServiceRequest{}
		if r.read(t, req, msg) {
			r.addMetrics(msg.GetResourceMetrics())
		}
	})
	srv := &httptest.Server{Listener: lis, Config: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}}
	// Some tests have a client that does not trust the certificate.
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	if cert == nil {
		srv.Start()
	} else {
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
		srv.StartTLS()
	}
	t.Cleanup(srv.Close)
}

func (r *receiver) read(t testing.TB, req *http.Request, msg proto.Message) bool {
	t.Helper()
	r.note(req.Header.Get("Authorization"), req.Header.Get("Content-Encoding"))
	var body io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			t.Errorf("reading a request: %v", err)
			return false
		}
	}
	data, err := io.ReadAll(body)
	if err != nil || !r.pass(req.Context()) {
		return false
	}
	if err := proto.Unmarshal(data, msg); err != nil {
		t.Errorf("reading a request: %v", err)
		return false
	}
	return true
}

// Export implements the trace service over gRPC.
func (r *receiver) Export(ctx context.Context, req *collectortrace.ExportTraceServiceRequest) (
	*collectortrace.ExportTraceServiceResponse, error,
) {
	md, _ := metadata.FromIncomingContext(ctx)
	r.note(strings.Join(md.Get("authorization"), ","), "")
	if !r.pass(ctx) {
		return nil, ctx.Err()
	}
	r.addSpans(req.GetResourceSpans())
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

type metricsService struct {
	collectormetrics.UnimplementedMetricsServiceServer

	receiver *receiver
}

// Export implements the metrics service over gRPC.
func (s metricsService) Export(ctx context.Context, req *collectormetrics.ExportMetricsServiceRequest) (
	*collectormetrics.ExportMetricsServiceResponse, error,
) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.receiver.note(strings.Join(md.Get("authorization"), ","), "")
	if !s.receiver.pass(ctx) {
		return nil, ctx.Err()
	}
	s.receiver.addMetrics(req.GetResourceMetrics())
	return &collectormetrics.ExportMetricsServiceResponse{}, nil
}

func (r *receiver) note(authorization, encoding string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrived++
	r.headers = append(r.headers, authorization)
	r.encoding = append(r.encoding, encoding)
}

// pass waits for the gate. It returns false if the sender has gone.
func (r *receiver) pass(ctx context.Context) bool {
	if r.gate == nil {
		return true
	}
	select {
	case <-r.gate:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *receiver) addSpans(s []*tracepb.ResourceSpans) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spans = append(r.spans, s...)
}

func (r *receiver) addMetrics(m []*metricspb.ResourceMetrics) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.metrics = append(r.metrics, m...)
}

func (r *receiver) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrived
}

// spanNames returns the names of the spans received, in order.
func (r *receiver) spanNames() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, rs := range r.spans {
		for _, ss := range rs.GetScopeSpans() {
			for _, s := range ss.GetSpans() {
				names = append(names, s.GetName())
			}
		}
	}
	return names
}

// metric returns the last metric with the name, or nil.
func (r *receiver) metric(name string) *metricspb.Metric {
	r.mu.Lock()
	defer r.mu.Unlock()
	var last *metricspb.Metric
	for _, rm := range r.metrics {
		for _, sm := range rm.GetScopeMetrics() {
			for _, m := range sm.GetMetrics() {
				if m.GetName() == name {
					last = m
				}
			}
		}
	}
	return last
}

// resources returns the attributes of every received resource, of spans and of metrics.
func (r *receiver) resources() (spans, metrics []map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range r.spans {
		spans = append(spans, attributesOf(rs.GetResource()))
	}
	for _, rm := range r.metrics {
		metrics = append(metrics, attributesOf(rm.GetResource()))
	}
	return spans, metrics
}

func attributesOf(res *resourcepb.Resource) map[string]string {
	attrs := map[string]string{}
	for _, kv := range res.GetAttributes() {
		if s, ok := kv.GetValue().GetValue().(*commonpb.AnyValue_StringValue); ok {
			attrs[kv.GetKey()] = s.StringValue
		} else {
			attrs[kv.GetKey()] = kv.GetValue().String()
		}
	}
	return attrs
}
