package main

import (
	"math/rand/v2"
	"time"

	"github.com/earnorm/poolstack/examples/servers/control"
)

// A trouble is a kind of fault.
type trouble string

// The kinds of faults.
const (
	slow   trouble = "slow"   // every answer takes slowness longer
	resets trouble = "resets" // at each pulse, half of the connections are cut when their next answer is due
	killed trouble = "killed" // the server is killed, and started again in the end
	frozen trouble = "frozen" // the server is stopped in its tracks: connections stay open, nothing answers; it goes on in the end

	// Of a replica set.
	steppedDown   trouble = "stepped down"   // the primary becomes a secondary; another one is elected in the end
	primaryKilled trouble = "primary killed" // the primary is killed; another one is elected in the end, and the killed one started again
)

const (
	slowness = 800 * time.Millisecond // more than an attempt of the stack may take
	pulse    = 300 * time.Millisecond
)

// title says what a fault of this kind is.
func (t trouble) title() string {
	switch t {
	case slow:
		return "answers " + slowness.String() + " late"
	case resets:
		return "connections reset"
	case killed:
		return "server killed"
	case frozen:
		return "server frozen"
	case steppedDown:
		return "primary steps down"
	case primaryKilled:
		return "primary killed"
	}
	return string(t)
}

// letter stands for a fault of this kind where there is room for no more.
func (t trouble) letter() byte {
	if t == steppedDown {
		return 'd' // s is for slow
	}
	return t[0]
}

// undone says what there is when a fault of this kind is over.
func (t trouble) undone() string {
	if t == steppedDown || t == primaryKilled {
		return "another primary"
	}
	return "back"
}

// serverAway says whether nothing answers while the fault lasts.
func (t trouble) serverAway() bool { return t == killed || t == frozen }

// A fault is a trouble with a server, from one moment of the script to another.
type fault struct {
	server string // control.Redis or control.MongoDB
	kind   trouble
	at     time.Duration // since the load began
	lasts  time.Duration
}

// An act is what happens to the two servers at about the same time: something different to each, so that one sees that the trouble with
// one is none of the other.
type act struct{ redis, mongodb trouble }

// acts are all there are, and setActs all there are when MongoDB is a replica set.
var (
	acts    = []act{{slow, resets}, {resets, slow}, {killed, frozen}, {frozen, killed}}
	setActs = []act{{slow, resets}, {resets, slow}, {killed, steppedDown}, {frozen, primaryKilled}}
)

// The time between the faults, in which the pools recover: a part of each act, but never so little that two seconds are not enough, with
// what an act may begin late; nor so much that one gets bored.
const (
	recoveryPart = 0.4
	minRecovery  = 1600 * time.Millisecond
	maxRecovery  = 5 * time.Second
)

// maxLasts is how long a fault lasts at most. It is more than go-redis waits for an answer by default, and sends the command again.
const maxLasts = 6 * time.Second

// The calm before the first act and after the last, in parts of the whole.
const (
	leadPart = 1. / 12
	tailPart = 1. / 30
)

// plan spreads the acts over duration. The seed moves each fault a little.
func plan(duration time.Duration, seed uint64, acts []act) []fault {
	random := rand.New(rand.NewPCG(seed, 0))
	lead, tail := scale(duration, leadPart), scale(duration, tailPart)
	span := (duration - lead - tail) / time.Duration(len(acts))
	recovery := min(max(scale(span, recoveryPart), minRecovery), maxRecovery)
	var script []fault
	for i, a := range acts {
		for _, f := range []fault{{server: control.Redis, kind: a.redis}, {server: control.MongoDB, kind: a.mongodb}} {
			longest := span - recovery
			f.at = lead + time.Duration(i)*span + scale(longest, random.Float64()/10)
			f.lasts = min(scale(longest, 0.9), maxLasts)
			script = append(script, f)
		}
	}
	return script
}

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// of returns the faults of one server.
func of(server string, script []fault) []fault {
	var own []fault
	for _, f := range script {
		if f.server == server {
			own = append(own, f)
		}
	}
	return own
}
