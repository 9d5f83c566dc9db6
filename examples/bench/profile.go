package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"github.com/earnorm/poolstack/middleware"
)

// profileGet writes profiles of a GET at 64 goroutines into dir: get.cpu and get.allocs through the full standard stack as in the gates,
// bare.cpu of go-redis alone, to compare with.
func profileGet(s *servers, dir string, d time.Duration) error {
	const callers = 64
	defer func(usual int) { runtime.MemProfileRate = usual }(runtime.MemProfileRate)
	runtime.MemProfileRate = 0 // until the last part, so that what the others allocate is not in it
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	full := telemetryVariant{our, func(p *providers) middleware.Options { return telling(p, true) }, oneIn, nil}
	bare := bareRedis(s, goRedis, getCommand, callers)
	defer bare.close()
	ours := ourRedis(s, full, getCommand, callers)
	defer ours.close()
	for _, part := range []struct {
		file string
		of   contestant
	}{{"bare.cpu", bare}, {"get.cpu", ours}} {
		part.of.measure(d / longer / 10) // warms up
		stop, err := startProfile(filepath.Join(dir, part.file))
		if err != nil {
			return err
		}
		f := part.of.measure(d / longer)
		stop()
		fmt.Printf("%s: %.0f op/s, %.0f ns of CPU and %.1f allocations a call\n", part.of.name, throughputOf(f), f.cpu, f.allocs)
	}
	const everySoManyBytes = 512
	runtime.MemProfileRate = everySoManyBytes
	ours.measure(d / longer)
	f, err := os.Create(filepath.Join(dir, "get.allocs"))
	if err != nil {
		return err
	}
	defer f.Close()
	return pprof.Lookup("allocs").WriteTo(f, 0)
}

// startProfile profiles into the file named, if any, until stop is called.
func startProfile(name string) (stop func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); _ = f.Close() }, nil
}
