package redispool

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestSkipper(t *testing.T) {
	for _, test := range []struct {
		replies int
		stream  string
	}{
		{0, ""},
		{1, "+OK\r\n"},
		{1, "-ERR no\r\n"},
		{1, ":-12\r\n"},
		{1, "$-1\r\n"},
		{1, "$0\r\n\r\n"},
		{1, "$7\r\na\r\nb\r\nc\r\n"},
		{1, "*-1\r\n"},
		{1, "*0\r\n"},
		{1, "*2\r\n$1\r\na\r\n*2\r\n:1\r\n*1\r\n+x\r\n"},
		{1, "_\r\n"},
		{1, ",1.5\r\n"},
		{1, "#t\r\n"},
		{1, "(3492890328409238509324850943850943825024385\r\n"},
		{1, "!5\r\nERR x\r\n"},
		{1, "=7\r\ntxt:abc\r\n"},
		{1, "%1\r\n+key\r\n~2\r\n:1\r\n:2\r\n"},
		{1, ">2\r\n+message\r\n$1\r\na\r\n+OK\r\n"},
		{1, "|1\r\n+ttl\r\n:3600\r\n$1\r\na\r\n"},
		{1, "*2\r\n|1\r\n+a\r\n*1\r\n:1\r\n:7\r\n:8\r\n"},
		{3, "+OK\r\n>1\r\n+x\r\n+QUEUED\r\n*1\r\n:1\r\n"},
		{1, strings.Repeat("*1\r\n", 10_000) + ":1\r\n"}, // deep
	} {
		const behind = "+behind\r\n"
		for _, size := range []int{1, 2, 3, 7, len(test.stream) + len(behind)} {
			var s skipper
			s.expect(test.replies)
			rest, err := feedAll(&s, []byte(test.stream+behind), size)
			if err != nil || string(rest) != behind || !s.idle() {
				t.Errorf("%.40q in pieces of %d: %q are left, %v", test.stream, size, rest, err)
			}
		}
	}
}

func TestSkipperRefuses(t *testing.T) {
	for _, stream := range []string{
		"\r\n", "OK\r\n", "+OK\n", "$x\r\n", "$-2\r\n", "$99999999999\r\n", "$?\r\n", "*?\r\n", "*99999999999999\r\n", "%-9\r\n", ".\r\n",
		"*1099511627776\r\n*1099511627776\r\n", "+" + strings.Repeat("x", longestLine) + "\r\n", strings.Repeat("x", longestLine+1),
		"$1\r\n", "HTTP/1.1 400 Bad Request\r\n", "*999999999999999999999999999999\r\n",
	} {
		var s skipper
		s.expect(1)
		if _, err := feedAll(&s, []byte(stream), 100); err == nil && s.idle() {
			t.Errorf("%.40q is taken for a reply", stream)
		}
	}
}

// feedAll feeds b in pieces of the given size.
func feedAll(s *skipper, b []byte, size int) (rest []byte, err error) {
	for len(b) > 0 && !s.idle() {
		n := min(size, len(b))
		rest, err := s.feed(b[:n])
		if err != nil {
			return nil, err
		}
		b = b[n-len(rest):]
	}
	return b, nil
}

// The skipper finds the end of any reply, cut into any pieces, and never reads beyond.
func TestSkipperAtRandom(t *testing.T) {
	for range 2000 {
		var stream bytes.Buffer
		n := 1 + rand.IntN(4)
		for range n {
			for rand.IntN(4) == 0 {
				fmt.Fprintf(&stream, ">%d\r\n", 1)
				anything(&stream, 1)
			}
			anything(&stream, 3)
		}
		var s skipper
		s.expect(n)
		rest, err := feedAll(&s, append(stream.Bytes(), "+behind\r\n"...), 1+rand.IntN(20))
		if string(rest) != "+behind\r\n" || err != nil {
			t.Fatalf("%q: %q are left, %v", stream.String(), rest, err)
		}
	}
}

// anything writes a value with at most the given number of levels.
func anything(w *bytes.Buffer, depth int) {
	if rand.IntN(8) == 0 {
		w.WriteString("|1\r\n+a\r\n:1\r\n")
	}
	n := rand.IntN(4)
	switch kind := "+-:_,#($=!*~%"[rand.IntN(13)]; kind {
	case '$', '=', '!':
		text := strings.Repeat("\r\n*", n)
		fmt.Fprintf(w, "%c%d\r\n%s\r\n", kind, len(text), text)
	case '*', '~', '%':
		if depth == 0 {
			w.WriteString("*-1\r\n")
			return
		}
		fmt.Fprintf(w, "%c%d\r\n", kind, n)
		if kind == '%' {
			n *= 2
		}
		for range n {
			anything(w, depth-1)
		}
	default:
		fmt.Fprintf(w, "%c%d\r\n", kind, n)
	}
}

// The outcome is the same for every way to cut the stream, and there is no panic.
func FuzzSkipper(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "$3\r\nabc\r\n", "*2\r\n:1\r\n%1\r\n+a\r\n_\r\n", ">1\r\n+x\r\n|1\r\n+a\r\n:1\r\n#f\r\n", "*-1\r\n$-1\r\n",
	} {
		f.Add([]byte(seed), uint8(1), uint8(2))
	}
	f.Fuzz(func(t *testing.T, stream []byte, replies, size uint8) {
		var whole, pieces skipper
		whole.expect(int(replies))
		pieces.expect(int(replies))
		left, err := feedAll(&whole, stream, len(stream)+1)
		rest, cut := feedAll(&pieces, stream, int(size)+1)
		if (err == nil) != (cut == nil) || !bytes.Equal(left, rest) || whole.idle() != pieces.idle() {
			t.Errorf("%q for %d replies: %q, %v; in pieces of %d: %q, %v", stream, replies, left, err, int(size)+1, rest, cut)
		}
		if !bytes.HasSuffix(stream, left) {
			t.Errorf("%q is no end of %q", left, stream)
		}
	})
}
