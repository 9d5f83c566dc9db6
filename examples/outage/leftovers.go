package main

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// leftovers are what a program can forget to give back.
type leftovers struct {
	goroutines int
	sockets    int // -1 where they cannot be counted
}

func countLeftovers() leftovers {
	return leftovers{goroutines: runtime.NumGoroutine(), sockets: openSockets()}
}

// openSockets counts the sockets of this process. Linux lists them in /proc; elsewhere it returns -1.
func openSockets() int {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(fds) == 0 {
		return -1
	}
	n := 0
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}

// leftoverPatience is how long goroutines and sockets that are on their way out may take.
const leftoverPatience = 5 * time.Second

// awaitLeftovers returns what there is once that is no more than before, or after leftoverPatience.
func awaitLeftovers(before leftovers) leftovers {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t.CloseIdleConnections() // those of toxiproxy's client
	}
	deadline := time.NewTimer(leftoverPatience)
	defer deadline.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		now := countLeftovers()
		if now.goroutines <= before.goroutines && now.sockets <= before.sockets {
			return now
		}
		select {
		case <-deadline.C:
			return now
		case <-poll.C:
		}
	}
}
