package main

import (
	"strings"
	"testing"
)

// The program runs over the standard layers.
func TestProgram(t *testing.T) {
	t.Setenv("MEMCACHED", startServer(t).address())
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	const want = `greeting: "hello", found: true
missing: "", found: false
health: ok
`
	if out.String() != want {
		t.Errorf("it prints:\n%s\nwant:\n%s", out.String(), want)
	}
}
