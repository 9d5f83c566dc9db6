package redispool

import (
	"context"
	"sync"

	"github.com/earnorm/poolstack/pool"
)

// EventPrimaryChanged is the kind of a [pool.Event] for a new primary named by the Sentinels. From
// and To are the addresses of the old and the new primary, and Reason is the name of the master.
// The pool closes the connections to the old primary.
const EventPrimaryChanged pool.EventKind = "primary_changed"

// layerName is the Layer of the events of this package.
const layerName = "redispool"

// The channels of a Sentinel: the Sentinel has taken another server for the primary; a server is up
// again; there is a new replica.
const (
	switchMaster = "+switch-master"
	upAgain      = "-sdown"
	newReplica   = "+slave"
)

// following holds the background work from the first attached pool until the last pool is closed.
type following struct {
	ctx    context.Context
	cancel context.CancelFunc
	pools  int
	work   sync.WaitGroup
	wake   chan struct{} // of capacity 1: full after a message of a Sentinel
}

// attach starts to follow the Sentinels for a pool. detach ends this for the pool. The last detach
// ends all background work and waits for its end.
func (f *finder) attach(p pool.PoolInfo) (detach func()) {
	forget := f.pools.Add(p)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.follow == nil {
		follow := &following{wake: make(chan struct{}, 1)}
		follow.ctx, follow.cancel = context.WithCancel(context.Background())
		follow.work.Go(func() { f.listen(follow) })
		f.follow = follow
	}
	follow := f.follow
	follow.pools++
	return func() {
		forget()
		f.mu.Lock()
		if follow.pools--; follow.pools == 0 {
			f.end()
		}
		f.mu.Unlock()
		if follow.ctx.Err() != nil {
			follow.work.Wait()
		}
	}
}

// end stops the background work and forgets all Sentinels. The caller holds the lock.
func (f *finder) end() {
	f.follow.cancel()
	for _, s := range f.known {
		_ = s.client.Close()
	}
	clear(f.known)
	f.present, f.follow = answer{}, nil
}

// watch subscribes to the messages of s. After each message, listen queries all Sentinels. The
// beginning of a subscription also counts as a message, because a message may have been missed
// before. The caller holds the lock.
func (f *finder) watch(s *sentinel) {
	follow, channels := f.follow, []string{switchMaster}
	if f.replicas {
		channels = append(channels, upAgain, newReplica)
	}
	follow.work.Go(func() {
		client := f.client(follow.ctx, s.address)
		defer func() { _ = client.Close() }()
		messages := client.Subscribe(s.ctx, channels...)
		defer context.AfterFunc(s.ctx, func() { _ = messages.Close() })()
		for range messages.ChannelWithSubscriptions() {
			select {
			case follow.wake <- struct{}{}:
			default:
			}
		}
	})
}

// listen queries the Sentinels after each message of a Sentinel.
func (f *finder) listen(follow *following) {
	for {
		select {
		case <-follow.wake:
			ctx, cancel := context.WithTimeout(follow.ctx, askTime)
			_, _ = f.look(ctx) // after an error, the next connection queries again
			cancel()
		case <-follow.ctx.Done():
			return
		}
	}
}

// located is an open connection to a server.
type located interface {
	at() string
	leave()
}

// leave closes all connections to servers other than the new primary. Such a server may still
// accept writes as a primary, and these writes would be lost. In a pool of replicas leave only
// replaces the connections (see clear).
func (f *finder) leave(old, primary string) {
	f.pools.Emit(pool.Event{Kind: EventPrimaryChanged, Layer: layerName, Reason: f.master, From: old, To: primary})
	f.clear()
	if f.replicas {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		if c.at() != primary {
			c.leave()
		}
	}
}

// clear makes the pools replace all connections: the idle connections at once, the others at their
// release.
func (f *finder) clear() {
	for _, p := range f.pools.Pools() {
		p.Clear()
	}
}

// add notes an open connection, and remove deletes a closed connection.
func (f *finder) add(c located) {
	f.mu.Lock()
	f.conns[c] = struct{}{}
	f.mu.Unlock()
}

func (f *finder) remove(c located) {
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
}
