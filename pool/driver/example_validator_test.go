package driver_test

import (
	"context"
	"fmt"
	"net"

	"github.com/earnorm/poolstack/pool"
)

// session is a resource that notices by itself when the server closes the connection.
type session struct{ over chan struct{} }

// sessions is a driver that is also a Validator.
type sessions struct{}

func (sessions) Open(context.Context) (*session, error)    { return &session{make(chan struct{})}, nil }
func (sessions) Check(context.Context, *session) error     { return nil } // a round trip
func (sessions) Close(_ context.Context, s *session) error { return nil }

// Valid needs no round trip.
func (sessions) Valid(s *session) bool {
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

func ExampleValidator() {
	p := must(pool.New(sessions{}, pool.Config{}))
	defer p.Close(context.Background())
	var first *session
	use := func(_ context.Context, s *session) error {
		select {
		case <-s.over:
			return net.ErrClosed
		default:
		}
		first = s
		return nil
	}
	fmt.Println(p.Do(context.Background(), pool.Op{}, use))
	close(first.over) // the server closes the connection
	fmt.Println(p.Do(context.Background(), pool.Op{}, use))
	fmt.Println(p.Stat().Opened, "opened")
	// Output:
	// <nil>
	// <nil>
	// 2 opened
}
