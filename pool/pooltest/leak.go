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

// leakPatience is how long Main and Leaked wait for ending goroutines.
const leakPatience = 5 * time.Second

// Main runs the tests of a package, and then looks for goroutines still running. Main returns the
// exit status: the status of the tests, or 1 if the tests passed and a goroutine is left. Use Main
// in the TestMain of a package:
//
//	func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }
//
// A goroutine is not counted if its stack contains a text of ignore: the name of a function, or a
// part of the name.
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

// Leaked returns the stacks of the goroutines still running, except the caller's goroutine and
// goroutines of the runtime and of package testing. Leaked waits up to 5 s for ending goroutines. A
// goroutine is not counted if its stack contains a text of ignore. An empty result means no leak.
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

// others returns the stacks of all goroutines except the caller's. runtime.Stack prints the
// caller's stack first.
func others() []string {
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return strings.Split(strings.TrimSpace(string(buf[:n])), "\n\n")[1:]
		}
	}
}
