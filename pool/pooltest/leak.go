package pooltest

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// leakPatience is how long Main and Leaked wait for goroutines that are on their way out.
const leakPatience = 5 * time.Second

// Main runs the tests of a package and then looks for goroutines that outlived them. It returns the exit status: the tests' own,
// or 1 when they passed but something was left running. Use it as a package's TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }
//
// A goroutine whose stack contains one of ignore (a function's name, or a part of it) is not counted.
func Main(m *testing.M, ignore ...string) int {
	status := m.Run()
	if status != 0 {
		return status
	}
	if left := Leaked(ignore...); len(left) > 0 {
		fmt.Fprintf(os.Stderr, "pooltest: %d goroutines outlived the tests:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		return 1
	}
	return 0
}

// Leaked returns the stacks of the goroutines that are still running, besides the caller's and the runtime's own; it waits up to
// five seconds for those that are ending. A goroutine whose stack contains one of ignore is not counted. An empty result is a pass.
func Leaked(ignore ...string) []string {
	ignore = append([]string{
		"testing.(*T).Run(", "testing.(*M).", "testing.runTests(", "testing.runFuzzing(", "testing.runFuzzTests(",
		"os/signal.signal_recv", "os/signal.loop", "runtime.ensureSigM",
	}, ignore...)
	deadline := time.Now().Add(leakPatience)
	for pause := time.Millisecond; ; pause *= 2 {
		left := slices.DeleteFunc(others(), func(stack string) bool {
			return slices.ContainsFunc(ignore, func(s string) bool { return strings.Contains(stack, s) })
		})
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(pause)
	}
}

// others returns the stacks of all goroutines but the caller's, which runtime.Stack prints first.
func others() []string {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return strings.Split(strings.TrimSpace(string(buf[:n])), "\n\n")[1:]
		}
	}
}
