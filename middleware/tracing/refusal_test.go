package tracing

import (
	"context"
	"errors"
	"testing"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// A use that the pool refuses at once has not waited. An "acquire" span without a duration would be
// wrong, and Jaeger warns of such a span.
func TestARefusalAtOnceIsNoWait(t *testing.T) {
	r := newRig(t, driver.Identity{Name: "p"}, Config{}, pool.Config{})
	if err := r.pool.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.pool.Do(context.Background(), pool.Op{Name: "GET"}, ping); !errors.Is(err, pool.ErrClosed) {
		t.Fatal(err)
	}
	r.want(false, "GET client Error db.client.connection.pool.name=p db.operation.name=GET error.type=pool_closed")
}
