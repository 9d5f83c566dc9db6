package redispool

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/pool"
)

// evidence is what a connection has gone through since it was lent.
type evidence struct {
	use  atomic.Uint64 // which use: of all connections
	seen atomic.Uint32 // of the flags

	mu  sync.Mutex
	met []string // the replies that were errors, each once
}

const (
	asked    uint32 = 1 << iota // something was sent, or could not be
	answered                    // with something that is not laid at the server
	done                        // something may have been carried out
	metSome                     // replies that were errors
	overflow                    // more kinds of replies than are kept
)

// mostMet bounds what is kept of a pipeline whose replies all differ.
const mostMet = 16

var connections atomic.Uint64

// numberUses gives the connection's uses numbers that no other connection's have.
func (e *evidence) numberUses() { e.use.Store(connections.Add(1) << 32) }

func (e *evidence) begin() {
	e.use.Add(1)
	if e.seen.Swap(0)&metSome != 0 {
		e.mu.Lock()
		e.met = e.met[:0]
		e.mu.Unlock()
	}
}

func (e *evidence) add(flags uint32) {
	if e.seen.Load()&flags != flags {
		e.seen.Or(flags)
	}
}

// note takes down the reply to a command, nil for one that is no error.
func (e *evidence) note(name string, err error) {
	if err == nil || isNil(err) {
		if e.seen.Load()&(answered|done) != answered|done {
			e.add(answered)
			if effective(name) {
				e.add(done)
			}
		}
		return
	}
	if runsScript(name) {
		e.add(done) // up to where it failed
	}
	if reply, ok := err.(redis.Error); ok && classifyReply(reply).Fault != pool.FaultServer { //nolint:errorlint // as go-redis hands it to a hook
		e.add(answered)
	}
	e.add(metSome)
	e.mu.Lock()
	defer e.mu.Unlock()
	text := err.Error()
	switch {
	case slices.Contains(e.met, text):
	case len(e.met) == mostMet:
		e.add(overflow)
	default:
		e.met = append(e.met, text)
	}
}

// own returns what is left of err without what other connections have met; nil if this one has met nothing of it in the present use.
func (e *evidence) own(err error) error {
	met := false
	rest := pool.Without(err, func(err error) bool {
		mine := false
		switch x := err.(type) { //nolint:errorlint // about this very error
		case *Error:
			mine = x.use == e.use.Load() || x.Err == nil
		case redis.Error:
			mine = isNil(x) || e.hasMet(x)
		default:
			return false
		}
		met = met || mine
		return !mine
	})
	if !met {
		return nil
	}
	return rest
}

func (e *evidence) hasMet(reply redis.Error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen.Load()&overflow != 0 || slices.Contains(e.met, reply.Error())
}

// Lent begins a new account.
func (d *Driver) Lent(ctx context.Context, c *Conn) context.Context {
	c.evidence.begin()
	return ctx
}

// Testify says what the connection has gone through.
func (d *Driver) Testify(c *Conn, err error) (pool.Testimony, bool) {
	seen := c.evidence.seen.Load()
	return pool.Testimony{
		Asked: seen&asked != 0, Answered: seen&answered != 0, Done: seen&done != 0, Own: c.evidence.own(err),
	}, true
}

// harmless are commands that change nothing that lasts beyond the use, or nothing before EXEC. (A sketch: to be made of the server's own
// COMMAND flags.)
var harmless = map[string]bool{
	"get": true, "mget": true, "exists": true, "ttl": true, "pttl": true, "type": true, "strlen": true, "getrange": true, "scan": true,
	"hget": true, "hmget": true, "hgetall": true, "hlen": true, "hkeys": true, "hvals": true, "hexists": true, "hscan": true,
	"lrange": true, "llen": true, "lindex": true, "smembers": true, "sismember": true, "scard": true, "sscan": true,
	"zrange": true, "zscore": true, "zcard": true, "zrank": true, "zscan": true, "xrange": true, "xlen": true, "xread": true,
	"ping": true, "echo": true, "time": true, "info": true, "dbsize": true, "role": true, "command": true,
	"select": true, "auth": true, "hello": true, "client": true, "readonly": true, "readwrite": true, "reset": true,
	"watch": true, "unwatch": true, "multi": true, "discard": true,
}

func effective(name string) bool { return !harmless[name] }

func runsScript(name string) bool {
	switch name {
	case "eval", "evalsha", "fcall":
		return true
	}
	return false
}
