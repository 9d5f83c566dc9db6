package middleware_test

import (
	"fmt"

	"github.com/earnorm/poolstack/middleware"
)

// A consumer of a queue has to do each piece of work and can wait: its retries are not budgeted.
func ExampleQueue() {
	stack, err := middleware.Standard(middleware.Queue())
	fmt.Println(stack.Retry.Config().MaxAttempts, stack.Retry.Config().Budget, err)
	// Output: 12 -1 <nil>
}
