package tracing_test

import (
	"context"
	"fmt"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/pooltest"
)

func Example() {
	recorder := tracetest.NewSpanRecorder() // in a program: an exporter
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))

	layer, err := tracing.New(tracing.Config{TracerProvider: provider})
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
	if err := p.Warm(ctx, 1); err != nil { // so the use does not wait for a connection
		fmt.Println(err)
		return
	}

	err = p.Do(ctx, pool.Op{Name: "GET", Target: "sessions"}, func(context.Context, *pooltest.Conn) error {
		return pooltest.ErrReply
	})
	fmt.Println("error:", err)
	for _, s := range recorder.Ended() {
		fmt.Println("span:", s.Name(), s.SpanKind(), s.Status().Code)
		for _, a := range s.Attributes() {
			fmt.Printf("  %s=%s\n", a.Key, a.Value.String())
		}
	}
	// Output:
	// error: pooltest: a healthy server's error reply
	// span: GET sessions client Error
	//   db.system.name=fake
	//   db.namespace=0
	//   db.operation.name=GET
	//   db.collection.name=sessions
	//   server.address=memory
	//   db.client.connection.pool.name=cache
	//   error.type=REPLY
	//   db.response.status_code=REPLY
}
