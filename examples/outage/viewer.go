package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// A viewer shows the progress of a play. In a terminal it shows a table. Elsewhere it prints the
// news and a line each second.
type viewer struct {
	out      io.Writer
	screen   *screen // nil if out is not a terminal
	paint    paint
	play     *play
	samples  []sample // the latest samples, oldest first
	newsSeen int
}

// A sample is a snapshot of the lanes' counters.
type sample struct {
	at    time.Time
	lanes []laneSample
}

type laneSample struct {
	ok, failed int64
	times      *counts
}

const (
	redrawEvery = 250 * time.Millisecond
	printEvery  = time.Second
	window      = time.Second // of rates and quantiles
)

func newViewer(out io.Writer, p *play) *viewer {
	v := &viewer{out: out, screen: newScreen(out), paint: coloured, play: p}
	if os.Getenv("NO_COLOR") != "" || v.screen == nil {
		v.paint = plain
	}
	return v
}

// begin prints the description of the play, in lines that fit the terminal.
func (v *viewer) begin(text string) {
	width := tableWidth
	if v.screen != nil {
		if columns, _ := v.screen.size(); columns > 1 {
			width = min(width, columns-1)
		}
	}
	for _, line := range fold("", "", text, width) {
		fmt.Fprintln(v.out, line)
	}
	fmt.Fprintln(v.out)
}

// run updates the view until done is closed, and then once more.
func (v *viewer) run(done <-chan struct{}) {
	every := printEvery
	if v.screen != nil {
		every = redrawEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	v.samples = append(v.samples, v.play.sample())
	for {
		select {
		case <-ticker.C:
			v.show(int(window / every))
		case <-done:
			v.show(int(window / every))
			return
		}
	}
}

// show updates the view. Rates are since the sample taken ago updates before.
func (v *viewer) show(ago int) {
	now, latest := v.play.sample(), v.samples[len(v.samples)-1]
	earlier := v.samples[max(0, len(v.samples)-ago)]
	v.samples = append(v.samples[max(0, len(v.samples)-ago):], now)
	f := v.play.frame(earlier, now)
	if v.screen != nil {
		v.screen.draw(render(f, v.paint))
		return
	}
	for _, item := range v.play.news.from(v.newsSeen) {
		fmt.Fprintln(v.out, item)
		v.newsSeen++
	}
	if now.at.Sub(latest.at) >= printEvery/2 { // else this is the end, and the last line is recent
		fmt.Fprintln(v.out, plainLine(f))
	}
}
