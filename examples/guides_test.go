// Package examples tests the pages of the guides.
package examples

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// guides returns the folders of the guides listed in README.md.
func guides(t *testing.T) []string {
	t.Helper()
	_, rest, _ := strings.Cut(read(t, "README.md"), "## Guides\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	var folders []string
	for _, link := range regexp.MustCompile(`\]\((\w+)/README\.md\)`).FindAllStringSubmatch(section, -1) {
		folders = append(folders, link[1])
	}
	if len(folders) < 2 {
		t.Fatal("README.md lists no guides")
	}
	return folders
}

// All code of a guide's page is in a file of the guide, so the code compiles. A line "// ..." in
// the page stands for left-out code.
func TestCodeOfPages(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```")
	for _, guide := range guides(t) {
		code := source(t, guide)
		for _, block := range blocks.FindAllStringSubmatch(read(t, guide, "README.md"), -1) {
			for part := range strings.SplitSeq(block[1], "// ...\n") {
				if !strings.Contains(code, words(part)) {
					t.Errorf("%s/README.md: no file of the folder contains this code:\n%s", guide, part)
				}
			}
		}
	}
}

// The pages tell the true size of the layer and of the driver.
func TestLinesOfCode(t *testing.T) {
	for path, limit := range map[string]int{"layer/layer.go": 40, "driver/memcached.go": 100} {
		_, code, _ := strings.Cut(read(t, path), "\n)\n") // the end of the imports
		n := 0
		for line := range strings.Lines(code) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				n++
			}
		}
		if page := words(read(t, filepath.Dir(path), "README.md")); n >= limit || !strings.Contains(page, fmt.Sprintf("has%dlinesofcode", n)) {
			t.Errorf("%s has %d lines of code: the limit is %d, and the page must tell the number", path, n, limit-1)
		}
	}
}

// The metrics and labels in a page have the names that Prometheus shows.
func TestMetricsOfPages(t *testing.T) {
	known := map[string]bool{}
	for _, name := range regexp.MustCompile("`([a-z._]+)`").FindAllStringSubmatch(read(t, "..", "telemetry", "README.md"), -1) {
		known[strings.ReplaceAll(name[1], ".", "_")] = true
	}
	if !known["poolstack_breaker_threshold_ratio"] || !known["poolstack_reason"] {
		t.Fatal("telemetry/README.md has no names of metrics and labels")
	}
	for _, guide := range guides(t) {
		for _, name := range regexp.MustCompile(`\b(poolstack|db_client)_\w+`).FindAllString(read(t, guide, "README.md"), -1) {
			if !known[name] {
				t.Errorf("%s/README.md: no metric and no label has the name %s", guide, name)
			}
		}
	}
}

// source returns all Go files of a guide, without white space.
func source(t *testing.T, guide string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(guide, func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			all.WriteString(words(read(t, path)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// words returns text without white space.
func words(text string) string { return strings.Join(strings.Fields(text), "") }

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
