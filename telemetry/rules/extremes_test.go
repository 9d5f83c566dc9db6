package rules_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/earnorm/poolstack/telemetry/rules"
)

// Every number of Config at its extremes. Every Config accepted by Validate makes files that are
// not empty and have no number in a format known only to Go.
func TestConfigAtItsExtremes(t *testing.T) {
	typ := reflect.TypeFor[rules.Config]()
	for i := range typ.NumField() {
		f := typ.Field(i)
		var values []any
		switch f.Type {
		case reflect.TypeFor[time.Duration]():
			const longest = time.Duration(math.MaxInt64)
			values = []any{time.Duration(math.MinInt64), time.Duration(-1), time.Duration(1), time.Second, longest.Truncate(time.Second), longest}
		case reflect.TypeFor[int]():
			values = []any{math.MinInt, -1, 1, math.MaxInt}
		case reflect.TypeFor[float64]():
			values = []any{math.Inf(-1), -1.0, 94.0, math.Nextafter(100, 0), 100.0, math.MaxFloat64, math.Inf(1), math.NaN()}
		}
		for _, v := range values {
			t.Run(fmt.Sprintf("%s %v", f.Name, v), func(t *testing.T) {
				var cfg rules.Config
				reflect.ValueOf(&cfg).Elem().Field(i).Set(reflect.ValueOf(v))
				if err := cfg.Validate(); err != nil {
					if !strings.Contains(err.Error(), f.Name) {
						t.Errorf("got %v", err)
					}
					return
				}
				made, err := rules.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				for name, text := range made.Files() {
					for _, odd := range []string{"Inf ", "NaN", "%!", "e-"} {
						if len(text) == 0 || strings.HasSuffix(name, ".yaml") && strings.Contains(string(text), "> "+odd) {
							t.Errorf("%s contains %q", name, odd)
						}
					}
				}
			})
		}
	}
}
