package local

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
)

// A journal reads the output of a process. It keeps the last lines, and writes every line to out
// with the server's name as a prefix. It closes ready at the first line with the marker. No line
// contains an empty marker.
type journal struct {
	name, marker string
	out          io.Writer
	ready        chan struct{}

	mu   sync.Mutex
	part []byte // an unfinished line
	last []string
}

const (
	journalLines = 10
	journalWidth = 4096 // a longer line is cut into pieces
)

func newJournal(name, marker string, out io.Writer) *journal {
	return &journal{name: name, marker: marker, out: out, ready: make(chan struct{})}
}

// Write receives a piece of output. It never fails.
func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.part = append(j.part, b...)
	for {
		line, rest, found := bytes.Cut(j.part, []byte("\n"))
		if !found && len(line) < journalWidth {
			return len(b), nil
		}
		j.add(string(line))
		j.part = rest
	}
}

func (j *journal) add(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	_, _ = io.WriteString(j.out, j.name+": "+line+"\n")
	j.last = append(j.last, line)
	if len(j.last) > journalLines {
		j.last = j.last[1:]
	}
	if j.marker != "" && strings.Contains(line, j.marker) {
		close(j.ready)
		j.marker = ""
	}
}

// lastWords returns the last lines as the end of an error message, or "" without output.
func (j *journal) lastWords() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.last
	if len(j.part) > 0 {
		lines = append(slices.Clip(lines), string(j.part))
	}
	if len(lines) == 0 {
		return ""
	}
	return "; its last lines:\n\t" + strings.Join(lines, "\n\t")
}

// sharedWriter lets several journals write to the same writer.
type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func newSharedWriter(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return &sharedWriter{w: w}
}

func (s *sharedWriter) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}
