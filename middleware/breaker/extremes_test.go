package breaker

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Every number of Config at its extremes. If Validate accepts the Config, no use is rejected while
// the server is well, and no use panics or hangs, neither while the server is down nor after that.
// If Validate does not accept the Config, the error names the field.
func TestConfigAtItsExtremes(t *testing.T) {
	typ := reflect.TypeFor[Config]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Name == "Name" {
			continue
		}
		var extremes []reflect.Value
		if f.Type.Kind() == reflect.Float64 {
			for _, v := range []float64{
				math.Inf(-1), -math.MaxFloat64, -1, math.SmallestNonzeroFloat64, math.Nextafter(1, 0), 1, math.MaxFloat64, math.Inf(1), math.NaN(),
			} {
				extremes = append(extremes, reflect.ValueOf(v))
			}
		} else {
			for _, v := range []int64{math.MinInt64, -1, 1, math.MaxInt64 - 1, math.MaxInt64} {
				extremes = append(extremes, reflect.ValueOf(v).Convert(f.Type))
			}
		}
		for _, v := range extremes {
			for _, live := range []bool{false, true} { // whether it is set by Configure
				t.Run(fmt.Sprintf("%s %v live %t", f.Name, v, live), func(t *testing.T) {
					var cfg Config
					reflect.ValueOf(&cfg).Elem().Field(i).Set(v)
					if f.Name == "OpenFor" && cfg.OpenFor > 0 {
						cfg.OpenMax = cfg.OpenFor
					}
					if err := cfg.Validate(); err != nil {
						if !strings.Contains(err.Error(), f.Name) {
							t.Errorf("got %v", err)
						}
						return
					}
					bubble(t, func(t *testing.T) { testExtreme(t, cfg, live) })
				})
			}
		}
	}
}

func testExtreme(t *testing.T, cfg Config, live bool) {
	first := cfg
	if live {
		first = Config{}
	}
	r := newRig(t, first)
	if live {
		if err := r.Configure(cfg); err != nil {
			t.Fatal(err)
		}
	}
	r.uses(100, nil)
	r.wantState(StateClosed)
	for range 100 {
		_ = r.use(fail)
		time.Sleep(100 * time.Millisecond)
	}
	if err := r.Configure(r.Config()); err != nil {
		t.Errorf("its own configuration is not valid: %v", err)
	}
	time.Sleep(time.Minute)
	for range 100 {
		_ = r.use(nil)
		time.Sleep(100 * time.Millisecond)
	}
	if cfg.OpenFor <= time.Second && cfg.ProbeSuccesses < 100 {
		r.wantState(StateClosed)
	}
}
