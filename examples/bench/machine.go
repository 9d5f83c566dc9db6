package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// compared are the modules with a version in the report.
var compared = []string{
	"github.com/FerretDB/FerretDB", "github.com/cenkalti/backoff/v4", "github.com/failsafe-go/failsafe-go", "github.com/jackc/puddle/v2",
	"github.com/jolestar/go-commons-pool/v2", "github.com/redis/go-redis/v9", "github.com/redis/go-redis/extra/redisotel/v9",
	"github.com/sony/gobreaker/v2", "go.mongodb.org/mongo-driver/v2", "go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/sdk/metric",
}

// machine describes the machine and the versions of the compared modules.
func machine() string {
	var b strings.Builder
	fmt.Fprintf(&b, "- %s, %s/%s, %s, GOMAXPROCS %d\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, processor(), processors())
	if info, ok := debug.ReadBuildInfo(); ok {
		var versions []string
		for _, m := range info.Deps {
			if slices.Contains(compared, m.Path) {
				versions = append(versions, m.Path+" "+m.Version)
			}
		}
		fmt.Fprintf(&b, "- %s\n", strings.Join(versions, ", "))
	}
	return b.String()
}

// processor returns the model name of the processor from Linux's /proc/cpuinfo.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// load returns the machine's load average over the last minute, or -1 if the system has none.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(text), " ")
	l, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return l
}

// busy returns a warning if other processes use the machine. Then absolute figures are worthless
// and ratios are rough.
func busy(load float64) string {
	if load <= float64(runtime.NumCPU())/2 {
		return ""
	}
	return fmt.Sprintf("\n**Taken on a busy machine**: load average %.1f on %d processors before the run. Ratios are rough, nanoseconds mean little.\n",
		load, runtime.NumCPU())
}
