package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The program in the README compiles as shown, and runs. Only the address of the server differs.
func TestReadmeProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "```go\n")
	program, _, ends := strings.Cut(rest, "```\n")
	if !found || !ends || !strings.HasPrefix(program, "package main\n") {
		t.Fatal("the README has no program")
	}
	url := os.Getenv("REDIS_URL")
	const address = "redis://127.0.0.1:6379/0"
	if !strings.Contains(program, address) {
		t.Fatalf("the program has no server at %s", address)
	}
	if url != "" {
		program = strings.ReplaceAll(program, address, url)
	}
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "readme")
	if err := os.WriteFile(source, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if url == "" {
		return // TestItRuns insists on a server in CI
	}
	out, err := exec.CommandContext(ctx, binary).Output()
	if err != nil || !regexp.MustCompile(`(?m)^hello \d+ ok$`).Match(out) {
		t.Errorf("%v\n%s", err, out)
	}
}
