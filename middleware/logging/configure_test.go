package logging

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/pool/settings"
)

// New settings hold for the next lines. The line about new settings has source, actor, reason and
// values.
func TestConfigure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &log{t: t}
		layer, err := New(Config{Logger: l.logger(slog.LevelInfo), Interval: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache"}, layer)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close(context.Background())
		fail := func(n int) {
			for range n {
				_ = p.Do(context.Background(), pool.Op{}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrRefused })
			}
		}
		const refused = `level=ERROR msg="use failed" pool=cache error_type=REFUSED fault=server duration=0s`
		fail(3)
		l.want(refused)
		r, err := layer.Tuning().Apply(settings.Request{
			Source: settings.Trial, ID: "c-12", Values: map[string]string{"every": "1", "error_text": "true"}, Revision: 1,
			Actor: "ann", Reason: "an outage",
		})
		if err != nil {
			t.Fatal(err)
		}
		l.want(`level=INFO msg="configuration changed" pool=cache layer=logging source=trial id=c-12 actor=ann reason="an outage" revision=2` +
			` changes.every="1000 to 1" changes.error_text="false to true"`)
		fail(2)
		text := ` error="` + pooltest.ErrRefused.Error() + `"`
		l.want(refused+text+" suppressed=2", refused+text)
		if cfg := layer.Config(); cfg.Every != 0 || cfg.ErrorText {
			t.Errorf("declared is %+v", cfg)
		}
		if cfg := layer.Effective(); cfg.Every != 1 || !cfg.ErrorText || cfg.Interval != time.Minute || cfg.Logger == nil {
			t.Errorf("in force is %+v", cfg)
		}
		if _, err := layer.Tuning().Apply(settings.Request{Source: settings.Trial, Revision: r.Revision}); err != nil {
			t.Fatal(err)
		}
		l.take()
		fail(1)
		l.want()
	})
}
