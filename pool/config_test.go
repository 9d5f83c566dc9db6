package pool_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		cfg  pool.Config
		want string // "" when cfg is good
	}{
		{pool.Config{}, ""},
		{pool.Config{Name: "orders", MaxSize: 1, MinIdle: 1}, ""},
		{pool.Config{MinIdle: 10}, ""}, // MaxSize 0 means 10
		{pool.Config{MaxWaiters: -1, AcquireTimeout: -1, CheckAfter: -1}, ""},
		{pool.Config{OpenTimeout: 1, OpenConcurrency: 1, OpenBackoff: 1, MaxLifetime: 1, MaxIdleTime: 1}, ""},
		{pool.Config{CheckTimeout: 1, KeepAlive: 1, LeakAfter: 1}, ""},

		{pool.Config{MaxSize: -3}, "pool: MaxSize is -3: must be 0 (default 10) or more"},
		{pool.Config{MinIdle: -1}, "pool: MinIdle is -1: must be between 0 and MaxSize, which is 10"},
		{pool.Config{MinIdle: 11}, "pool: MinIdle is 11: must be between 0 and MaxSize, which is 10"},
		{pool.Config{MaxSize: 4, MinIdle: 5}, "pool: MinIdle is 5: must be between 0 and MaxSize, which is 4"},
		{pool.Config{OpenTimeout: -time.Second}, "pool: OpenTimeout is -1s: must be 0 (default 5s) or more"},
		{pool.Config{OpenConcurrency: -2}, "pool: OpenConcurrency is -2: must be 0 (default: a fifth of MaxSize, from 4 to 16) or more"},
		{pool.Config{OpenBackoff: -1}, "pool: OpenBackoff is -1ns: must be 0 (default 500ms) or more"},
		{pool.Config{MaxLifetime: -time.Hour}, "pool: MaxLifetime is -1h0m0s: must be 0 (no bound) or more"},
		{pool.Config{MaxIdleTime: -1}, "pool: MaxIdleTime is -1ns: must be 0 (no bound) or more"},
		{pool.Config{CheckTimeout: -1}, "pool: CheckTimeout is -1ns: must be 0 (default 1s) or more"},
		{pool.Config{KeepAlive: -1}, "pool: KeepAlive is -1ns: must be 0 (never) or more"},
		{pool.Config{LeakAfter: -1}, "pool: LeakAfter is -1ns: must be 0 (never) or more"},

		{pool.Config{MaxSize: -1, KeepAlive: -1},
			"pool: MaxSize is -1: must be 0 (default 10) or more; pool: KeepAlive is -1ns: must be 0 (never) or more"},
	} {
		got := ""
		if err := c.cfg.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v:\ngot  %q\nwant %q", c.cfg, got, c.want)
		}
		p, err := pool.New(&pooltest.Fake{}, c.cfg)
		if (err == nil) != (c.want == "") {
			t.Errorf("New with %+v: %v", c.cfg, err)
		}
		if err == nil {
			closePool(t, p)
		}
	}
}

func TestDefaults(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{})
	want := pool.Config{
		Name: "fake memory/0", MaxSize: 10, AcquireTimeout: 2 * time.Second,
		OpenTimeout: 5 * time.Second, OpenConcurrency: 4, OpenBackoff: 500 * time.Millisecond,
		CheckAfter: time.Second, CheckTimeout: time.Second,
	}
	if got := p.Effective(); got != want {
		t.Errorf("the zero Config is\n%+v, want\n%+v", got, want)
	}
	if err := p.Do(background, op, use); err != nil {
		t.Errorf("a use of a pool with the zero Config: %v", err)
	}
	if err := p.Configure(p.Config()); err != nil || p.Effective() != want || p.Config() != (pool.Config{Name: want.Name}) {
		t.Errorf("a Config that was read cannot be put back: %v, now %+v, in force %+v", err, p.Config(), p.Effective())
	}
}

// Values that mean something below 0 are not taken for defaults.
func TestNegativeSettingsAreKept(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{MaxWaiters: -1, AcquireTimeout: -1, CheckAfter: -1})
	if c := p.Config(); c.MaxWaiters != -1 || c.AcquireTimeout != -1 || c.CheckAfter != -1 {
		t.Errorf("got %+v", c)
	}
}

func TestName(t *testing.T) {
	for _, c := range []struct {
		id   *driver.Identity // of the driver; nil when it has none
		name string           // Config.Name
		want string
	}{
		{nil, "", "pool"},
		{nil, "orders", "orders"},
		{&driver.Identity{}, "", "pool"},
		{&driver.Identity{Name: "suggested", System: "redis"}, "", "suggested"},
		{&driver.Identity{Name: "suggested"}, "orders", "orders"},
		{&driver.Identity{System: "redis"}, "", "redis"},
		{&driver.Identity{System: "redis", Address: "cache", Port: 6379, Namespace: "0"}, "", "redis cache:6379/0"},
		{&driver.Identity{System: "redis", Address: "::1", Port: 6379}, "", "redis [::1]:6379"},
		{&driver.Identity{System: "redis", Address: "/run/redis.sock"}, "", "redis /run/redis.sock"},
		{&driver.Identity{System: "mongodb", Namespace: "shop"}, "", "mongodb/shop"},
		{&driver.Identity{Address: "cache", Port: 1}, "", "pool cache:1"},
	} {
		var d driver.Driver[conn] = struct{ driver.Driver[conn] }{&pooltest.Fake{}}
		if c.id != nil {
			d = identified{d, *c.id}
		}
		p, err := pool.New(d, pool.Config{Name: c.name})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Identity().Name; got != c.want || p.Config().Name != c.want {
			t.Errorf("%+v, Config.Name %q: the pool is called %q, in its Config %q, want %q", c.id, c.name, got, p.Config().Name, c.want)
		}
		if c.id != nil && p.Identity().System != c.id.System {
			t.Errorf("%+v: the identity has become %+v", c.id, p.Identity())
		}
		closePool(t, p)
	}
}

// identified is a driver with an identity.
type identified struct {
	driver.Driver[conn]
	id driver.Identity
}

func (d identified) Identity() driver.Identity { return d.id }

func TestConfigure(t *testing.T) {
	p := newPool(t, &pooltest.Fake{}, pool.Config{Name: "orders", MaxSize: 3})
	before := p.Config()
	for _, c := range []struct {
		cfg  pool.Config
		want string
	}{
		{pool.Config{Name: "invoices"}, `pool: Name is "invoices": must be "orders" or empty, it cannot be changed`},
		{pool.Config{MaxSize: -1}, "pool: MaxSize is -1: must be 0 (default 10) or more"},
		{pool.Config{Name: "invoices", MaxSize: -1}, "pool: MaxSize is -1: must be 0 (default 10) or more"},
	} {
		if err := p.Configure(c.cfg); err == nil || err.Error() != c.want {
			t.Errorf("Configure(%+v): got %v, want %s", c.cfg, err, c.want)
		}
		if got := p.Config(); got != before {
			t.Errorf("a refused Configure has changed the settings to %+v", got)
		}
	}
	for _, name := range []string{"", "orders"} {
		if err := p.Configure(pool.Config{Name: name, MaxSize: 7}); err != nil {
			t.Errorf("Configure with Name %q: %v", name, err)
		}
	}
	if c := p.Effective(); c.Name != "orders" || c.MaxSize != 7 || p.Stat().Max != 7 || c.AcquireTimeout != 2*time.Second {
		t.Errorf("after Configure: %+v", c)
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	_, err := pool.New[conn](nil, pool.Config{})
	if err == nil || !strings.Contains(err.Error(), "driver is nil") {
		t.Errorf("a nil driver: %v", err)
	}
	layer := pool.Bracket(&pooltest.Spy{})
	_, err = pool.New(&pooltest.Fake{}, pool.Config{}, layer, nil, layer)
	if err == nil || !strings.Contains(err.Error(), "layer 2 of 3 is nil") {
		t.Errorf("a nil layer: %v", err)
	}
	_, err = pool.New(&pooltest.Fake{}, pool.Config{MaxSize: -1}, nil)
	if err == nil || !strings.Contains(err.Error(), "MaxSize") {
		t.Errorf("a bad Config: %v", err)
	}
}

// Configure ends a Warm whose size exceeds the new MaxSize.
func TestConfigureTellsWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &pooltest.Fake{}
		fake.Inject(pooltest.Open, -1, pooltest.Slow(time.Second))
		p := newPool(t, fake, pool.Config{MaxSize: 4})
		large, small := make(chan error, 1), make(chan error, 1)
		go func() { large <- p.Warm(background, 4) }()
		go func() { small <- p.Warm(background, 2) }()
		synctest.Wait()
		if err := p.Configure(pool.Config{MaxSize: 2}); err != nil {
			t.Fatal(err)
		}
		if err := <-large; err == nil || !strings.Contains(err.Error(), "size is 4") {
			t.Errorf("Warm up to 4 of 2: %v", err)
		}
		if err := <-small; err != nil {
			t.Errorf("Warm up to 2 of 2: %v", err)
		}
	})
}

// sizedDriver is a driver with a default size of its own.
type sizedDriver struct {
	*pooltest.Fake

	size int
}

func (d sizedDriver) DefaultSize() int { return d.size }

// If MaxSize is 0, New and Configure use the size given by the driver.
func TestSizeThatTheDriverKnows(t *testing.T) {
	p, err := pool.New(sizedDriver{&pooltest.Fake{}, 64}, pool.Config{MinIdle: 20})
	if err != nil {
		t.Fatal(err)
	}
	size := func(want int) {
		t.Helper()
		if got := p.Effective().MaxSize; got != want {
			t.Errorf("MaxSize is %d, want %d", got, want)
		}
	}
	size(64)
	if err := p.Configure(pool.Config{MaxSize: 3}); err != nil {
		t.Fatal(err)
	}
	size(3)
	if err := p.Configure(pool.Config{}); err != nil {
		t.Fatal(err)
	}
	size(64)
	if err := p.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := pool.New(sizedDriver{&pooltest.Fake{}, -1}, pool.Config{}); err == nil || !strings.Contains(err.Error(), "MaxSize is -1") {
		t.Errorf("a driver with size -1: %v", err)
	}
}
