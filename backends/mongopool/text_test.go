package mongopool

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/earnorm/poolstack/middleware/tracing"
	"github.com/earnorm/poolstack/pool"
)

func marshal(t testing.TB, doc any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestText(t *testing.T) {
	const s = "s3cret"
	deep := bson.D{{Key: "x", Value: s}}
	for range 100 {
		deep = bson.D{{Key: "x", Value: deep}}
	}
	for _, c := range []struct {
		name string
		doc  bson.D
		want string
	}{
		{
			"find", bson.D{{Key: "find", Value: "people"}, {Key: "filter", Value: bson.D{
				{Key: "name", Value: s}, {Key: "age", Value: bson.D{{Key: "$gt", Value: 7}}},
			}}},
			`{"find":"people","filter":{"name":"?","age":{"$gt":"?"}}}`,
		},
		{"usersInfo", bson.D{{Key: "usersInfo", Value: s}}, `{"usersInfo":"?"}`}, // no collection
		{"getMore", bson.D{{Key: "getMore", Value: int64(7)}, {Key: "collection", Value: "people"}}, `{"getMore":"?","collection":"people"}`},
		{"aggregate", bson.D{{Key: "aggregate", Value: 1}, {Key: "pipeline", Value: bson.A{
			bson.D{{Key: "$match", Value: bson.D{{Key: "k", Value: bson.D{{Key: "$in", Value: bson.A{s, s, 1}}}}}}}, bson.D{{Key: "$limit", Value: 5}},
		}}}, `{"aggregate":"?","pipeline":[{"$match":{"k":{"$in":["?"]}}},{"$limit":"?"}]}`},
		{"insert", bson.D{{Key: "insert", Value: "people"}, {Key: "documents", Value: bson.A{
			bson.D{{Key: "a", Value: s}}, bson.D{{Key: "a", Value: 2}}, bson.D{{Key: "a", Value: 3}, {Key: "b", Value: bson.A{}}},
		}}}, `{"insert":"people","documents":[{"a":"?"},{"a":"?","b":[]}]}`},
		{"insert", bson.D{{Key: "insert", Value: "people"}, {Key: "john@example.com", Value: 1}, {Key: "with space", Value: 1}},
			`{"insert":"people","?":"?","?":"?"}`},
		{"find", bson.D{{Key: "find", Value: "s3cret things"}, {Key: "filter", Value: bson.D{{Key: "find", Value: "s3cret things"}}}},
			`{"find":"?","filter":{"find":"?"}}`},
		{"eval", bson.D{{Key: "eval", Value: bson.CodeWithScope{Code: s, Scope: bson.D{{Key: "k", Value: s}}}}, {Key: "r", Value: bson.Regex{Pattern: s}}},
			`{"eval":"?","r":"?"}`},
		{"saslStart", bson.D{{Key: "saslStart", Value: 1}, {Key: "payload", Value: []byte(s)}}, `{"saslStart":"?"}`},
		{"createUser", bson.D{{Key: "createUser", Value: "bob"}, {Key: "pwd", Value: s}}, `{"createUser":"?"}`},
		{"hello", bson.D{{Key: "hello", Value: 1}, {Key: "speculativeAuthenticate", Value: bson.D{{Key: "payload", Value: s}}}}, `{"hello":"?"}`},
		{"s3cret", bson.D{{Key: "s3cret", Value: 1}, {Key: "s3cret", Value: s}}, `{"_OTHER":"?"}`}, // no command
		{"find", bson.D{{Key: "x", Value: deep}}, strings.Repeat(`{"x":`, 17) + `"?"` + strings.Repeat("}", 17)},
	} {
		command := marshal(t, c.doc)
		if got := text(c.name, target(c.name, command), command); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	// The driver has hidden the command.
	if got := text("authenticate", "", nil); got != `{"authenticate":"?"}` {
		t.Errorf("got %s", got)
	}
}

func TestTextIsBounded(t *testing.T) {
	var wide bson.D
	var long bson.A
	for i := range 5000 {
		wide = append(wide, bson.E{Key: fmt.Sprint("field", i), Value: 1})
		long = append(long, bson.D{{Key: fmt.Sprint("k", i%7), Value: "s3cret"}})
	}
	for _, doc := range []bson.D{{{Key: "x", Value: wide}}, {{Key: "x", Value: long}}, {{Key: "x", Value: bson.A{wide, long}}}} {
		got := text("find", "", marshal(t, doc))
		if len(got) > maxText+3 || !strings.HasPrefix(got, `{"x":`) || strings.Contains(got, "s3cret") {
			t.Errorf("%d bytes: %.80s", len(got), got)
		}
	}
}

func TestBatch(t *testing.T) {
	list := func(n int) bson.A { return slices.Repeat(bson.A{bson.D{{Key: "q", Value: 1}}}, n) }
	for _, c := range []struct {
		name, field string
		n, want     int
	}{
		{"update", "updates", 1, 0}, {"update", "updates", 3, 3}, {"delete", "deletes", 2, 2}, {"bulkWrite", "ops", 2, 2},
		{"insert", "documents", 3, 0}, {"find", "updates", 3, 0},
	} {
		command := marshal(t, bson.D{{Key: c.name, Value: "people"}, {Key: c.field, Value: list(c.n)}})
		if got := batch(c.name, command); got != c.want {
			t.Errorf("%s of %d: got %d, want %d", c.name, c.n, got, c.want)
		}
	}
}

var shown = regexp.MustCompile(`"[A-Za-z0-9_.$-]{1,64}"|"\?"|[{}\[\]:,]`)

// For any bytes, the output has only names of fields and question marks, and the function ends.
func FuzzText(f *testing.F) {
	f.Add("find", []byte(marshal(f, bson.D{{Key: "find", Value: "people"}, {Key: "filter", Value: bson.D{{Key: "a", Value: "s3cret"}}}})))
	f.Add("saslStart", []byte(marshal(f, bson.D{{Key: "saslStart", Value: 1}, {Key: "payload", Value: []byte("s3cret")}})))
	f.Add("update", []byte(marshal(f, bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{}, bson.D{}, "s3cret"}}})))
	f.Add("", []byte{5, 0, 0, 0, 0})
	f.Add("find", []byte{0xff, 0xff, 0xff, 0x7f, 3, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, name string, command []byte) {
		got := text(name, target(name, command), command)
		_, _ = batch(name, command), refusedWrites(command)
		if len(got) > maxText+3 {
			t.Errorf("%d bytes", len(got))
		}
		whole := strings.TrimSuffix(got, "...")
		if rest := shown.ReplaceAllString(whole, ""); rest != "" && whole == got {
			t.Errorf("got %q, in which %q is not expected", got, rest)
		}
	})
}

// Whatever a value is, it is not shown.
func FuzzTextOfValues(f *testing.F) {
	f.Add("s3cret", int64(7_777_777))
	f.Fuzz(func(t *testing.T, s string, n int64) {
		values := bson.A{s, n, []byte(s), bson.D{{Key: "a", Value: s}}, bson.A{s, n}, bson.Symbol(s), bson.JavaScript(s), float64(n)}
		command, err := bson.Marshal(bson.D{{Key: "find", Value: "c"}, {Key: "filter", Value: values}, {Key: "skip", Value: s}})
		if err != nil {
			t.Skip()
		}
		const want = `{"find":"c","filter":["?",{"a":"?"},["?"],"?"],"skip":"?"}`
		if got := text("find", "c", command); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

// A trace of a use with its commands. The text of a command is present only if a layer asks for the
// text. Refused writes are failures.
func TestTraceOfCommands(t *testing.T) {
	const s = "s3cret"
	f := newFake(t)
	f.script("insert", reply{doc: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}, {Key: "writeErrors", Value: bson.A{
		bson.D{{Key: "index", Value: 0}, {Key: "code", Value: 11000}, {Key: "errmsg", Value: "E11000 dup key: { name: \"s3cret\" }"}},
	}}}})
	f.script("delete", reply{doc: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 2}, {Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: 64}, {Key: "errmsg", Value: s},
	}}}})
	f.script(s, reply{doc: bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: 59}, {Key: "errmsg", Value: "no such command: s3cret"}}})
	for _, asked := range []bool{false, true} {
		exporter := tracetest.NewInMemoryExporter()
		provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
		layer, err := tracing.New(tracing.Config{TracerProvider: provider, Commands: true, CommandText: asked, WaitThreshold: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		_, p := newPool(t, Options{URI: f.uri()}, pool.Config{Name: "p"}, layer)
		err = p.Do(bounded(t), pool.Op{Name: "mix"}, func(ctx context.Context, c *Conn) error {
			people := c.Collection("people")
			_, refused := people.InsertOne(ctx, bson.D{{Key: "_id", Value: 1}, {Key: "name", Value: s}})
			_, unconfirmed := people.DeleteMany(ctx, bson.D{{Key: "name", Value: s}})
			if refused == nil || unconfirmed == nil {
				t.Errorf("the insert returned %v, the delete %v", refused, unconfirmed)
			}
			_, err := people.BulkWrite(ctx, []mongo.WriteModel{
				mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "a", Value: s}}).SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "b", Value: s}}}}),
				mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "a", Value: 2}}).SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "b", Value: 3}}}}),
			})
			if err != nil {
				return err
			}
			if err := c.Database().RunCommand(ctx, bson.D{{Key: s, Value: 1}}).Err(); err == nil {
				t.Error("an unknown command succeeds")
			}
			return c.Database().RunCommand(ctx, bson.D{{Key: "dbStats", Value: 1}}).Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string][2]string{
			"insert people":       {"11000/11000/", `{"insert":"people","ordered":"?",`},
			"delete people":       {"64/64/", `{"delete":"people","ordered":"?",`},
			"BATCH update people": {"//2", `{"update":"people","ordered":"?",`},
			"dbStats test":        {"//", `{"dbStats":"?"`},
			"_OTHER":              {"59/59/", `{"_OTHER":"?"}`},
		}
		spans := exporter.GetSpans()
		if len(spans) != len(want)+1 {
			t.Errorf("%d spans, want %d", len(spans), len(want)+1)
		}
		for _, span := range spans {
			if strings.Contains(fmt.Sprintf("%+v", span), s) {
				t.Errorf("a secret is in %+v", span)
			}
			if span.Name == "mix" {
				continue
			}
			attrs := map[string]string{}
			for _, a := range span.Attributes {
				attrs[string(a.Key)] = a.Value.String()
			}
			outcome := attrs["db.response.status_code"] + "/" + attrs["error.type"] + "/" + attrs["db.operation.batch.size"]
			text := attrs["db.query.text"]
			if attrs["network.peer.address"]+":"+attrs["network.peer.port"] != f.address || attrs["server.port"] != attrs["network.peer.port"] {
				t.Errorf("%s went to %s: the attributes are %v", span.Name, f.address, attrs)
			}
			if outcome != want[span.Name][0] || asked != (text != "") || asked && !strings.HasPrefix(text, want[span.Name][1]) {
				t.Errorf("%s: %s, text %q", span.Name, outcome, text)
			}
		}
	}
}
