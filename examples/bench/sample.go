package main

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// subject is a compared implementation in a scenario.
type subject struct {
	name    string
	measure func(d time.Duration) figures // takes a sample of about d
}

// loop returns a subject of a function with n repetitions.
func loop(name string, run func(n int)) subject {
	n := 0
	return subject{name, func(d time.Duration) figures {
		if n == 0 {
			n = calibrate(run, d)
		}
		return timed(run, n)
	}}
}

// calibrate returns the number of repetitions for a sample of about d. It also warms up run.
func calibrate(run func(n int), d time.Duration) int {
	for n := 64; ; n *= 2 {
		start := time.Now()
		run(n)
		if took := time.Since(start); took > d/4 {
			return max(1, int(float64(n)*float64(d)/float64(took)))
		}
	}
}

func timed(run func(n int), n int) figures {
	before := mallocs()
	start := time.Now()
	run(n)
	took := time.Since(start)
	return figures{cost: float64(took.Nanoseconds()) / float64(n), allocs: float64(mallocs()-before) / float64(n)}
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// spread distributes the repetitions of run over goroutines.
func spread(workers int, run func(n int)) func(n int) {
	if workers == 1 {
		return run
	}
	return func(n int) {
		var all sync.WaitGroup
		for range workers {
			all.Go(func() { run(share(n, workers)) })
		}
		all.Wait()
	}
}

// share returns the part of n for each worker, rounded up.
func share(n, workers int) int { return (n + workers - 1) / workers }

// processors returns the number of goroutines in parallel scenarios.
func processors() int { return runtime.GOMAXPROCS(0) }

// scenario is a comparison of the subjects created by open.
type scenario struct {
	name  string
	about string
	open  func() (subjects []subject, shut func())
	gates []gate
}

// outcome is the result of a scenario.
type outcome struct {
	scenario
	names    []string // of the subjects, in order
	rounds   []round
	verdicts []verdict
}

// run takes interleaved samples. Each round has a sample of every subject, in a new random order.
// So drift of the machine affects all subjects alike. The same holds for the effects of a sample on
// the next sample, such as garbage. The first round is a warm-up and does not count.
func (s scenario) run(rounds int, d time.Duration) outcome {
	subjects, shut := s.open()
	defer shut()
	runtime.GC()
	o := outcome{scenario: s}
	for _, c := range subjects {
		o.names = append(o.names, c.name)
	}
	for i := range rounds + 1 {
		r := round{}
		for _, j := range rand.Perm(len(subjects)) {
			c := subjects[j]
			r[c.name] = c.measure(d)
		}
		if i > 0 {
			o.rounds = append(o.rounds, r)
		}
	}
	for _, g := range s.gates {
		o.verdicts = append(o.verdicts, g.judge(o.rounds))
	}
	return o
}

// column returns a figure of a subject in all rounds.
func (o outcome) column(name string, figure func(figures) float64) []float64 {
	xs := make([]float64, len(o.rounds))
	for i, r := range o.rounds {
		xs[i] = figure(r[name])
	}
	return xs
}
