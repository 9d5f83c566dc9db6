package main

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// leftovers counts resources which a program can forget to release.
type leftovers struct {
	goroutines int
	sockets    int // -1 if the system cannot count sockets
}

func countLeftovers() leftovers {
	return leftovers{goroutines: runtime.NumGoroutine(), sockets: openSockets()}
}

// openSockets counts the sockets of this process in Linux's /proc. On other systems it returns -1.
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

// leftoverPatience is the time allowed for goroutines and sockets to end.
const leftoverPatience = 5 * time.Second

// awaitLeftovers waits until no more leftovers exist than before, for at most leftoverPatience. It
// returns the last count.
func awaitLeftovers(before leftovers) leftovers {
	if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t.CloseIdleConnections() // the connections of toxiproxy's client
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
