package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A screen is a terminal area for lines that are redrawn in place.
type screen struct {
	out    io.Writer
	size   func() (columns, rows int)
	height int // number of lines drawn last
}

// newScreen returns a screen if out is a terminal, and otherwise nil.
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
	clearRest  = "\x1b[K" // rest of the line
	clearBelow = "\x1b[J"
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	// noWrap cuts a long line. A wrapped line would move all lines below.
	noWrap = "\x1b[?7l"
	wrap   = "\x1b[?7h"
)

// draw replaces the lines drawn before. A single write without clearing avoids flicker. Lines
// beyond the terminal's height are left out.
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
