package driver_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
	"github.com/earnorm/poolstack/pool/pooltest"
)

var (
	errDiskFull = errors.New("the disk is full")
	errNoServer = errors.New("no server was found before the deadline")
)

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// shop is a driver that classifies these errors.
type shop struct{ *pooltest.Fake }

func (s shop) Classify(err error) driver.Class {
	switch {
	case errors.Is(err, errDiskFull): // the server still serves reads
		return driver.Class{Fault: driver.FaultServer, Narrow: true, Type: "disk_full"}
	case errors.Is(err, errNoServer): // the client has evidence, so the short deadline is not to blame
		return driver.Class{Fault: driver.FaultServer, Repeat: driver.RepeatAlways, Certain: true, Type: "no_server"}
	}
	return s.Fake.Classify(err)
}

// verdict is a layer that prints the class of the outcome.
type verdict struct{}

func (verdict) Begin(ctx context.Context, _ *pool.Call) (context.Context, struct{}, error) {
	return ctx, struct{}{}, nil
}

func (verdict) End(_ context.Context, c *pool.Call, _ struct{}, err error) {
	class := c.Classify(err)
	fmt.Printf("%s: fault %v, narrow %v\n", class.Type, class.Fault, class.Narrow)
}

// A driver reports a failure of a single kind of work (Narrow), or a fault of the server although
// the caller's time is over (Certain). Any other failure after the caller's deadline is the
// caller's fault.
func ExampleClass() {
	p := must(pool.New(shop{&pooltest.Fake{}}, pool.Config{}, pool.Bracket(verdict{})))
	defer p.Close(context.Background())
	_ = p.Do(context.Background(), pool.Op{Name: "insert"}, func(context.Context, *pooltest.Conn) error { return errDiskFull })
	for _, err := range []error{errNoServer, context.DeadlineExceeded} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		_ = p.Do(ctx, pool.Op{Name: "find"}, func(ctx context.Context, _ *pooltest.Conn) error {
			<-ctx.Done()
			return err
		})
		cancel()
	}
	// Output:
	// disk_full: fault server, narrow true
	// no_server: fault server, narrow false
	// timeout: fault caller, narrow false
}

// wideDriver wraps a client with a default of 64 connections.
type wideDriver struct{ *pooltest.Fake }

func (wideDriver) DefaultSize() int { return 64 }

// A driver gives the size of a pool whose Config has no MaxSize.
func ExampleSizer() {
	p, err := pool.New(wideDriver{&pooltest.Fake{}}, pool.Config{})
	if err != nil {
		panic(err)
	}
	defer p.Close(context.Background())
	fmt.Println(p.Effective().MaxSize)
	// Output: 64
}

// tape is a layer that observes the commands sent by the client within a use.
type tape struct{ pool.MiddlewareFunc }

func (tape) BeginCommand(ctx context.Context, c *pool.Call, cmd driver.Command) context.Context {
	fmt.Println(c.Op().Name, "sends", cmd.Name)
	return ctx
}

func (tape) EndCommand(_ context.Context, c *pool.Call, cmd driver.Command, err error) {
	fmt.Println(c.Op().Name, "has sent", cmd.Name, err)
}

// The hooks of a client report the commands, with the context of the use.
func ExampleBeginCommand() {
	through := func(next pool.Handler) pool.Handler { return next }
	p := must(pool.New(&pooltest.Fake{}, pool.Config{}, tape{through}))
	defer p.Close(context.Background())
	_ = p.Do(context.Background(), pool.Op{Name: "checkout"}, func(ctx context.Context, c *pooltest.Conn) error {
		if !driver.Observing(ctx) {
			return c.Use(ctx)
		}
		cmd := driver.Command{Name: "INCR"}
		ctx = driver.BeginCommand(ctx, cmd)
		err := c.Use(ctx)
		driver.EndCommand(ctx, cmd, err)
		return err
	})
	// Output:
	// checkout sends INCR
	// checkout has sent INCR <nil>
}

// recorded is a Commands for the test of a driver's hooks, without a pool.
type recorded struct{}

func (recorded) WantsCommandText() bool { return true }

func (recorded) BeginCommand(ctx context.Context, cmd driver.Command) context.Context {
	fmt.Println("begin", cmd.Name, cmd.Text)
	return ctx
}

func (recorded) EndCommand(_ context.Context, cmd driver.Command, err error) {
	fmt.Println("end", cmd.Name, err)
}

func ExampleCommands() {
	ctx := context.WithValue(context.Background(), driver.CommandsKey{}, driver.Commands(recorded{}))
	cmd := driver.Command{Name: "GET"}
	if driver.ObservingText(ctx) {
		cmd.Text = "GET ?"
	}
	ctx = driver.BeginCommand(ctx, cmd)
	driver.EndCommand(ctx, cmd, nil)
	// Output:
	// begin GET GET ?
	// end GET <nil>
}
