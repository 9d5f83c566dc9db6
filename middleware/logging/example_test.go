package logging_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/earnorm/poolstack/middleware/logging"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func Example() {
	// The logger leaves out everything that differs from run to run. A program uses its own logger, or
	// nil for the default logger.
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "duration" || a.Key == "fault" {
			return slog.Attr{}
		}
		return a
	}}))
	layer, err := logging.New(logging.Config{Logger: logger, Every: 3})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	// A real pool has a real driver, and more layers inside.
	p, err := pool.New(&pooltest.Fake{}, pool.Config{Name: "cache"}, layer)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = p.Close(ctx) }()

	for range 4 {
		_ = p.Do(ctx, pool.Op{Name: "GET"}, func(context.Context, *pooltest.Conn) error { return pooltest.ErrRefused })
	}
	// Output:
	// level=ERROR msg="use failed" pool=cache operation=GET error_type=REFUSED
	// level=ERROR msg="use failed" pool=cache operation=GET error_type=REFUSED suppressed=2
}
