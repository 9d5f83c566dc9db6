package main

import (
	"math/rand/v2"
	"testing"
)

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }

// written returns a ledger with an acknowledged put (id 0), an acknowledged add (1), a put without
// an answer (2) and an add without an answer (3).
func written() *ledger {
	l := &ledger{}
	for i, k := range []kind{put, add, put, add} {
		if op := l.next(k, random()); i < 2 {
			l.acknowledge(op)
		}
	}
	return l
}

func TestCompare(t *testing.T) {
	text := func(id int) string { return operation{put, id}.text() }
	base := audit{writes: 4, acknowledged: 2}
	for name, tt := range map[string]struct {
		puts map[int]string
		adds map[int]int
		want func(a *audit)
	}{
		"as acknowledged":    {map[int]string{0: text(0)}, map[int]int{1: 1}, func(*audit) {}},
		"a put is lost":      {nil, map[int]int{1: 1}, func(a *audit) { a.lost = 1 }},
		"an add is lost":     {map[int]string{0: text(0)}, nil, func(a *audit) { a.lost = 1 }},
		"damaged":            {map[int]string{0: text(0)[:9]}, map[int]int{1: 1}, func(a *audit) { a.damaged = 1 }},
		"one for another":    {map[int]string{0: text(2)}, map[int]int{1: 1}, func(a *audit) { a.damaged = 1 }},
		"done three times":   {map[int]string{0: text(0)}, map[int]int{1: 3}, func(a *audit) { a.repeated, a.surplus = 1, 2 }},
		"answers lost":       {map[int]string{0: text(0), 2: text(2)}, map[int]int{1: 1, 3: 1}, func(a *audit) { a.uncertain = 2 }},
		"unanswered, twice":  {map[int]string{0: text(0)}, map[int]int{1: 1, 3: 2}, func(a *audit) { a.uncertain, a.repeated, a.surplus = 1, 1, 1 }},
		"nobody has written": {map[int]string{0: text(0), 7: text(7)}, map[int]int{1: 1, 9: 1}, func(a *audit) { a.foreign = 2 }},
	} {
		t.Run(name, func(t *testing.T) {
			want := base
			tt.want(&want)
			if got := written().compare(holding{puts: tt.puts, adds: tt.adds}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestWhatAServerForgetsIsNotJudged(t *testing.T) {
	l := written()
	l.forget()
	if op := l.next(read, random()); op.kind != put {
		t.Errorf("a read of what is lost: %+v", op)
	} else {
		l.acknowledge(op)
	}
	want := audit{writes: 5, exempt: 4, acknowledged: 1, lost: 1}
	if got := l.compare(holding{}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if l.wrong(operation{read, 0}, "") {
		t.Error("a read of what was forgotten meanwhile is called wrong")
	}
}

func TestReads(t *testing.T) {
	l := written()
	for range 100 {
		op := l.next(read, random())
		if op.kind != read || op.id != 0 {
			t.Fatalf("only put 0 was acknowledged: %+v", op)
		}
	}
	op := operation{read, 0}
	if l.wrong(op, operation{put, 0}.text()) {
		t.Error("the right text is called wrong")
	}
	for _, text := range []string{"", "x", operation{put, 1}.text()} {
		if !l.wrong(op, text) {
			t.Errorf("%q is not called wrong", text)
		}
	}
	if op := (&ledger{}).next(read, random()); op.kind != put {
		t.Errorf("a read of nothing: %+v", op)
	}
}
