package local

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestJournal(t *testing.T) {
	var out bytes.Buffer
	j := newJournal("redis", "Ready", &out)
	for _, piece := range []string{"on", "e\n\n", "two Rea", "dy\nthree Ready\n", "four"} {
		if n, err := j.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	select {
	case <-j.ready:
	default:
		t.Error("the marker was not seen")
	}
	if want := "redis: one\nredis: two Ready\nredis: three Ready\n"; out.String() != want {
		t.Errorf("passed on %q, want %q", out.String(), want)
	}
	if want := "; its last lines:\n\tone\n\ttwo Ready\n\tthree Ready\n\tfour"; j.lastWords() != want {
		t.Errorf("last words %q, want %q", j.lastWords(), want)
	}
	if got := newJournal("redis", "Ready", &out).lastWords(); got != "" {
		t.Errorf("last words of one that said nothing: %q", got)
	}
}

func TestJournalKeepsLittle(t *testing.T) {
	j := newJournal("redis", "", &bytes.Buffer{})
	for i := range 100 {
		fmt.Fprintln(j, i)
	}
	fmt.Fprint(j, strings.Repeat("x", 10*journalWidth))
	if len(j.last) != journalLines || len(j.part) != 0 {
		t.Errorf("%d lines and %d bytes are kept", len(j.last), len(j.part))
	}
}

func TestFreeAddr(t *testing.T) {
	for range 100 {
		addr, err := FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		host, text, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		if port, err := strconv.Atoi(text); err != nil || host != "127.0.0.1" || port < lowestPort || port > highestPort {
			t.Errorf("got %s", addr)
		}
	}
}

func TestParseWatch(t *testing.T) {
	type watch struct {
		sign byte
		pid  int
		ok   bool
	}
	for line, want := range map[string]watch{
		"+12": {'+', 12, true}, "-12": {'-', 12, true}, "+-12": {'+', -12, true}, "--12": {'-', -12, true},
		"": {}, "+": {}, "12": {}, "+x": {}, "*12": {}, "+12 ": {},
		"+0": {}, "+1": {}, "+-1": {}, // this group, init, everything
		"+99999999999999999999": {},
	} {
		var got watch
		if got.sign, got.pid, got.ok = parseWatch(line); got != want {
			t.Errorf("parseWatch(%q) = %+v, want %+v", line, got, want)
		}
	}
}

func FuzzParseWatch(f *testing.F) {
	for _, seed := range []string{"+12", "--12", "+1", "+-1", "-0", "+ 1", "+0x10"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		sign, pid, ok := parseWatch(line)
		if ok && (sign != '+' && sign != '-' || pid >= -1 && pid <= 1) {
			t.Errorf("parseWatch(%q) = %q, %d", line, sign, pid)
		}
	})
}

// reply returns a message of a server.
func reply(t testing.TB, doc bson.D) []byte {
	t.Helper()
	msg, err := mongoMessage(doc)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

func TestReadMongoOK(t *testing.T) {
	ok := reply(t, bson.D{{Key: "ok", Value: 1.0}})
	change := func(at int, b byte) []byte {
		msg := bytes.Clone(ok)
		msg[at] = b
		return msg
	}
	huge := bytes.Clone(ok)
	binary.LittleEndian.PutUint32(huge, 1<<30)
	tests := map[string]struct {
		message []byte
		says    string // the error; empty: no error
	}{
		"ok":             {ok, ""},
		"ok, an integer": {reply(t, bson.D{{Key: "ok", Value: 1}}), ""},
		"an error":       {reply(t, bson.D{{Key: "ok", Value: 0.0}}), "answered by an error"},
		"no ok":          {reply(t, bson.D{}), "answered by an error"},
		"ok, a string":   {reply(t, bson.D{{Key: "ok", Value: "1"}}), "answered by an error"},
		"nothing":        {nil, "EOF"},
		"cut off":        {ok[:20], "unexpected EOF"},
		"other opcode":   {change(12, 1), "message of opcode"},
		"other section":  {change(20, 1), "section of kind 1"},
		"too short":      {change(0, 20), "and 20 bytes"},
		"huge":           {huge, "1073741824 bytes"},
		"no document":    {change(21, 1), "length"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := readMongoOK(bytes.NewReader(tt.message))
			if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}

func FuzzReadMongoOK(f *testing.F) {
	ok := reply(f, bson.D{{Key: "ok", Value: 1.0}})
	f.Add(ok)
	f.Add(ok[:len(ok)-1])
	f.Fuzz(func(t *testing.T, msg []byte) {
		if readMongoOK(bytes.NewReader(msg)) == nil && !bytes.Contains(msg, []byte("ok\x00")) {
			t.Errorf("%q was taken for ok", msg)
		}
	})
}
