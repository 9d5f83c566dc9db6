package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A screen is a terminal in which lines are drawn again and again in the same place.
type screen struct {
	out    io.Writer
	size   func() (columns, rows int)
	height int // of what was drawn last
}

// newScreen returns a screen if out is a terminal, else nil.
func newScreen(out io.Writer) *screen {
	file, ok := out.(*os.File)
	if !ok {
		return nil
	}
	size := func() (columns, rows int) {
		w, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
		if err != nil {
			return 0, 0
		}
		return int(w.Col), int(w.Row)
	}
	if columns, _ := size(); columns == 0 || os.Getenv("TERM") == "dumb" {
		return nil
	}
	return &screen{out: out, size: size}
}

// Escape sequences of ANSI terminals.
const (
	cursorUp   = "\x1b[%dA"
	clearRest  = "\x1b[K" // of the line
	clearBelow = "\x1b[J"
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	noWrap     = "\x1b[?7l" // a line that is too long is cut, not continued in the next, which would move all below it
	wrap       = "\x1b[?7h"
)

// draw replaces what was drawn before by lines: in one write, and without clearing first, so that nothing flickers. Lines that the
// terminal has no room for are left out.
func (s *screen) draw(lines []string) {
	if _, rows := s.size(); rows > 1 && len(lines) > rows-1 {
		lines = lines[:rows-1]
	}
	var b strings.Builder
	b.WriteString(hideCursor + noWrap)
	if s.height > 0 {
		fmt.Fprintf(&b, cursorUp, s.height)
	}
	for _, line := range lines {
		b.WriteString("\r" + line + clearRest + "\n")
	}
	b.WriteString(clearBelow + wrap + showCursor)
	s.height = len(lines)
	_, _ = io.WriteString(s.out, b.String())
}
