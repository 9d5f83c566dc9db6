package main

import (
	"fmt"
	"sync"
	"time"
)

// news is the list of events, in order. It is safe for concurrent use.
type news struct {
	start time.Time

	mu    sync.Mutex
	items []string
}

// tell adds an item.
func (n *news) tell(server, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.items = append(n.items, fmt.Sprintf("%6.1f s  %-7s  %s", time.Since(n.start).Seconds(), server, text))
}

// from returns the items from index k on.
func (n *news) from(k int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.items[min(k, len(n.items)):]...)
}

// latest returns the last k items.
func (n *news) latest(k int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.items[max(0, len(n.items)-k):]...)
}
