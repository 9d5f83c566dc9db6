package metrics

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/dbconv"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// What has a name of OpenTelemetry's is OpenTelemetry's.
func TestCatalogueFollowsTheConventions(t *testing.T) {
	type convention interface{ Name() string }
	described := map[string][2]string{}
	for _, c := range []interface {
		convention
		Unit() string
		Description() string
	}{
		dbconv.ClientOperationDuration{}, dbconv.ClientConnectionCount{}, dbconv.ClientConnectionMax{}, dbconv.ClientConnectionIdleMax{},
		dbconv.ClientConnectionIdleMin{}, dbconv.ClientConnectionPendingRequests{}, dbconv.ClientConnectionTimeouts{},
		dbconv.ClientConnectionCreateTime{}, dbconv.ClientConnectionWaitTime{}, dbconv.ClientConnectionUseTime{},
	} {
		described[c.Name()] = [2]string{c.Unit(), c.Description()}
	}
	for _, i := range Catalogue() {
		want, ok := described[i.Name]
		delete(described, i.Name)
		switch {
		case ok && want != [2]string{i.Unit, i.Description}:
			t.Errorf("%s is %q, %q, want %q", i.Name, i.Unit, i.Description, want)
		case !ok && !strings.HasPrefix(i.Name, "poolstack."):
			t.Errorf("%s is neither OpenTelemetry's nor ours", i.Name)
		}
		if i.Kind == Histogram && !slices.IsSorted(i.Buckets) || i.Kind != Histogram && i.Buckets != nil {
			t.Errorf("%s has buckets %v", i.Name, i.Buckets)
		}
	}
	for name := range described {
		t.Errorf("%s is missing", name)
	}
}

// All emitted metrics are in the catalogue, with the same properties, and all metrics of the
// catalogue are emitted. Every counted event happens to real layers.
func TestCatalogueIsEmitted(t *testing.T) {
	for _, id := range []driver.Identity{redis, mongodb} {
		t.Run(id.System, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newLife(newReader(t), id)
				r.pass()
				named := driver.Identity{Name: "with a named breaker", System: id.System}
				newRigOn(r.reader, named, Config{}, pool.Config{}, made(breaker.New(breaker.Config{Name: "shards"}))(t))
				emitted := map[string]metricdata.Metrics{}
				for _, m := range r.collect() {
					emitted[m.Name] = m
				}
				for _, spec := range Catalogue() {
					m, ok := emitted[spec.Name]
					if !ok {
						t.Errorf("%s is not emitted", spec.Name)
					}
					delete(emitted, spec.Name)
					verify(t, spec, m, id.System)
				}
				for name := range emitted {
					t.Errorf("%s is not in the catalogue", name)
				}
			})
		})
	}
}

func verify(t *testing.T, spec Instrument, m metricdata.Metrics, system string) {
	t.Helper()
	if m.Unit != spec.Unit || m.Description != spec.Description {
		t.Errorf("%s is emitted with unit %q, %q", spec.Name, m.Unit, m.Description)
	}
	kind := Gauge
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		kind = UpDownCounter
		if data.IsMonotonic {
			kind = Counter
		}
	case metricdata.Histogram[float64]:
		kind = Histogram
	}
	if kind != spec.Kind {
		t.Errorf("%s is emitted as %v", spec.Name, kind)
	}
	bounds := spec.Buckets
	if system == systemRedis && spec.RedisBuckets != nil {
		bounds = spec.RedisBuckets
	}
	seen, happened := map[string]bool{}, false
	for _, p := range points(t, m) {
		happened = happened || p.value != "0"
		if !slices.Equal(p.bounds, bounds) {
			t.Errorf("%s is emitted with the buckets %v", spec.Name, p.bounds)
		}
		for _, a := range p.attrs.ToSlice() {
			seen[string(a.Key)] = true
			if !slices.Contains(spec.Attributes, string(a.Key)) {
				t.Errorf("%s is emitted with the attribute %s", spec.Name, a.Key)
			}
		}
		if v, _ := p.attrs.Value(semconv.DBClientConnectionPoolNameKey); v.AsString() == "" {
			t.Errorf("%s is emitted without the pool's name", spec.Name)
		}
	}
	if !happened && (kind == Counter || kind == Histogram) {
		t.Errorf("what %s is about has not happened", spec.Name)
	}
	for _, key := range spec.Attributes {
		absent := map[string]bool{"db.query.summary": system != systemRedis, "db.collection.name": system == systemRedis,
			"server.port": system == systemRedis}
		if !seen[key] && !absent[key] {
			t.Errorf("%s is emitted without the attribute %s", spec.Name, key)
		}
	}
}

// The first collection shows what there is to show, before anything has happened.
func TestFirstCollection(t *testing.T) {
	stack := newStack(t, stackConfig{})
	r := newRig(t, redis, pool.Config{MaxSize: 7, AcquireTimeout: 3 * time.Second}, stack.layers()...)
	want := `
db.client.connection.count db.client.connection.state=idle 0
db.client.connection.count db.client.connection.state=used 0
db.client.connection.idle.max 7
db.client.connection.idle.min 0
db.client.connection.max 7
db.client.connection.pending_requests 0
db.client.connection.timeouts 0
poolstack.acquire.timeout 3
poolstack.acquire.waits 0
poolstack.breaker.admitted poolstack.layer=breaker 1
poolstack.breaker.failure_ratio poolstack.layer=breaker 0
poolstack.breaker.state poolstack.layer=breaker poolstack.state=closed 1
poolstack.breaker.state poolstack.layer=breaker poolstack.state=half-open 0
poolstack.breaker.state poolstack.layer=breaker poolstack.state=open 0
poolstack.breaker.threshold poolstack.layer=breaker 1
poolstack.check.failures poolstack.reason=check 0
poolstack.check.failures poolstack.reason=reset 0
poolstack.connection.closed poolstack.reason=broken 0
poolstack.connection.closed poolstack.reason=check_failed 0
poolstack.connection.closed poolstack.reason=cleared 0
poolstack.connection.closed poolstack.reason=discarded 0
poolstack.connection.closed poolstack.reason=idle 0
poolstack.connection.closed poolstack.reason=lifetime 0
poolstack.connection.closed poolstack.reason=pool_closed 0
poolstack.connection.closed poolstack.reason=reset_failed 0
poolstack.connection.closed poolstack.reason=shrunk 0
poolstack.connection.maintenance poolstack.state=checking 0
poolstack.connection.maintenance poolstack.state=closing 0
poolstack.connection.maintenance poolstack.state=opening 0
poolstack.events poolstack.event=cleared poolstack.layer=pool 0
poolstack.events poolstack.event=configured poolstack.layer=breaker 0
poolstack.events poolstack.event=configured poolstack.layer=metrics 0
poolstack.events poolstack.event=configured poolstack.layer=pool 0
poolstack.events poolstack.event=configured poolstack.layer=retry 0
poolstack.events poolstack.event=configured poolstack.layer=timeout.attempt 0
poolstack.events poolstack.event=configured poolstack.layer=timeout.total 0
poolstack.events poolstack.event=forced poolstack.layer=breaker poolstack.reason=disable 0
poolstack.events poolstack.event=forced poolstack.layer=breaker poolstack.reason=force_closed 0
poolstack.events poolstack.event=forced poolstack.layer=breaker poolstack.reason=force_open 0
poolstack.events poolstack.event=forced poolstack.layer=breaker poolstack.reason=released 0
poolstack.events poolstack.event=forced poolstack.layer=breaker poolstack.reason=reset 0
poolstack.events poolstack.event=paused poolstack.layer=pool 0
poolstack.events poolstack.event=primary_changed poolstack.layer=server poolstack.reason=mymaster 0
poolstack.events poolstack.event=resumed poolstack.layer=pool 0
poolstack.events poolstack.event=subscription_opened poolstack.layer=server 0
poolstack.events poolstack.event=warning poolstack.layer=pool 0
poolstack.failures poolstack.fault=caller 0
poolstack.failures poolstack.fault=elsewhere 0
poolstack.failures poolstack.fault=local 0
poolstack.failures poolstack.fault=none 0
poolstack.failures poolstack.fault=server 0
poolstack.leaks 0
poolstack.lease.oldest 0
poolstack.open.failures poolstack.reason=connection_refused 0
poolstack.open.failures poolstack.reason=dns 0
poolstack.open.failures poolstack.reason=open_failed 0
poolstack.open.failures poolstack.reason=timeout 0
poolstack.open.failures poolstack.reason=tls 0
poolstack.rejections poolstack.layer=breaker poolstack.reason=breaker_half_open 0
poolstack.rejections poolstack.layer=breaker poolstack.reason=breaker_open 0
poolstack.rejections poolstack.layer=breaker poolstack.reason=breaker_ramp_up 0
poolstack.rejections poolstack.layer=pool poolstack.reason=pool_closed 0
poolstack.rejections poolstack.layer=pool poolstack.reason=pool_exhausted 0
poolstack.rejections poolstack.layer=pool poolstack.reason=pool_paused 0
poolstack.rejections poolstack.layer=timeout.attempt poolstack.reason=timeout_begin 0
poolstack.rejections poolstack.layer=timeout.total poolstack.reason=timeout_begin 0
poolstack.retry.attempts poolstack.reason=_OTHER 0
poolstack.retry.attempts poolstack.reason=acquire_timeout 0
poolstack.retry.attempts poolstack.reason=broken 0
poolstack.retry.attempts poolstack.reason=connection_refused 0
poolstack.retry.attempts poolstack.reason=connection_reset 0
poolstack.retry.attempts poolstack.reason=dns 0
poolstack.retry.attempts poolstack.reason=eof 0
poolstack.retry.attempts poolstack.reason=open_failed 0
poolstack.retry.attempts poolstack.reason=timeout 0
poolstack.retry.attempts poolstack.reason=timeout_attempt 0
poolstack.retry.attempts poolstack.reason=tls 0
poolstack.retry.budget poolstack.layer=retry 100
poolstack.retry.give_ups poolstack.reason=attempts 0
poolstack.retry.give_ups poolstack.reason=budget 0
poolstack.retry.give_ups poolstack.reason=canceled 0
poolstack.retry.give_ups poolstack.reason=deadline 0
poolstack.retry.give_ups poolstack.reason=refused 0
poolstack.retry.uses poolstack.attempts=2 poolstack.outcome=failure 0
poolstack.retry.uses poolstack.attempts=2 poolstack.outcome=success 0
poolstack.retry.uses poolstack.attempts=3 poolstack.outcome=failure 0
poolstack.retry.uses poolstack.attempts=3 poolstack.outcome=success 0
poolstack.retry.uses poolstack.attempts=4 poolstack.outcome=failure 0
poolstack.retry.uses poolstack.attempts=4 poolstack.outcome=success 0
poolstack.retry.uses poolstack.attempts=more poolstack.outcome=failure 0
poolstack.retry.uses poolstack.attempts=more poolstack.outcome=success 0
poolstack.timeouts poolstack.stage=acquire 0
poolstack.timeouts poolstack.stage=attempt 0
poolstack.timeouts poolstack.stage=total 0
poolstack.transitions poolstack.from=closed poolstack.layer=breaker poolstack.reason=consecutive_failures poolstack.to=open 0
poolstack.transitions poolstack.from=closed poolstack.layer=breaker poolstack.reason=failure_ratio poolstack.to=open 0
poolstack.transitions poolstack.from=closed poolstack.layer=breaker poolstack.reason=forced poolstack.to=open 0
poolstack.transitions poolstack.from=closed poolstack.layer=breaker poolstack.reason=slow_calls poolstack.to=open 0
poolstack.transitions poolstack.from=half-open poolstack.layer=breaker poolstack.reason=forced poolstack.to=closed 0
poolstack.transitions poolstack.from=half-open poolstack.layer=breaker poolstack.reason=forced poolstack.to=open 0
poolstack.transitions poolstack.from=half-open poolstack.layer=breaker poolstack.reason=look_passed poolstack.to=closed 0
poolstack.transitions poolstack.from=half-open poolstack.layer=breaker poolstack.reason=probe_failed poolstack.to=open 0
poolstack.transitions poolstack.from=half-open poolstack.layer=breaker poolstack.reason=probe_timeout poolstack.to=open 0
poolstack.transitions poolstack.from=half-open poolstack.layer=breaker poolstack.reason=probes_succeeded poolstack.to=closed 0
poolstack.transitions poolstack.from=open poolstack.layer=breaker poolstack.reason=forced poolstack.to=closed 0
poolstack.transitions poolstack.from=open poolstack.layer=breaker poolstack.reason=look_passed poolstack.to=half-open 0
poolstack.transitions poolstack.from=open poolstack.layer=breaker poolstack.reason=open_period_over poolstack.to=half-open 0`
	if got := "\n" + strings.Join(r.lines(), "\n"); got != want {
		t.Errorf("got%s\nwant%s", got, want)
	}
}

// Every series known beforehand exists from the first collection, and can be counted.
func TestZeroCounters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newLife(newReader(t), redis)
		first := r.counters()
		r.pass()
		r.close()
		r.do(context.Background(), nil) // refused
		last := r.counters()
		for series := range last {
			// REFUSED is a server's own code.
			if _, ok := first[series]; !ok && series != "poolstack.retry.attempts poolstack.reason=REFUSED" {
				t.Errorf("%s does not exist from the first collection", series)
			}
		}
		rare := regexp.MustCompile("^poolstack.connection.closed |=reset$|retry.attempts poolstack.reason=_OTHER$|failures poolstack.fault=elsewhere$|" +
			"retry.uses |reason=failure_ratio |reason=consecutive_failures |reason=probe_timeout |reason=look_passed ")
		for series := range first {
			if last[series] == 0 && !rare.MatchString(series) {
				t.Errorf("%s exists but has not happened", series)
			}
		}
	})
}

// counters returns how all counters stand, those of several pools added up.
func (r *reader) counters() map[string]int64 {
	r.t.Helper()
	all := map[string]int64{}
	for _, m := range r.collect() {
		if data, ok := m.Data.(metricdata.Sum[int64]); ok && data.IsMonotonic {
			for _, p := range data.DataPoints {
				all[m.Name+point{attrs: p.Attributes}.labels()] += p.Value
			}
		}
	}
	return all
}

// A pool without a breaker has no breaker's metrics, one without a bound on waits none of it.
func TestFirstCollectionWithoutLayers(t *testing.T) {
	r := newRig(t, redis, pool.Config{AcquireTimeout: -1})
	for _, name := range []string{"poolstack.breaker.", "poolstack.retry.", "poolstack.acquire.timeout"} {
		for _, l := range r.lines() {
			if strings.HasPrefix(l, name) {
				t.Errorf("there is %s", l)
			}
		}
	}
}

// What layers and pool report is counted once, by its attributes.
func TestEvents(t *testing.T) {
	timedOut := &pool.Error{Reason: pool.ErrAcquireTimeout, Cause: context.DeadlineExceeded}
	for _, c := range []struct {
		event  pool.Event
		series []string
	}{
		{pool.Event{Kind: pool.EventAcquired}, []string{"db.client.connection.wait_time"}},
		{pool.Event{Kind: pool.EventReleased}, []string{"db.client.connection.use_time"}},
		{pool.Event{Kind: pool.EventOpened}, []string{"db.client.connection.create_time"}},
		{
			pool.Event{Kind: pool.EventAcquireFailed, Reason: "open_failed", Err: timedOut},
			[]string{"db.client.connection.timeouts", "poolstack.timeouts poolstack.stage=acquire"},
		},
		{
			pool.Event{Kind: pool.EventAcquireFailed, Reason: "pool_exhausted", Err: &pool.Error{Reason: pool.ErrExhausted}},
			[]string{"poolstack.rejections poolstack.layer=pool poolstack.reason=pool_exhausted"},
		},
		{pool.Event{Kind: pool.EventAcquireFailed, Reason: "canceled", Err: &pool.Error{Reason: pool.ErrAcquireCanceled}}, nil},
		{
			pool.Event{Kind: pool.EventOpenFailed, Reason: "connection_refused", Err: errors.New("secret")},
			[]string{"poolstack.open.failures poolstack.reason=connection_refused"},
		},
		{pool.Event{Kind: pool.EventCheckFailed, Reason: "reset"}, []string{"poolstack.check.failures poolstack.reason=reset"}},
		{pool.Event{Kind: pool.EventClosed, Reason: "idle"}, []string{"poolstack.connection.closed poolstack.reason=idle"}},
		{pool.Event{Kind: pool.EventLeaked, Stack: "secret"}, []string{"poolstack.leaks"}},
		{pool.Event{Kind: pool.EventRetry, Layer: "retry", Reason: "LOADING"}, []string{"poolstack.retry.attempts poolstack.reason=LOADING"}},
		{pool.Event{Kind: pool.EventGaveUp, Layer: "retry", Reason: "budget"}, []string{"poolstack.retry.give_ups poolstack.reason=budget"}},
		{
			pool.Event{Kind: pool.EventRejected, Layer: "breaker", Reason: "breaker_open"},
			[]string{"poolstack.rejections poolstack.layer=breaker poolstack.reason=breaker_open"},
		},
		{pool.Event{Kind: pool.EventTimeout, Layer: "timeout.total", Reason: "total"}, []string{"poolstack.timeouts poolstack.stage=total"}},
		{pool.Event{Kind: pool.EventTimeout, Layer: "timeout.total", Reason: "acquire"}, nil},
		{pool.Event{Kind: pool.EventStateChanged, Layer: "breaker", From: "closed", To: "open", Reason: "failure_ratio"}, []string{
			"poolstack.transitions poolstack.from=closed poolstack.layer=breaker poolstack.reason=failure_ratio poolstack.to=open",
		}},
		{pool.Event{Kind: pool.EventPaused, Layer: "pool"}, []string{"poolstack.events poolstack.event=paused poolstack.layer=pool"}},
		{
			pool.Event{Kind: pool.EventWarning, Layer: "pool", Reason: "a sentence"},
			[]string{"poolstack.events poolstack.event=warning poolstack.layer=pool"},
		},
		{
			pool.Event{Kind: "unknown", Layer: "other", Reason: "x"},
			[]string{"poolstack.events poolstack.event=unknown poolstack.layer=other poolstack.reason=x"},
		},
	} {
		t.Run(fmt.Sprint(c.event.Kind, c.series), func(t *testing.T) {
			r := newRig(t, redis, pool.Config{})
			before := r.lines()
			c.event.Pool = redis.Name
			r.layer.recorder.Observe(context.Background(), c.event)
			var want []string
			for _, s := range c.series {
				want = append(want, s+" 1")
			}
			got := slices.DeleteFunc(r.lines(), func(l string) bool { return slices.Contains(before, l) })
			if !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
