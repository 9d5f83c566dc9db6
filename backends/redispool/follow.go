package redispool

import (
	"context"
	"sync"

	"github.com/earnorm/poolstack/pool"
)

// EventPrimaryChanged is the kind of the [pool.Event] that says that the Sentinels name another primary: From and To are the addresses, and Reason
// is the name of the master. The pool's connections to the old primary are closed then.
const EventPrimaryChanged pool.Kind = "primary_changed"

// layerName is what the events of this package give as Layer.
const layerName = "redispool"

// The channels on which a Sentinel says that it takes another server for the primary, that a server is up again, and that there is a new replica.
const (
	switchMaster = "+switch-master"
	upAgain      = "-sdown"
	newReplica   = "+slave"
)

// following is what goes on from the first pool that is attached until the last one is closed.
type following struct {
	ctx    context.Context
	cancel context.CancelFunc
	pools  int
	work   sync.WaitGroup
	wake   chan struct{} // of capacity 1: full when a Sentinel has said something
}

// attach begins to follow the Sentinels for a pool. What it returns ends that, and waits for the end.
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

// end forgets all. The caller holds the lock.
func (f *finder) end() {
	f.follow.cancel()
	for _, s := range f.known {
		_ = s.client.Close()
	}
	clear(f.known)
	f.present, f.follow = answer{}, nil
}

// watch has a message of the Sentinel lead to a question to all of them. So has the begin of each subscription: a message may have been missed
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

// listen asks the Sentinels when one of them has said something.
func (f *finder) listen(follow *following) {
	for {
		select {
		case <-follow.wake:
			ctx, cancel := context.WithTimeout(follow.ctx, askTime)
			_, _ = f.look(ctx) // else the next connection asks
			cancel()
		case <-follow.ctx.Done():
			return
		}
	}
}

// located is a connection that is open to a server.
type located interface {
	at() string
	leave()
}

// leave ends all connections but those to the new primary. The server at their other end may still take it for one, and what it acknowledges is lost.
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

// clear has the pools open all connections anew.
func (f *finder) clear() {
	for _, p := range f.pools.Pools() {
		p.Clear()
	}
}

// add notes a connection that is open, and remove one that is closed.
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
