package main

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"sync"
)

// A kind is what an operation does.
type kind uint8

// The kinds of operations.
const (
	read kind = iota // reads back what an acknowledged put has written
	put              // writes a text under an id of its own: to do it twice is like doing it once
	add              // adds an id to what is there: done twice, it is there twice
)

// An operation is one of a lane's. The id of a write is its own; that of a read, the put's whose text it wants.
type operation struct {
	kind kind
	id   int
}

// text is what the put with this id writes. It says by itself whether it is complete.
func (o operation) text() string {
	head := "written by put " + strconv.Itoa(o.id)
	return fmt.Sprintf("%s, checksum %08x", head, crc32.ChecksumIEEE([]byte(head)))
}

// A ledger is one lane's list of what it has written, kept on this side of the wire: what the server holds in the end is compared with it.
// Its methods may be called concurrently.
type ledger struct {
	mu       sync.Mutex
	records  []record // by id
	readable []int    // ids of acknowledged puts
	era      int
}

type record struct {
	kind  kind
	acked bool
	era   int
}

// next notes that an operation is about to be sent, and returns it. A read finds something to read only after a put was acknowledged;
// until then it is a put.
func (l *ledger) next(k kind, random *rand.Rand) operation {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k == read && len(l.readable) > 0 {
		return operation{read, l.readable[random.IntN(len(l.readable))]}
	}
	if k == read {
		k = put
	}
	l.records = append(l.records, record{kind: k, era: l.era})
	return operation{k, len(l.records) - 1}
}

// acknowledge notes that the server has confirmed a write.
func (l *ledger) acknowledge(op operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.records[op.id]
	r.acked = true
	if r.kind == put && r.era == l.era {
		l.readable = append(l.readable, op.id)
	}
}

// wrong says whether got is not what a read should have returned.
func (l *ledger) wrong(op operation, got string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records[op.id].era == l.era && got != operation{put, op.id}.text()
}

// forget begins another era: the server has lost, or is about to lose, all it holds, because it keeps nothing over its end. What was
// written before is not judged.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.era++
	l.readable = nil
}

// A holding is what the server was found to hold of a lane's writes.
type holding struct {
	puts map[int]string // the texts, by id
	adds map[int]int    // how often each id is there
}

// An audit is what the comparison of a ledger with a holding has shown.
type audit struct {
	writes       int // that were begun
	exempt       int // of them not judged: see forget
	acknowledged int // of those judged
	lost         int // acknowledged, but not there
	damaged      int // there, but with another text
	repeated     int // adds that are there more than once
	surplus      int // how much more often
	uncertain    int // never acknowledged, and yet there: an answer was lost
	foreign      int // there, but never begun
	wrongReads   int // reads that returned something else than was written
}

// compare finds out whether the server holds what it has confirmed, and nothing twice.
func (l *ledger) compare(h holding) audit {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := audit{writes: len(l.records)}
	known := 0
	for id, r := range l.records {
		text, times := h.puts[id], h.adds[id]
		if text != "" {
			times++
		}
		known += min(times, 1)
		if r.era != l.era {
			a.exempt++
			continue
		}
		a.judge(r, operation{r.kind, id}, text, times)
	}
	a.foreign = len(h.puts) + len(h.adds) - known
	return a
}

// judge counts one write: text is what the server holds of it, times how often.
func (a *audit) judge(r record, op operation, text string, times int) {
	switch {
	case r.acked:
		a.acknowledged++
		if times == 0 {
			a.lost++
		}
	case times > 0:
		a.uncertain++
	}
	if r.kind == put && text != "" && text != op.text() {
		a.damaged++
	}
	if times > 1 {
		a.repeated++
		a.surplus += times - 1
	}
}
