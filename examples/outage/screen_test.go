package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

func TestDrawingInPlace(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, size: func() (int, int) { return 100, 24 }}
	s.draw([]string{"one", "two", "three"})
	if strings.Contains(out.String(), "A\x1b") || strings.Count(out.String(), "\n") != 3 {
		t.Errorf("the first time: %q", out.String())
	}
	out.Reset()
	s.draw([]string{"ONE", "TWO"})
	got := out.String()
	if !strings.Contains(got, "\x1b[3A\rONE\x1b[K\n\rTWO\x1b[K\n\x1b[J") {
		t.Errorf("the second time it does not go up three lines and clear what is left: %q", got)
	}
	if !strings.HasPrefix(got, hideCursor) || !strings.HasSuffix(got, showCursor) {
		t.Errorf("the cursor is not hidden meanwhile, or not shown again: %q", got)
	}
}

func TestALowTerminal(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, size: func() (int, int) { return 80, 3 }}
	s.draw([]string{"one", "two", "three", "four"})
	if got := out.String(); s.height != 2 || strings.Contains(got, "three") {
		t.Errorf("%d lines of a terminal of 3: %q", s.height, got)
	}
}

func TestWhatIsNoTerminal(t *testing.T) {
	if newScreen(&bytes.Buffer{}) != nil {
		t.Error("a buffer is taken for a terminal")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if newScreen(w) != nil {
		t.Error("a pipe is taken for a terminal")
	}
}
