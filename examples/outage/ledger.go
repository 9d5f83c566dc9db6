package main

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"sync"
)

// A kind is the kind of an operation.
type kind uint8

// The kinds of operations.
const (
	read kind = iota // reads the text of an acknowledged put
	put              // writes a text under its own id: idempotent
	add              // adds its id to a list: not idempotent, a second execution is visible
)

// An operation is an operation of a lane. A write has its own id. A read has the id of a put, and
// expects the text of that put.
type operation struct {
	kind kind
	id   int
}

// text returns the text written by the put. The checksum shows whether the text is complete.
func (o operation) text() string {
	head := "written by put " + strconv.Itoa(o.id)
	return fmt.Sprintf("%s, checksum %08x", head, crc32.ChecksumIEEE([]byte(head)))
}

// A ledger records the writes of a lane on the client's side. In the end compare compares the
// ledger with the contents of the server. The methods may be called concurrently.
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

// next records and returns the next operation. Without an acknowledged put there is nothing to
// read, so a read becomes a put.
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

// acknowledge records a write confirmed by the server.
func (l *ledger) acknowledge(op operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.records[op.id]
	r.acked = true
	if r.kind == put && r.era == l.era {
		l.readable = append(l.readable, op.id)
	}
}

// wrong reports whether got is not the expected text of a read. A text from before forget is not
// judged.
func (l *ledger) wrong(op operation, got string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records[op.id].era == l.era && got != operation{put, op.id}.text()
}

// forget begins a new era. The server has lost or is about to lose all data, because its data does
// not survive the end of the process. Writes of earlier eras are not judged.
func (l *ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.era++
	l.readable = nil
}

// A holding is a lane's data on the server.
type holding struct {
	puts map[int]string // the texts, by id
	adds map[int]int    // the number of executions, by id
}

// An audit is the result of comparing a ledger with a holding.
type audit struct {
	writes       int // writes begun
	exempt       int // writes not judged: see forget
	acknowledged int // judged writes with a confirmation
	lost         int // acknowledged, but missing
	damaged      int // present, but with another text
	repeated     int // writes executed more than once
	surplus      int // the surplus executions of repeated
	uncertain    int // present, but not acknowledged: the answer was lost
	foreign      int // present, but never begun
	wrongReads   int // reads with an unexpected text
}

// compare checks whether the server holds all confirmed writes, and no write twice.
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

// judge adds a write to the audit. The server holds text, and has executed the write times times.
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
