package metrics

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

// bulkhead is a layer of another package: it refuses uses of a shard that is shut.
type bulkhead struct {
	name   string
	shards []string // that have been used so far
	shut   bool
}

var errShut = errors.New("shut")

func (b *bulkhead) Begin(ctx context.Context, c *pool.Call) (context.Context, struct{}, error) {
	if !slices.Contains(b.shards, c.Op().Target) {
		b.shards = append(b.shards, c.Op().Target)
	}
	if b.shut {
		c.Emit(ctx, pool.Event{Kind: pool.EventRejected, Layer: b.name, Reason: "full", Err: errShut})
		c.Emit(ctx, pool.Event{Kind: "shed", Layer: b.name, Reason: "full"})
		return ctx, struct{}{}, errShut
	}
	return ctx, struct{}{}, nil
}

func (*bulkhead) End(context.Context, *pool.Call, struct{}, error) {}

func (b *bulkhead) Describe() pool.LayerInfo {
	return pool.LayerInfo{Layer: "bulkhead", Name: b.name, Role: pool.RoleAdmit, Events: []pool.Event{
		{Kind: pool.EventRejected, Reason: "full"},
		{Kind: pool.EventStateChanged, From: "open", To: "shut", Reason: "operator"},
		{Kind: "shed", Reason: "full"},
	}}
}

func (b *bulkhead) Levels() []pool.Level {
	levels := []pool.Level{
		{
			Name: "state", States: []string{"open", "shut"}, Help: "The state.",
			Read: func() (float64, bool) { return map[bool]float64{true: 1}[b.shut], true },
		},
		{Name: "load", Unit: "1", Help: "The load of all shards.", Read: func() (float64, bool) { return 0.5, true }},
		{Name: "memory", Unit: "By", Read: func() (float64, bool) { return 0, false }},
	}
	for _, shard := range append([]string{"none"}, b.shards...) {
		levels = append(levels, pool.Level{
			Name: "used", Key: shard, Unit: "{use}", Help: "The uses of a shard.", Read: func() (float64, bool) { return 3, true },
		})
	}
	if len(b.shards) > 0 {
		levels = append(levels, pool.Level{Name: "used", Key: "without a Read"}, pool.Level{Name: "of no metric"})
	}
	for i := range levels {
		levels[i].Layer, levels[i].LayerName = "bulkhead", b.name
	}
	return levels
}

// The levels and the events of a layer of another package are published without an entry in this
// package. Two layers of a kind are told apart by their names. A key may appear later.
func TestLayerOfAnotherPackage(t *testing.T) {
	a, b := &bulkhead{name: "a"}, &bulkhead{name: "b"}
	r := newRig(t, redis, pool.Config{}, pool.Bracket(a), pool.Bracket(b))
	want := func(when string, series ...string) {
		t.Helper()
		for _, s := range series {
			line := strings.Fields(s)
			value := line[len(line)-1]
			r.want(strings.Join(line[:len(line)-1], " "), value)
		}
		if t.Failed() {
			t.Fatal(when)
		}
	}
	want("at first",
		"poolstack.rejections poolstack.layer=a poolstack.reason=full 0",
		"poolstack.transitions poolstack.from=open poolstack.layer=b poolstack.reason=operator poolstack.to=shut 0",
		"poolstack.events poolstack.event=shed poolstack.layer=b poolstack.reason=full 0",
		"poolstack.bulkhead.state poolstack.layer=a poolstack.state=open 1",
		"poolstack.bulkhead.state poolstack.layer=b poolstack.state=shut 0",
		"poolstack.bulkhead.load poolstack.layer=b 0.5",
		"poolstack.bulkhead.used poolstack.key=none poolstack.layer=a 3",
	)
	b.shut = true
	r.pool.Emit(pool.Event{Kind: pool.EventStateChanged, Layer: "b", From: "open", To: "shut", Reason: "operator"})
	r.pool.Emit(pool.Event{Kind: pool.EventWarning, Layer: "b", Reason: "a sentence that is long"})
	err := r.pool.Do(t.Context(), pool.Op{Target: "s1"}, func(context.Context, *pooltest.Conn) error { return nil })
	if !errors.Is(err, errShut) {
		t.Fatal(err)
	}
	want("after a refusal",
		"poolstack.rejections poolstack.layer=a poolstack.reason=full 0",
		"poolstack.rejections poolstack.layer=b poolstack.reason=full 1",
		"poolstack.transitions poolstack.from=open poolstack.layer=b poolstack.reason=operator poolstack.to=shut 1",
		"poolstack.events poolstack.event=shed poolstack.layer=b poolstack.reason=full 1",
		"poolstack.events poolstack.event=warning poolstack.layer=b 1",
		"poolstack.bulkhead.state poolstack.layer=a poolstack.state=open 1",
		"poolstack.bulkhead.state poolstack.layer=b poolstack.state=shut 1",
		"poolstack.bulkhead.used poolstack.key=s1 poolstack.layer=a 3",
	)
	described := 0
	catalogue := Catalogue(r.pool.Levels()...)
	for _, m := range r.collect() {
		if strings.HasPrefix(m.Name, "poolstack.bulkhead.") {
			described++
			i := slices.IndexFunc(catalogue, func(i Instrument) bool { return i.Name == m.Name })
			verify(t, catalogue[i], m, redis.System)
		}
	}
	if described != 3 || len(catalogue) != len(Catalogue())+5 {
		t.Errorf("%d levels are emitted, want 3 of the 5 in the catalogue", described)
	}
}

// leveled is a layer with one level.
type leveled pool.Level

func (leveled) Wrap(next pool.Handler) pool.Handler { return next }
func (l leveled) Levels() []pool.Level              { return []pool.Level{pool.Level(l)} }

// A level that no metric can have is an error of New.
func TestLevelsWithoutAMetric(t *testing.T) {
	read := func() (float64, bool) { return 1, true }
	for want, level := range map[string]pool.Level{
		`level "an hour" of layer "clock"`:                         {Layer: "clock", Name: "an hour"},
		`level "" of layer "clock"`:                                {Layer: "clock"},
		"the metric poolstack.acquire.timeout belongs to the pool": {Layer: "acquire", Name: "timeout"},
	} {
		level.Read = read
		m := made(New(Config{MeterProvider: newReader(t).provider}))(t)
		p, err := pool.New(&pooltest.Fake{}, pool.Config{}, m, leveled(level))
		if err == nil {
			_ = p.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A layer with keys without bound has a bounded number of series.
func TestManyKeys(t *testing.T) {
	b := &bulkhead{name: "a"}
	r := newRig(t, redis, pool.Config{}, pool.Bracket(b))
	for i := range 2 * maxSeries {
		b.shards = append(b.shards, strings.Repeat("x", i))
	}
	n := 0
	for _, l := range r.lines() {
		if strings.HasPrefix(l, "poolstack.bulkhead.used") {
			n++
		}
	}
	if n < maxSeries-5 || n > maxSeries {
		t.Errorf("%d series, want at most %d", n, maxSeries)
	}
}
