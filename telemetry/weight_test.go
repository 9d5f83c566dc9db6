package telemetry_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// list runs go list in the root of the module, for each dependency of the packages.
func list(t *testing.T, format string, packages ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps", "-f", format}, packages...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// gRPC comes with package otlpgrpc only. Templates come with no package: a program with templates
// keeps all methods of all types, because the linker cannot know the methods that a template calls.
func TestWhoBringsGRPC(t *testing.T) {
	heavy := func(dep string) bool {
		return strings.HasPrefix(dep, "google.golang.org/grpc") || strings.HasSuffix(dep, "/template")
	}
	if deps := list(t, "{{.ImportPath}}", "./telemetry"); slices.ContainsFunc(deps, heavy) {
		t.Errorf("package telemetry depends on %v", slices.DeleteFunc(deps, func(dep string) bool { return !heavy(dep) }))
	}
	if deps := list(t, "{{.ImportPath}}", "./telemetry/otlpgrpc"); !slices.ContainsFunc(deps, heavy) {
		t.Error("package otlpgrpc depends on nothing that this test finds heavy")
	}
}

// The READMEs say how many modules a program compiles.
func TestModulesOfTheREADME(t *testing.T) {
	for _, tc := range []struct {
		readme, says string
		modules      int
		packages     []string
	}{
		{"../README.md", "A user of `pool` and `redispool` compiles five modules", 5, []string{"./pool", "./backends/redispool"}},
		{"README.md", "A program with `telemetry` compiles 26 modules", 26, []string{"./telemetry"}},
	} {
		readme, err := os.ReadFile(tc.readme)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(readme), tc.says) {
			t.Errorf("%s does not say: %s", tc.readme, tc.says)
		}
		modules := list(t, "{{with .Module}}{{.Path}}{{end}}", tc.packages...)
		slices.Sort(modules)
		if modules = slices.Compact(modules); len(modules) != tc.modules {
			t.Errorf("%v compile %d modules, want %d: %v", tc.packages, len(modules), tc.modules, modules)
		}
	}
}
