package mongopool

import (
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// The effects of commands, by their names and replies.

// acknowledged reports whether the reply is from the server. For an unacknowledged write the driver
// makes a reply without the field n.
func acknowledged(name string, reply bson.Raw) bool {
	switch name {
	case "insert", "update", "delete":
		return has(reply, "n")
	}
	return true
}

// readOnly are the commands that change nothing. Source: "Database Commands" in MongoDB's manual.
var readOnly = map[string]bool{
	"find": true, getMore: true, "count": true, "distinct": true, "explain": true, "killCursors": true,
	"listCollections": true, "listIndexes": true, "listDatabases": true, "listCommands": true,
	"abortTransaction": true, "endSessions": true, "refreshSessions": true, "startSession": true,
	"hello": true, "isMaster": true, "ping": true, "buildInfo": true, "hostInfo": true, "connectionStatus": true, "whatsmyuri": true,
	"dbStats": true, "collStats": true, "dataSize": true, "serverStatus": true, "replSetGetStatus": true, "currentOp": true,
	"getParameter": true, "getCmdLineOpts": true, "getLog": true, "top": true, "usersInfo": true, "rolesInfo": true,
}

// changes reports whether a command has changed something, or may have. reply is nil if there is
// none.
func changes(name string, reply bson.Raw) bool {
	switch {
	case readOnly[name]:
		return false
	case reply == nil:
		return true
	}
	switch name {
	case "insert", "delete":
		return !has(reply, "n") || positive(reply, "n")
	case "update": // n counts the matches, changed or not
		return !has(reply, "nModified") || positive(reply, "nModified") || has(reply, "upserted")
	case "findAndModify":
		return !has(reply, "lastErrorObject") || positive(reply, "lastErrorObject", "n")
	case "bulkWrite":
		return positive(reply, "nInserted") || positive(reply, "nModified") || positive(reply, "nDeleted") || positive(reply, "nUpserted") ||
			!has(reply, "nInserted")
	// An aggregate with $out or $merge returns no documents, and the reply does not name the stage.
	case "aggregate":
		first, _ := bsoncore.Document(reply).Lookup("cursor", "firstBatch").ArrayOK()
		return len(first) <= len(emptyArray) && !positive(reply, "cursor", "id")
	}
	return true
}

// emptyArray is an array without elements in BSON: its length and the end.
var emptyArray = []byte{5, 0, 0, 0, 0}

func has(reply bson.Raw, key string) bool {
	_, err := bsoncore.Document(reply).LookupErr(key)
	return err == nil
}

// positive reports whether the number at the path is not 0.
func positive(reply bson.Raw, path ...string) bool {
	n, _ := bsoncore.Document(reply).Lookup(path...).AsInt64OK()
	return n != 0
}
