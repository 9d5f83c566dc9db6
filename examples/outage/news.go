package main

import (
	"fmt"
	"sync"
	"time"
)

// news is what happened, in order. It may be used concurrently.
type news struct {
	start time.Time

	mu    sync.Mutex
	items []string
}

// tell adds a piece of news.
func (n *news) tell(server, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.items = append(n.items, fmt.Sprintf("%6.1f s  %-7s  %s", time.Since(n.start).Seconds(), server, text))
}

// from returns the pieces from the k-th on.
func (n *news) from(k int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.items[min(k, len(n.items)):]...)
}

// latest returns the last k pieces.
func (n *news) latest(k int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.items[max(0, len(n.items)-k):]...)
}
