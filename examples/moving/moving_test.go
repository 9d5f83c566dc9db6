// Package moving holds a go-redis program, before and after its move to a pool.
package moving

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/earnorm/poolstack/backends/redispool"
)

// Both programs print the same. They differ only in the creation of the client.
func TestMoving(t *testing.T) {
	if os.Getenv("REDIS_URL") == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("REDIS_URL is not set, and CI is true")
		}
		t.Skip("REDIS_URL is not set: run the tests by make test")
	}
	const want = `hello
missing: no such key
rpush moving:queue a b c: 3
lrange moving:queue 0 -1: [a b c]
del moving:queue: 1
10 <nil>
3 + 4 = 7
moved
`
	for _, name := range []string{"before", "after"} {
		if got := output(t, name); got != want {
			t.Errorf("%s prints:\n%s\nwant:\n%s", name, got, want)
		}
	}
	if before, after := shared(t, "before"), shared(t, "after"); before != after {
		t.Error("the programs differ in more than the making of the client")
	}
}

// README.md names the replacement of each option and each method of a client.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for name := range strings.SplitSeq(cells[1], ",") {
				told[strings.TrimSpace(name)] = true
			}
		}
	}
	for _, options := range []reflect.Type{reflect.TypeFor[redis.Options](), reflect.TypeFor[redis.FailoverOptions]()} {
		for f := range options.Fields() {
			if f.IsExported() && !told[f.Name] {
				t.Errorf("the page does not tell of %s.%s", options, f.Name)
			}
		}
	}
	commands, ours := reflect.TypeFor[redis.Cmdable](), reflect.TypeFor[*redispool.Client]()
	for m := range reflect.TypeFor[*redis.Client]().Methods() {
		if !has(commands, m.Name) && !told[m.Name] {
			t.Errorf("the page does not tell of the method %s", m.Name)
		}
	}
	for m := range commands.Methods() {
		if !has(ours, m.Name) {
			t.Errorf("a redispool.Client has no %s", m.Name)
		}
	}
}

func has(t reflect.Type, name string) bool {
	_, ok := t.MethodByName(name)
	return ok
}

// output builds and runs a program.
func output(t *testing.T, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	program := filepath.Join(t.TempDir(), name)
	if said, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	said, err := exec.CommandContext(ctx, program).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, said)
	}
	return string(said)
}

// shared returns the part of a program after the creation of the client.
func shared(t *testing.T, name string) string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(name, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(source), "// From here on both programs are the same.\n")
	if !found {
		t.Fatalf("%s has no mark", name)
	}
	return rest
}
