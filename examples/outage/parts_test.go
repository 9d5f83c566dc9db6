package main

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLogbook(t *testing.T) {
	var file strings.Builder
	b := newLogbook(&file)
	log := slog.New(b).With("pool", "redis").WithGroup("g")
	for range 2 {
		log.Warn("refused", "n", 1)
	}
	log.Error("lost")
	log.Info("hello")
	log.Debug("not worth a line")
	redisLog{log}.Printf(t.Context(), "dial %s", "failed")
	want := []string{`1 ERROR "lost"`, `2 WARN "refused"`, `1 INFO "go-redis says something by itself"`, `1 INFO "hello"`}
	got := b.summary()
	slices.Sort(got[2:])
	if !slices.Equal(got, want) {
		t.Errorf("summary %q, want %q", got, want)
	}
	if n := strings.Count(file.String(), `"pool":"redis"`); n != 5 || !strings.Contains(file.String(), `"g":{"n":1}`) {
		t.Errorf("in the file:\n%s", file.String())
	}
	if slog.New(newLogbook(nil)).With("a", 1).WithGroup("g").Warn("counted only"); file.Len() == 0 {
		t.Error("the file is empty")
	}
}

func TestMetricsServer(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a_metric 1\n") })
	first, err := serveMetrics("127.0.0.1:0", page)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	address := strings.TrimSuffix(strings.TrimPrefix(first.url, "http://"), "/metrics")
	second, err := serveMetrics(address, page)
	if err != nil {
		t.Fatal(err)
	}
	defer second.close()
	if first.note != "" || !strings.Contains(second.note, address+" is taken") || second.url == first.url {
		t.Errorf("the notes are %q and %q, the pages %s and %s", first.note, second.note, first.url, second.url)
	}
	resp, err := http.Get(second.url)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "a_metric 1\n" {
		t.Errorf("the page is %q", body)
	}
	off, err := serveMetrics(metricsOff, page)
	if err != nil || off.url != "" {
		t.Errorf("off: %q, %v", off.url, err)
	}
	off.close()
}

func TestLeftovers(t *testing.T) {
	// Two goroutines: the testing package's and this test's. Goroutines of earlier tests may still be
	// ending.
	before := awaitLeftovers(leftovers{goroutines: 2})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	release, ended := make(chan struct{}), make(chan struct{})
	go func() { <-release; close(ended) }()
	during := countLeftovers()
	if during.goroutines <= before.goroutines || before.sockets >= 0 && during.sockets <= before.sockets {
		t.Errorf("%+v becomes %+v with a goroutine and a socket more", before, during)
	}
	_ = listener.Close()
	close(release)
	<-ended
	if after := awaitLeftovers(before); after.goroutines > before.goroutines || after.sockets > before.sockets {
		t.Errorf("%+v has become %+v in the end", before, after)
	}
}

func TestMeter(t *testing.T) {
	var m meter
	for range 3 {
		m.begin()
	}
	m.end(50*time.Millisecond, nil)
	m.end(2*time.Second, nil)
	m.begin()
	m.end(99*time.Millisecond, errors.New("at once"))
	m.end(3*time.Second, errors.New("late"))
	want := tallied{ok: 2, inTime: 1, failed: 2, prompt: 1, hung: 2, crowd: 3, slowest: 3 * time.Second}
	if got := m.tallied(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if n := m.times.snapshot().total(); n != 2 || m.inFlight.Load() != 0 {
		t.Errorf("%d times, %d in flight", n, m.inFlight.Load())
	}
}

func TestWhatIsCountedAsACommand(t *testing.T) {
	for text, want := range map[string]bool{
		"*4\r\n$4\r\nhset\r\n$1\r\nk\r\n":  true,
		"*3\r\n$5\r\nrpush\r\n$1\r\nk\r\n": true,
		"*3\r\n$4\r\nhget\r\n$1\r\nk\r\n":  true,
		"*2\r\n$5\r\nhello\r\n$1\r\n3\r\n": false,
		"*1\r\n$4\r\nping\r\n":             false,
		"":                                 false,
	} {
		if isLaneCommand([]byte(text)) != want {
			t.Errorf("%q: %t", text, !want)
		}
	}
	w := &wire{}
	w.sent()
	w.away.Store(true)
	w.sent()
	w.dialled()
	if w.commands.Load() != 2 || w.commandsAway.Load() != 1 || w.dials.Load() != 1 || w.dialsAway.Load() != 1 {
		t.Errorf("%d commands, %d of them away; %d dials, %d of them away",
			w.commands.Load(), w.commandsAway.Load(), w.dials.Load(), w.dialsAway.Load())
	}
}

func TestNews(t *testing.T) {
	n := &news{start: time.Now()}
	for _, text := range []string{"one", "two", "three"} {
		n.tell("redis", text)
	}
	if got := n.latest(2); len(got) != 2 || !strings.HasSuffix(got[0], "redis    two") {
		t.Errorf("the latest are %q", got)
	}
	if got := n.from(2); len(got) != 1 || !strings.HasSuffix(got[0], "three") {
		t.Errorf("from the third on: %q", got)
	}
	if got := n.from(9); len(got) != 0 {
		t.Errorf("from the tenth on: %q", got)
	}
}
