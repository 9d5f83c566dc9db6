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

// profileGet writes profiles of a GET at 64 goroutines to dir. The profiles get.cpu and get.allocs
// are of the full standard stack, as in the gates. The profile bare.cpu is of go-redis alone, for
// comparison.
func profileGet(s *servers, dir string, d time.Duration) error {
	const callers = 64
	defer func(usual int) { runtime.MemProfileRate = usual }(runtime.MemProfileRate)
	runtime.MemProfileRate = 0 // until the last part, to exclude the allocations of other parts
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
		part.of.measure(d / longer / 10) // warm-up
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

// startProfile writes a CPU profile to the named file until stop is called. An empty name means no
// profile.
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
