package otlphttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool/pooltest"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// answer is what a collector says to one request, or the error of a request without an answer.
type answer struct {
	code   int
	header http.Header
	body   string
	err    error
}

// collector answers requests in its turn, and notes when they came and what was in them.
type collector struct {
	t       *testing.T
	answers []answer
	begun   time.Time
	at      []time.Duration
	bodies  [][]byte
	headers []http.Header
}

func (c *collector) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		c.t.Error(err)
	}
	c.at = append(c.at, time.Since(c.begun))
	c.bodies, c.headers = append(c.bodies, body), append(c.headers, req.Header)
	a := c.answers[min(len(c.at), len(c.answers))-1]
	if a.err != nil {
		return nil, a.err
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	return &http.Response{
		StatusCode: a.code, Status: http.StatusText(a.code), Header: a.header, Body: io.NopCloser(strings.NewReader(a.body)), Request: req,
	}, nil
}

// newCollector returns a collector, and a client that sends to it.
func newCollector(t *testing.T, answers ...answer) (*collector, *client) {
	t.Helper()
	u, err := url.Parse("http://collector:4318/v1/traces?key=s3cret")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, answers: answers, begun: time.Now()}
	sender := newClient(Config{URL: u, Headers: map[string]string{"Authorization": "Bearer x"}})
	sender.http.Transport = c
	return c, sender
}

func protobuf(t *testing.T, m proto.Message) string {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	aSpan  = &tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{SchemaUrl: "x"}}}
	binary = http.Header{"Content-Type": {encoding}}
)

func TestWhatIsSentAgain(t *testing.T) {
	reset := &url.Error{Op: "Post", URL: "http://x", Err: errTemporary{}}
	for _, tc := range []struct {
		name    string
		answers []answer
		tries   int
		want    string // of the error; "": none
	}{
		{"accepted", []answer{{code: 200}}, 1, ""},
		{"accepted without a word", []answer{{code: 204}}, 1, ""},
		{"busy, then accepted", []answer{{code: 503}, {code: 429}, {code: 502}, {code: 504}, {code: 200}}, 5, ""},
		{"a connection that fails for a moment", []answer{{err: reset}, {code: 200}}, 2, ""},
		{"no connection", []answer{{err: errors.New("refused")}}, 1, "sending to http://collector:4318/v1/traces: refused"},
		{"refused", []answer{{code: 400, body: " no \n"}}, 1, "http://collector:4318/v1/traces answers Bad Request: no"},
		{
			"refused in the binary encoding", []answer{{code: 401, header: binary, body: "\x08\x10\x12\x04who?"}}, // a google.rpc.Status
			1, "http://collector:4318/v1/traces answers Unauthorized: who?",
		},
		{"busy, then refused", []answer{{code: 503}, {code: 500}}, 2, "http://collector:4318/v1/traces answers Internal Server Error: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, sender := newCollector(t, tc.answers...)
				err := sender.send(t.Context(), aSpan)
				if (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				if len(c.at) != tc.tries {
					t.Errorf("%d tries, want %d", len(c.at), tc.tries)
				}
				for i, body := range c.bodies {
					var got collectortrace.ExportTraceServiceRequest
					if err := proto.Unmarshal(body, &got); err != nil || len(got.GetResourceSpans()) != 1 {
						t.Errorf("try %d sent %q: %v", i, body, err)
					}
					if h := c.headers[i]; h.Get("Authorization") != "Bearer x" || h.Get("Content-Type") != encoding {
						t.Errorf("try %d had the headers %v", i, h)
					}
				}
			})
		})
	}
}

type errTemporary struct{}

func (errTemporary) Error() string   { return "reset" }
func (errTemporary) Temporary() bool { return true }

// Pauses grow from one second to three, give or take half of the pause, and there is an end.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, sender := newCollector(t, answer{code: 503})
		if err := sender.send(t.Context(), aSpan); err == nil {
			t.Error("no error, though no try succeeded")
		}
		for i := 1; i < len(c.at); i++ {
			least, most := RetryMost/2, RetryMost*3/2
			if i == 1 {
				least, most = RetryFirst/2, RetryFirst*3/2
			} else if i < 5 {
				least = RetryFirst / 2
			}
			if pause := c.at[i] - c.at[i-1]; pause < least || pause > most {
				t.Errorf("the pause before try %d lasted %v, want %v to %v", i, pause, least, most)
			}
		}
		if last := c.at[len(c.at)-1]; last > RetryFor || last < RetryFor-RetryMost*3/2 {
			t.Errorf("the last try was after %v, want a little before %v", last, RetryFor)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const want = 20 * time.Second
		for _, value := range []func() string{
			func() string { return "20" },
			func() string { return time.Now().Add(want).UTC().Format(http.TimeFormat) },
		} {
			header := http.Header{"Retry-After": {value()}}
			c, sender := newCollector(t, answer{code: 503, header: header}, answer{code: 200})
			if err := sender.send(t.Context(), aSpan); err != nil || len(c.at) != 2 || c.at[1] != want {
				t.Errorf("%v: tries after %v (%v), want the second after %v", header, c.at, err, want)
			}
		}
		for _, value := range []string{"61", "9223372036854775807"} { // nobody waits for so long
			c, sender := newCollector(t, answer{code: 503, header: http.Header{"Retry-After": {value}}})
			if err := sender.send(t.Context(), aSpan); err == nil || len(c.at) != 1 {
				t.Errorf("%s: tries after %v (%v), want one", value, c.at, err)
			}
		}
		for _, value := range []string{"-1", "soon", ""} {
			if got := retryAfter(value); got != 0 {
				t.Errorf("%q is %v, want 0", value, got)
			}
		}
	})
}

// A shutdown does not wait for the end of a pause, and the error tells of both.
func TestTheContextEndsAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, sender := newCollector(t, answer{code: 503, body: "busy"})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		err := sender.send(ctx, aSpan)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "busy") || time.Since(begun) != 100*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// What a collector rejects of an export is told, and not sent again.
func TestPartialSuccess(t *testing.T) {
	spans := protobuf(t, &collectortrace.ExportTraceServiceResponse{
		PartialSuccess: &collectortrace.ExportTracePartialSuccess{RejectedSpans: 3, ErrorMessage: "too old"},
	})
	points := protobuf(t, &collectormetrics.ExportMetricsServiceResponse{
		PartialSuccess: &collectormetrics.ExportMetricsPartialSuccess{RejectedDataPoints: 300},
	})
	for body, want := range map[string]string{
		spans:                          "the collector has rejected 3 of the items: too old",
		points:                         "the collector has rejected 300 of the items: ",
		"":                             "",
		"\x0a\x00":                     "", // a partial success without anything
		"\x0a\x05":                     "reading the answer: unexpected EOF",
		"\xff\xff":                     "reading the answer: unexpected EOF",
		"\x0d\x01\x02\x03\x04\x1a\x00": "", // fields of later versions
	} {
		c, sender := newCollector(t, answer{code: 200, header: binary, body: body})
		err := sender.send(t.Context(), aSpan)
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: got %v, want %q", body, err, want)
		}
		if len(c.at) != 1 {
			t.Errorf("%q: %d tries, want 1", body, len(c.at))
		}
	}
}

// An answer without an end is not read to the end.
func TestLongAnswer(t *testing.T) {
	_, sender := newCollector(t, answer{code: 400, body: strings.Repeat("x", maxAnswer+1)})
	err := sender.send(t.Context(), aSpan)
	if err == nil || strings.Count(err.Error(), "x") > maxAnswer {
		t.Errorf("the error has %d characters", len(err.Error()))
	}
}
