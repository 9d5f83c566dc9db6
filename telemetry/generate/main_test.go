package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/pool/pooltest"
)

func TestMain(m *testing.M) { os.Exit(pooltest.Main(m)) }

// The files in the repository are exactly the files written by the command.
func TestUpToDate(t *testing.T) {
	out := t.TempDir()
	if err := run([]string{"-out", out}, os.Stderr); err != nil {
		t.Fatal(err)
	}
	written := 0
	for _, pattern := range []string{"rules/*.yaml", "rules/*.md", "dashboards/*.json"} {
		for _, dir := range []string{out, ".."} {
			found, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range found {
				name, _ := filepath.Rel(dir, path)
				want, _ := os.ReadFile(filepath.Join(out, name)) // empty, if the file does not exist
				got, _ := os.ReadFile(filepath.Join("..", name))
				if !bytes.Equal(got, want) {
					t.Errorf("telemetry/%s is out of date: go generate ./telemetry/...", name)
				}
				written++
			}
		}
	}
	if written != 12 {
		t.Errorf("there are %d files, want 6 here and 6 there", written)
	}
}

func TestParameters(t *testing.T) {
	out := filepath.Join(t.TempDir(), "new", "directory")
	err := run([]string{
		"-out", out, "-objective", "99.5", "-runbooks", "https://wiki.example.com/x", "-labels", "cluster, job", "-for", "2m",
	}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"rules/poolstack-alerts.yaml": {"14.4 * 0.005", "https://wiki.example.com/x#poolstackwaiters", "by (cluster, job, pool)", "for: 2m\n"},
		"dashboards/overview.json":    {"/ 0.005"},
	} {
		content, err := os.ReadFile(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(content), w) {
				t.Errorf("%s has no %q", name, w)
			}
		}
	}
}

func TestMistakes(t *testing.T) {
	for want, args := range map[string][]string{
		"Objective is 90: must be":                   {"-objective", "90"},
		"-objective is 0: must be":                   {"-objective", "0"},
		`Runbooks is "wiki": must be`:                {"-runbooks", "wiki"},
		`Labels[0] is "pool": must be`:               {"-labels", "pool"},
		"For is -1s: must be":                        {"-for", "-1s"},
		`"DIR" is not a flag`:                        {"DIR"},
		"flag provided but not defined: -objectives": {"-objectives", "1"},
	} {
		var usage bytes.Buffer
		out := t.TempDir()
		err := run(append([]string{"-out", out}, args...), &usage)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", args, err, want)
		}
		if left, _ := os.ReadDir(out); len(left) > 0 {
			t.Errorf("%v: something was written", args)
		}
	}
}
