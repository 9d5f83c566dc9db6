package driver_test

import (
	"context"
	"fmt"

	"github.com/earnorm/poolstack/pool"
	"github.com/earnorm/poolstack/pool/driver"
)

// journal is a resource that records the commands of the present use.
type journal struct {
	account driver.Testimony
	failed  error // the latest error of a command
}

// Send answers each command except "hang".
func (j *journal) Send(ctx context.Context, command string) error {
	j.account.Asked = true
	if command == "hang" {
		j.failed = context.DeadlineExceeded
		return j.failed
	}
	j.account.Answered = true
	j.account.Done = j.account.Done || command == "write"
	return ctx.Err()
}

// journals is a driver that is also a Witness.
type journals struct{}

func (journals) Open(context.Context) (*journal, error) { return &journal{}, nil }
func (journals) Check(context.Context, *journal) error  { return nil }
func (journals) Close(context.Context, *journal) error  { return nil }
func (journals) BeginUse(ctx context.Context, j *journal) context.Context {
	*j = journal{}
	return ctx
}

// EndUse reports err as an error of this resource if a command has failed with err.
func (journals) EndUse(j *journal, err error) (driver.Testimony, bool) {
	if err == j.failed {
		j.account.Own = err
	}
	return j.account, true
}

// A layer learns how the server has answered a use.
func ExampleWitness() {
	tell := pool.MiddlewareFunc(func(next pool.Handler) pool.Handler {
		return func(ctx context.Context, c *pool.Call) error {
			err := next(ctx, c)
			fmt.Printf("%s: asked %t, answered %t, fault %v\n", c.Op().Name, c.Asked(), c.Answered(), c.Classify(err).Fault)
			return err
		}
	})
	p := must(pool.New(journals{}, pool.Config{}, tell))
	defer p.Close(context.Background())
	for _, commands := range [][]string{{}, {"read"}, {"read", "hang"}, {"hang"}} {
		op := pool.Op{Name: fmt.Sprint(commands)}
		_ = p.Do(context.Background(), op, func(ctx context.Context, j *journal) error {
			for _, command := range commands {
				if err := j.Send(ctx, command); err != nil {
					return err
				}
			}
			return nil
		})
	}
	other := pool.Op{Name: "another server's error"}
	_ = p.Do(context.Background(), other, func(context.Context, *journal) error { return context.DeadlineExceeded })
	// Output:
	// []: asked false, answered false, fault none
	// [read]: asked true, answered true, fault none
	// [read hang]: asked true, answered true, fault server
	// [hang]: asked true, answered false, fault server
	// another server's error: asked false, answered false, fault elsewhere
}
