package mongopool

import (
	"maps"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/earnorm/poolstack/pool"
)

func TestInspect(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	member := func(state int, behind time.Duration, self bool) bson.D {
		return bson.D{{Key: "state", Value: state}, {Key: "optimeDate", Value: now.Add(-behind)}, {Key: "self", Value: self}}
	}
	set := bson.D{{Key: "ok", Value: 1}, {Key: "members", Value: bson.A{
		member(statePrimary, 0, true), member(stateSecondary, time.Second, false), member(stateSecondary, 1500*time.Millisecond, false),
	}}}
	forbidden := reply{doc: bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: 13}, {Key: "errmsg", Value: "not allowed"}}}
	for _, c := range []struct {
		name   string
		server func(testing.TB) *fakeServer
		build  reply
		status reply
		want   map[string]string
	}{
		{
			"standalone", newFake, reply{doc: bson.D{{Key: "ok", Value: 1}, {Key: "version", Value: "8.0.1"}}}, forbidden,
			map[string]string{"role": "standalone", "version": "8.0.1", "sockets": "1", "servers_up": "1", "servers_down": "0"},
		},
		{
			"primary", newFakeSet, reply{doc: bson.D{{Key: "ok", Value: 1}, {Key: "version", Value: "7.0.5"}}}, reply{doc: set},
			map[string]string{
				"role": "primary", "version": "7.0.5", "set": "rs0", "members": "3", "lag": "1.5s",
				"sockets": "1", "servers_up": "1", "servers_down": "0",
			},
		},
		{
			"nothing is allowed", newFakeSet, forbidden, forbidden,
			map[string]string{"role": "primary", "set": "rs0", "sockets": "1", "servers_up": "1", "servers_down": "0"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := c.server(t)
			f.script("buildInfo", c.build)
			f.script("replSetGetStatus", c.status)
			// MaxSize is 1: with more resources the pool may dial more connections when a dial is late.
			_, p := newPool(t, Options{URI: f.uri()}, pool.Config{MaxSize: 1})
			h := p.Check(bounded(t))
			if h.Status != pool.StatusOK || !maps.Equal(h.Details, c.want) {
				t.Errorf("health %v %v, details %v, want ok, %v", h.Status, h.Reasons, h.Details, c.want)
			}
		})
	}
}

func TestRole(t *testing.T) {
	for want, h := range map[string]helloReply{
		"standalone": {IsWritablePrimary: true},
		"primary":    {IsWritablePrimary: true, SetName: "rs0"},
		"secondary":  {Secondary: true, SetName: "rs0"},
		"arbiter":    {ArbiterOnly: true, SetName: "rs0"},
		"mongos":     {IsWritablePrimary: true, Msg: "isdbgrid"},
		"other":      {SetName: "rs0"},
	} {
		if got := h.role(); got != want {
			t.Errorf("%+v: role %q, want %q", h, got, want)
		}
	}
}

func TestLag(t *testing.T) {
	type member = struct {
		State      int       `bson:"state"`
		OptimeDate time.Time `bson:"optimeDate"`
		Self       bool      `bson:"self"`
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	primary := member{State: statePrimary, OptimeDate: now}
	for _, c := range []struct {
		name    string
		members []member
		want    string
	}{
		{"the last of the secondaries", []member{primary, {2, now.Add(-time.Second), false}, {2, now.Add(-time.Minute), false}}, "1m0s"},
		{"its own", []member{primary, {2, now.Add(-time.Second), true}, {2, now.Add(-time.Minute), false}}, "1s"},
		{"none", []member{primary, {2, now, false}}, "0s"},
		{"no primary", []member{{2, now, true}, {2, now, false}}, ""},
		{"no secondary", []member{primary}, ""},
		{"an arbiter does not count", []member{primary, {7, time.Time{}, false}}, ""},
	} {
		if got := (setStatus{c.members}).lag(); got != c.want {
			t.Errorf("%s: lag %q, want %q", c.name, got, c.want)
		}
	}
}
