package metrics

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/backends/redispool"
	"github.com/earnorm/poolstack/middleware/breaker"
	"github.com/earnorm/poolstack/middleware/retry"
	"github.com/earnorm/poolstack/pool"
)

var update = flag.Bool("update", false, "write what is generated from the catalogue (make generate)")

// What people read about the metrics is made of the catalogue.
func TestDocuments(t *testing.T) {
	const (
		begin = "<!-- metrics: make generate writes this table, from middleware/metrics/catalogue.go -->\n"
		end   = "<!-- end of metrics -->\n"
	)
	levels := levelsOfModule(t)
	all := slices.Concat(catalogue[:], levels)
	for _, d := range []struct {
		file       string
		begin, end string // around what is generated: end is the first after begin
		want       string
	}{
		{"levels.go", "var moduleLevels = []Instrument{\n", "}\n", levelsFile(levels)},
		{"doc.go", "name in Prometheus:\n//\n", "//\n", packageDoc(all)},
		{"../../telemetry/README.md", begin, end, readmeTable(all)},
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

// levelsOfModule returns the instruments for the levels of all layers and backends of the module.
func levelsOfModule(t *testing.T) (all []Instrument) {
	driver := made(redispool.NewDriver(redispool.Options{Address: "127.0.0.1:6379"}))(t)
	for _, l := range []pool.Leveler{made(retry.New(retry.Config{}))(t), made(breaker.New(breaker.Config{}))(t), driver} {
		for _, level := range l.Levels() {
			all = append(all, levelInstrument(level))
		}
	}
	return all
}

func levelsFile(levels []Instrument) string {
	var b strings.Builder
	for _, i := range levels {
		fmt.Fprintf(&b, "\t{\n\t\tName: %q, Kind: Gauge, Unit: %q,\n", i.Name, i.Unit)
		fmt.Fprintf(&b, "\t\tDescription: %q,\n\t\tAttributes:  %#v,\n\t},\n", i.Description, i.Attributes)
	}
	return b.String()
}

// columns is the maximum width of a comment, with tabs of 4 columns.
const columns = 100

func packageDoc(all []Instrument) string {
	const indent = "//\t\t"
	width := columns - len(strings.ReplaceAll(indent, "\t", "    "))
	var b strings.Builder
	for _, i := range all {
		fmt.Fprintf(&b, "//\t%s (%s)\n", i.Name, i.PrometheusName())
		lines := wrap(fmt.Sprintf("%v, %s: %s", i.Kind, i.Unit, i.Description), width)
		if by := i.Attributes[1:]; len(by) > 0 {
			lines = append(lines, wrap("by "+strings.Join(by, ", "), width)...)
		}
		for _, l := range lines {
			fmt.Fprintf(&b, "%s%s\n", indent, l)
		}
	}
	return b.String()
}

// wrap breaks text into lines of at most width bytes.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}

func readmeTable(all []Instrument) string {
	var b strings.Builder
	b.WriteString("| metric, and its name in Prometheus | kind, unit | what, and by which attributes |\n|---|---|---|\n")
	for _, i := range all {
		fmt.Fprintf(&b, "| `%s`<br>`%s` | %s, %s | %s", i.Name, i.PrometheusName(), strings.ToLower(i.Kind.String()), i.Unit, i.Description)
		if by := i.Attributes[1:]; len(by) > 0 {
			fmt.Fprintf(&b, "<br>by `%s`", strings.Join(by, "`, `"))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}
