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
	slow trouble = "slow" // each answer is delayed by slowness
	// At each pulse, half of the connections are cut before their next answer.
	resets trouble = "resets"
	killed trouble = "killed" // the server is killed, and restarted in the end
	// The server is stopped, and continued in the end. Connections stay open without any answer.
	frozen trouble = "frozen"

	// The faults of a replica set.
	steppedDown trouble = "stepped down"
	// The primary is killed. In the end another member is elected, and the killed member restarts.
	primaryKilled trouble = "primary killed"
)

const (
	slowness = 800 * time.Millisecond // longer than the limit of an attempt in the stack
	pulse    = 300 * time.Millisecond
)

// title returns a description of the fault.
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

// letter returns the abbreviation of the fault for the timeline.
func (t trouble) letter() byte {
	if t == steppedDown {
		return 'd' // s means slow
	}
	return t[0]
}

// undone describes the state after the end of the fault.
func (t trouble) undone() string {
	if t == steppedDown || t == primaryKilled {
		return "another primary"
	}
	return "back"
}

// serverAway reports whether the server does not answer during the fault.
func (t trouble) serverAway() bool { return t == killed || t == frozen }

// A fault is a trouble of a server, with its time in the script.
type fault struct {
	server string // control.Redis or control.MongoDB
	kind   trouble
	at     time.Duration // from the beginning of the load
	lasts  time.Duration
}

// An act is a pair of faults at about the same time. The two servers have different faults, so the
// run also shows whether the trouble of a server affects the other server's pool.
type act struct{ redis, mongodb trouble }

// acts are the acts of a script, and setActs are the acts for a MongoDB replica set.
var (
	acts    = []act{{slow, resets}, {resets, slow}, {killed, frozen}, {frozen, killed}}
	setActs = []act{{slow, resets}, {resets, slow}, {killed, steppedDown}, {frozen, primaryKilled}}
)

// The time for recovery between the faults, as a part of each act. The lower bound leaves two
// seconds for recovery, including the varying begin of an act. The upper bound keeps the demo
// interesting.
const (
	recoveryPart = 0.4
	minRecovery  = 1600 * time.Millisecond
	maxRecovery  = 5 * time.Second
)

// maxLasts is the maximum duration of a fault. It is longer than the default read timeout of
// go-redis, after which go-redis sends the command again.
const maxLasts = 6 * time.Second

// The calm time before the first and after the last act, as parts of the whole.
const (
	leadPart = 1. / 12
	tailPart = 1. / 30
)

// plan distributes the acts over duration. The seed varies the beginning of each fault a little.
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

// of returns the faults of a server.
func of(server string, script []fault) []fault {
	var own []fault
	for _, f := range script {
		if f.server == server {
			own = append(own, f)
		}
	}
	return own
}
