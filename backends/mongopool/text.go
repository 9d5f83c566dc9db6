package mongopool

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// Bounds for the text of a command: maxText in bytes, maxDepth for nested documents, maxLooked for
// the elements read from an array, and maxNameLen for the bytes of a field's name.
const (
	maxText    = 2048
	maxDepth   = 16
	maxLooked  = 200
	maxNameLen = 64
)

// secretive are prefixes of commands that carry credentials. Only the name of such a command is
// shown. The driver hides such commands already.
var secretive = []string{"auth", "sasl", "createuser", "updateuser", "getnonce", "copydb", "hello", "ismaster"}

// text returns a command with "?" in place of each value, except for the name of its collection:
// {"find":"people","limit":"?"}. Equal neighbours in an array are shown once. Of an unknown command
// nothing is shown.
func text(name, collection string, command bson.Raw) string {
	lower := strings.ToLower(name)
	shown := displayName(name)
	hide := len(command) == 0 || shown == otherName
	for _, prefix := range secretive {
		hide = hide || strings.HasPrefix(lower, prefix)
	}
	var w writer
	if hide {
		w.name(shown)
		return "{" + string(w.text) + `:"?"}`
	}
	w.collection, w.collectionField = collection, name
	if name == "getMore" {
		w.collectionField = "collection"
	}
	w.document(bsoncore.Document(command), 0)
	if len(w.text) > maxText {
		w.text = append(w.text[:maxText], "..."...)
	}
	return string(w.text)
}

// writer writes documents without their values.
type writer struct {
	text                        []byte
	collection, collectionField string
}

func (w *writer) document(doc bsoncore.Document, depth int) {
	w.text = append(w.text, '{')
	first := true
	elements(doc, func(field string, v bsoncore.Value) bool {
		if !first {
			w.text = append(w.text, ',')
		}
		first = false
		w.name(field)
		w.text = append(w.text, ':')
		if depth == 0 && field == w.collectionField && w.collection != "" {
			w.name(w.collection)
		} else {
			w.value(v, depth)
		}
		return len(w.text) <= maxText
	})
	w.text = append(w.text, '}')
}

func (w *writer) array(array bsoncore.Document, depth int) {
	w.text = append(w.text, '[')
	last, n := "", 0
	elements(array, func(_ string, v bsoncore.Value) bool {
		start := len(w.text)
		if last != "" {
			w.text = append(w.text, ',')
		}
		begin := len(w.text)
		w.value(v, depth)
		if shown := string(w.text[begin:]); shown == last {
			w.text = w.text[:start]
		} else {
			last = shown
		}
		n++
		return n < maxLooked && len(w.text) <= maxText
	})
	w.text = append(w.text, ']')
}

func (w *writer) value(v bsoncore.Value, depth int) {
	switch {
	case depth >= maxDepth:
		w.text = append(w.text, `"?"`...)
	case v.Type == bsoncore.TypeEmbeddedDocument:
		w.document(bsoncore.Document(v.Data), depth+1)
	case v.Type == bsoncore.TypeArray:
		w.array(bsoncore.Document(v.Data), depth+1)
	default:
		w.text = append(w.text, `"?"`...)
	}
}

// name writes the name of a field. A string that does not look like a field's name may be a value
// used as a name; name writes "?" instead.
func (w *writer) name(s string) {
	if s == "" || len(s) > maxNameLen || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.$-") != "" {
		s = "?"
	}
	w.text = append(append(append(w.text, '"'), s...), '"')
}

// elements calls f for the elements of a document. elements ends when f returns false, or when the
// rest is not a valid element.
func elements(doc bsoncore.Document, f func(name string, v bsoncore.Value) bool) {
	const header = 4 // the length of the document
	if len(doc) < header {
		return
	}
	for rest := []byte(doc[header:]); ; {
		e, after, ok := bsoncore.ReadElement(rest)
		if !ok {
			return
		}
		name, err := e.KeyErr()
		if err != nil {
			return
		}
		v, err := e.ValueErr()
		if err != nil || !f(name, v) {
			return
		}
		rest = after
	}
}

// bulkWrite is a command with writes of several kinds, to several collections.
const bulkWrite = "bulkWrite"

// statements maps a command to its field with the statements, if the command may carry several. An
// insert of several documents is a single statement: by the conventions of OpenTelemetry, an
// operation on several documents is no batch.
var statements = map[string]string{"update": "updates", "delete": "deletes", bulkWrite: "ops"}

// batch returns the number of statements in a command, or 0 for a single statement.
func batch(name string, command bson.Raw) (n int) {
	field := statements[name]
	if field == "" {
		return 0
	}
	list, _ := bsoncore.Document(command).Lookup(field).ArrayOK()
	elements(bsoncore.Document(list), func(string, bsoncore.Value) bool { n++; return true })
	if n == 1 {
		return 0
	}
	return n
}
