package metrics

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is generated from the catalogue (make generate)")

// What people read about the metrics is made of the catalogue.
func TestDocuments(t *testing.T) {
	const (
		begin = "<!-- metrics: make generate writes this table, from middleware/metrics/catalogue.go -->\n"
		end   = "<!-- end of metrics -->\n"
	)
	for _, d := range []struct {
		file       string
		begin, end string // around what is generated: end is the first after begin
		want       string
	}{
		{"doc.go", "name in Prometheus:\n//\n", "//\n", packageDoc()},
		{"../../telemetry/README.md", begin, end, readmeTable()},
	} {
		text, err := os.ReadFile(d.file)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, ok := strings.Cut(string(text), d.begin)
		got, after, ends := strings.Cut(rest, d.end)
		if !ok || !ends {
			t.Errorf("%s has no place for what is generated, between %q and %q", d.file, d.begin, d.end)
			continue
		}
		if got == d.want {
			continue
		}
		if !*update {
			t.Errorf("%s differs from the catalogue: run make generate. It says\n%s\nand should say\n%s", d.file, got, d.want)
			continue
		}
		if err := os.WriteFile(d.file, []byte(before+d.begin+d.want+d.end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func packageDoc() string {
	const width = 130
	var b strings.Builder
	for _, i := range catalogue {
		fmt.Fprintf(&b, "//\t%s (%s)\n//\t\t%v, %s: %s\n", i.Name, i.PrometheusName(), i.Kind, i.Unit, i.Description)
		line := ""
		for n, a := range i.Attributes[1:] {
			if n == 0 {
				line = "by " + a
				continue
			}
			line += ","
			if len(line)+len(a) > width {
				fmt.Fprintf(&b, "//\t\t%s\n", line)
				line = a
				continue
			}
			line += " " + a
		}
		if line != "" {
			fmt.Fprintf(&b, "//\t\t%s\n", line)
		}
	}
	return b.String()
}

func readmeTable() string {
	var b strings.Builder
	b.WriteString("| metric, and its name in Prometheus | kind, unit | what, and by which attributes |\n|---|---|---|\n")
	for _, i := range catalogue {
		fmt.Fprintf(&b, "| `%s`<br>`%s` | %s, %s | %s", i.Name, i.PrometheusName(), strings.ToLower(i.Kind.String()), i.Unit, i.Description)
		if by := i.Attributes[1:]; len(by) > 0 {
			fmt.Fprintf(&b, "<br>by `%s`", strings.Join(by, "`, `"))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}
