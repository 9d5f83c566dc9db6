package main

import (
	"os"
	"strings"
	"testing"
)

// The program runs against a real server.
func TestProgram(t *testing.T) {
	if os.Getenv("REDIS_URL") == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("REDIS_URL is not set, and CI is true")
		}
		t.Skip("REDIS_URL is not set: run the tests by make test")
	}
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	if want := "refused: too many uses in progress of REPORT\nserved: PING\n"; out.String() != want {
		t.Errorf("it prints:\n%s\nwant:\n%s", out.String(), want)
	}
}
