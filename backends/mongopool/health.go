package mongopool

import (
	"context"
	"strconv"
	"time"
)

// Inspect says what the server that answers is, and how the sockets stand:
//
//	role         primary, secondary, arbiter, standalone, mongos or other
//	version      of the server
//	set          the replica set's name, in a set
//	members      how many the set has, in a set
//	lag          how far behind the primary a secondary is; asked of a primary: the last of its secondaries
//	servers_up   how many servers the driver knows to be up
//	servers_down how many it knows not to be
//	sockets      how many are open for commands
//
// A server that does not answer buildInfo or replSetGetStatus, or does not allow them, leaves out what they say. If the read preference is primary
// and a secondary has answered, Inspect says so by an error beside the details: the pool is degraded, as writes and most reads fail.
func (d *Driver) Inspect(ctx context.Context, res *Conn) (map[string]string, error) {
	c := res.client
	var hello helloReply
	if err := c.run(ctx, "hello", &hello); err != nil {
		return nil, err
	}
	details := map[string]string{"role": hello.role()}
	add := func(key, value string) {
		if value != "" {
			details[key] = value
		}
	}
	var build struct{ Version string }
	if err := c.run(ctx, "buildInfo", &build); err == nil {
		add("version", build.Version)
	}
	if add("set", hello.SetName); hello.SetName != "" {
		var status setStatus
		if err := c.run(ctx, "replSetGetStatus", &status); err == nil {
			add("members", strconv.Itoa(len(status.Members)))
			add("lag", status.lag())
		}
	}
	open, _ := c.meter.sockets()
	up, down := c.meter.serversUp()
	add("sockets", strconv.Itoa(open))
	add("servers_up", strconv.Itoa(up))
	add("servers_down", strconv.Itoa(down))
	if role := hello.role(); c.wantsPrimary && hello.SetName != "" && role != "primary" {
		return details, &noPrimaryError{role}
	}
	return details, nil
}

// noPrimaryError says that a set has no primary to be found.
type noPrimaryError struct{ role string }

func (e *noPrimaryError) Error() string {
	return "mongopool: no primary: a server answers as " + e.role
}

// helloReply is what hello says of the server's part in its deployment; see "hello" in MongoDB's manual of database commands.
type helloReply struct {
	IsWritablePrimary bool   `bson:"isWritablePrimary"`
	Secondary         bool   `bson:"secondary"`
	ArbiterOnly       bool   `bson:"arbiterOnly"`
	SetName           string `bson:"setName"`
	Msg               string `bson:"msg"` // "isdbgrid" from mongos
}

func (h helloReply) role() string {
	switch {
	case h.Msg == "isdbgrid":
		return "mongos"
	case h.SetName == "" && h.IsWritablePrimary:
		return "standalone"
	case h.IsWritablePrimary:
		return "primary"
	case h.Secondary:
		return "secondary"
	case h.ArbiterOnly:
		return "arbiter"
	}
	return "other"
}

// setStatus is what replSetGetStatus says of the members.
type setStatus struct {
	Members []struct {
		State      int       `bson:"state"`      // 1 is the primary, 2 a secondary
		OptimeDate time.Time `bson:"optimeDate"` // of the last write that it has
		Self       bool      `bson:"self"`
	} `bson:"members"`
}

const (
	statePrimary   = 1
	stateSecondary = 2
)

// lag returns "" when it cannot be known: without a primary, or without a secondary.
func (s setStatus) lag() string {
	var newest time.Time
	askedSecondary := false
	for _, m := range s.Members {
		if m.State == statePrimary {
			newest = m.OptimeDate
		}
		askedSecondary = askedSecondary || m.Self && m.State == stateSecondary
	}
	lag, known := time.Duration(0), false
	for _, m := range s.Members {
		if m.State == stateSecondary && (m.Self || !askedSecondary) {
			lag, known = max(lag, newest.Sub(m.OptimeDate)), true
		}
	}
	if newest.IsZero() || !known {
		return ""
	}
	return lag.Round(time.Millisecond).String()
}
