package replicaset

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// failPoint is the supported part of MongoDB's failCommand. A fail point replaces or delays a
// number of commands, or adds to their replies. See "The failCommand fail point" in the wiki of
// github.com/mongodb/mongo.
type failPoint struct {
	times int // remaining failures; negative: no limit

	FailCommands      []string `bson:"failCommands"`
	ErrorCode         int      `bson:"errorCode"`
	ErrorLabels       []string `bson:"errorLabels"`
	CloseConnection   bool     `bson:"closeConnection"`
	BlockConnection   bool     `bson:"blockConnection"`
	BlockTimeMS       int64    `bson:"blockTimeMS"`
	WriteConcernError bson.Raw `bson:"writeConcernError"`
	AppName           string   `bson:"appName"` // the affected clients; "" for all
}

// configureFailPoint executes the command configureFailPoint for this member. An unsupported field
// is an error. Otherwise a test would wait for a failure that never comes.
func (c *conn) configureFailPoint(m message) bson.Raw {
	f, err := newFailPoint(m.doc)
	if err != nil {
		return (&refusal{code: failedToParse, text: err.Error()}).reply(c, m)
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	c.failPoint = f
	return fine
}

func newFailPoint(command bson.Raw) (*failPoint, error) {
	if name, _ := command.Index(0).Value().StringValueOK(); name != "failCommand" {
		return nil, errors.New("the only failpoint is failCommand")
	}
	f := &failPoint{}
	mode := command.Lookup("mode")
	word, _ := mode.StringValueOK()
	within, _ := mode.DocumentOK()
	times, limited := within.Lookup("times").AsInt64OK()
	switch {
	case word == "off":
		return nil, nil
	case word == "alwaysOn":
		f.times = -1
	case limited:
		f.times = int(times)
	default:
		return nil, errors.New("the mode is none of off, alwaysOn and {times: n}")
	}
	data, _ := command.Lookup("data").DocumentOK()
	if err := bson.Unmarshal(data, f); err != nil {
		return nil, err
	}
	known := []string{
		"failCommands", "errorCode", "errorLabels", "closeConnection", "blockConnection", "blockTimeMS", "writeConcernError", "appName",
	}
	elements, err := data.Elements()
	for _, e := range elements {
		if !slices.Contains(known, e.Key()) {
			return nil, errors.New("failCommand with " + e.Key() + " is not known")
		}
	}
	if slices.ContainsFunc(f.FailCommands, isHello) {
		return nil, errors.New("hello does not fail")
	}
	return f, err
}

// failing returns the fail point if the fail point applies to the command, and otherwise nil. It
// counts the failure.
func (c *conn) failing(name string) *failPoint {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	f := c.failPoint
	if f == nil || f.times == 0 || !slices.Contains(f.FailCommands, name) || f.AppName != "" && f.AppName != c.application {
		return nil
	}
	if f.times > 0 {
		f.times--
	}
	return f
}

// instead returns the reply that replaces the command's, or an error that ends the connection. It
// returns nil and nil if the fail point only delays the command or adds to its reply.
func (f *failPoint) instead(ctx context.Context, c *conn, m message) (bson.Raw, error) {
	if f.BlockConnection {
		select {
		case <-time.After(time.Duration(f.BlockTimeMS) * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	switch {
	case f.CloseConnection:
		return nil, io.EOF
	case f.ErrorCode != 0:
		return (&refusal{code: f.ErrorCode, text: "Failing command via 'failCommand' failpoint", labels: f.ErrorLabels}).reply(c, m), nil
	}
	return nil, nil
}

// unconfirmed returns the writeConcernError as a refusal, for its details.
func (f *failPoint) unconfirmed() *refusal {
	code, _ := f.WriteConcernError.Lookup("code").AsInt64OK()
	return &refusal{code: int(code), labels: f.ErrorLabels}
}
