package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// The trials show the effects told in README.md. The clock is the bubble's, so the test takes no
// time.
func TestTrials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		results, err := measure(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		healthy, sick, strict, down, slow := results[0], results[1], results[2], results[3], results[4]
		if healthy.served.Load() != 400 || healthy.snapshot.State != breaker.StateClosed {
			t.Errorf("a healthy server serves %d of 400 uses", healthy.served.Load())
		}
		if sick.served.Load() < 370 || sick.snapshot.Opened != 0 {
			t.Errorf("by default, a sick server serves %d of 400 uses, and the breaker has opened %d times", sick.served.Load(), sick.snapshot.Opened)
		}
		if strict.refused.Load() == 0 || strict.snapshot.Opened == 0 || strict.calls >= sick.calls {
			t.Errorf("with a FailureRatio of 0.3, %d uses are refused after %d calls", strict.refused.Load(), strict.calls)
		}
		if down.refused.Load() < 250 || down.snapshot.Trip.Rule != breaker.ReasonConsecutive {
			t.Errorf("without a server, %d of 400 uses are refused, because %v", down.refused.Load(), down.snapshot.Trip)
		}
		if slow.back <= down.back || slow.calls >= down.calls {
			t.Errorf("with looks: back after %v and %d calls; without looks: back after %v and %d calls", down.back, down.calls, slow.back, slow.calls)
		}
	})
}

// README.md shows the table of the program. The figures differ from run to run.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		if err := run(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		header, _, _ := strings.Cut(out.String(), "\n")
		names := strings.Index(header, "SERVED")
		for line := range strings.Lines(out.String()) {
			if !strings.Contains(string(page), line[:names]) {
				t.Errorf("the page has no row for %q", line[:names])
			}
		}
	})
}

func TestAdmin(t *testing.T) {
	b, err := breaker.New(breaker.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, target string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		Admin(b).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody))
		return w
	}
	if w := ask(http.MethodGet, "/breaker"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"State":"closed"`) {
		t.Errorf("GET: %d %s", w.Code, w.Body)
	}
	if w := ask(http.MethodPost, "/breaker?failure_ratio=0.5&open_for=2s"); w.Code != http.StatusOK {
		t.Errorf("POST: %d %s", w.Code, w.Body)
	}
	if cfg := b.Config(); cfg.FailureRatio != 0.5 || cfg.OpenFor != 2*time.Second {
		t.Errorf("after POST the settings are %+v", cfg)
	}
	for _, wrong := range []string{"failure_ratio=50", "failure_ratio=half", "open_for=2"} {
		if w := ask(http.MethodPost, "/breaker?"+wrong); w.Code != http.StatusBadRequest {
			t.Errorf("POST with %s: %d %s", wrong, w.Code, w.Body)
		}
	}
	if cfg := b.Config(); cfg.FailureRatio != 0.5 || cfg.OpenFor != 2*time.Second {
		t.Errorf("after wrong values the settings are %+v", cfg)
	}
}
