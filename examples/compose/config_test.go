package compose_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/goccy/go-yaml"
)

// load reads compose files like docker compose, but without the variables of this process.
func load(t *testing.T, files ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions(files, cli.WithResolvedPaths(true), cli.WithEnv(nil))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestEveryService(t *testing.T) {
	project := load(t, composeFile)
	names := project.ServiceNames()
	want := []string{"collector", "demo", "grafana", "jaeger", "mongo", "prometheus", "redis", "tempo"}
	if !slices.Equal(names, want) {
		t.Errorf("the services are %v, want %v", names, want)
	}
	for _, name := range names {
		s := project.Services[name]
		if _, version, _ := strings.Cut(s.Image, ":"); version == "" || version == "latest" {
			t.Errorf("%s: the version of image %q is not pinned", name, s.Image)
		}
		if s.MemLimit == 0 || s.CPUS == 0 || s.Restart == "" {
			t.Errorf("%s: memory %d, CPUs %v, restart %q: want all set", name, s.MemLimit, s.CPUS, s.Restart)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %d is published on %q", name, p.Target, p.HostIP)
			}
		}
		checkHealth(t, s)
	}
}

// checkHealth requires a health check supported by every engine. Two images contain no program for
// a check and are exempt.
func checkHealth(t *testing.T, s types.ServiceConfig) {
	t.Helper()
	probed := s.HealthCheck != nil && len(s.HealthCheck.Test) > 1 && !s.HealthCheck.Disable
	if without := s.Name == "collector" || s.Name == "tempo"; probed == without {
		t.Errorf("%s: has a health check: %t", s.Name, probed)
	}
	if probed && s.HealthCheck.StartInterval != nil {
		t.Errorf("%s: start_interval needs Docker Engine 25", s.Name)
	}
}

// The user can choose the images and the MongoDB server with variables.
func TestVariables(t *testing.T) {
	project := load(t, composeFile)
	for _, name := range project.ServiceNames() {
		variable := strings.ToUpper(name) + "_IMAGE"
		options, err := cli.NewProjectOptions([]string{composeFile}, cli.WithEnv([]string{variable + "=other:1", "MONGODB_URI=mongodb://other/"}))
		if err != nil {
			t.Fatal(err)
		}
		changed, err := options.LoadProject(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := changed.Services[name].Image; got != "other:1" {
			t.Errorf("%s: %s does not count: %s", name, variable, got)
		}
		if got := changed.Services["demo"].Environment["MONGODB_URI"]; got == nil || *got != "mongodb://other/" {
			t.Errorf("MONGODB_URI does not count: %v", got)
		}
	}
	if got := project.Services["demo"].Environment["MONGODB_URI"]; got == nil || !strings.Contains(*got, "replicaSet=") {
		t.Errorf("by default MONGODB_URI is %v, want that of the replica set", got)
	}
}

func TestMountedFilesParse(t *testing.T) {
	project := load(t, composeFile)
	mounted := 0
	for _, s := range project.Services {
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind || !v.ReadOnly {
				t.Errorf("%s: %s is mounted as %s, read-only %t", s.Name, v.Target, v.Type, v.ReadOnly)
				continue
			}
			for _, file := range files(t, v.Source) {
				var content any
				if err := parse(file, &content); err != nil || content == nil {
					t.Errorf("%s: %v, which holds %v", file, err, content)
				}
				mounted++
			}
		}
	}
	if mounted < 7 { // five here, and at least a dashboard and a rules file
		t.Errorf("%d mounted files", mounted)
	}
}

// files returns the files of a mounted path: the file itself, or the YAML and JSON files in the
// directory. At least a single file must exist. The directory may also contain generators.
func files(t *testing.T, path string) []string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Error(err)
		return nil
	}
	if !info.IsDir() {
		return []string{path}
	}
	inside, err := filepath.Glob(filepath.Join(path, "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	inside = slices.DeleteFunc(inside, func(file string) bool {
		return !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(file))
	})
	if len(inside) == 0 {
		t.Errorf("%s holds nothing to mount", path)
	}
	return inside
}

// parse reads a file by its extension.
func parse(file string, into any) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	switch filepath.Ext(file) {
	case ".yaml", ".yml":
		return yaml.Unmarshal(content, into)
	case ".json":
		return json.Unmarshal(content, into)
	}
	return fmt.Errorf("neither YAML nor JSON")
}

// Grafana does not run in the tests. So the test checks the names in Grafana's files: services,
// data sources and dashboards must exist.
func TestGrafanaFindsWhatItsFilesName(t *testing.T) {
	project := load(t, composeFile)
	var provisioned struct {
		Datasources []struct {
			UID, URL string
			JSONData struct {
				Exemplars []struct {
					Name          string
					DatasourceUID string `yaml:"datasourceUid"`
				} `yaml:"exemplarTraceIdDestinations"`
			} `yaml:"jsonData"`
		}
	}
	if err := parse("grafana/datasources.yaml", &provisioned); err != nil {
		t.Fatal(err)
	}
	uids := map[string]bool{}
	var leads []string
	for _, d := range provisioned.Datasources {
		uids[d.UID] = true
		u, err := url.Parse(d.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := project.Services[u.Hostname()]; !ok {
			t.Errorf("data source %s: no service of the name of %s", d.UID, d.URL)
		}
		for _, e := range d.JSONData.Exemplars {
			leads = append(leads, e.Name+" to "+e.DatasourceUID)
		}
	}
	if want := []string{"trace_id to tempo", "trace_id to jaeger"}; !slices.Equal(leads, want) || !uids["tempo"] || !uids["jaeger"] {
		t.Errorf("exemplars lead by %q, want %q; the data sources are %v", leads, want, uids)
	}
	for _, v := range project.Services["grafana"].Volumes {
		if filepath.Ext(v.Source) != "" {
			continue
		}
		for _, file := range files(t, v.Source) {
			checkDashboard(t, file, uids)
		}
		home := project.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
		if _, err := os.Stat(filepath.Join(v.Source, strings.TrimPrefix(*home, v.Target))); err != nil {
			t.Errorf("the first page: %v", err)
		}
	}
}

// checkDashboard requires each data source uid in the dashboard to be in uids. A variable is
// exempt.
func checkDashboard(t *testing.T, file string, uids map[string]bool) {
	t.Helper()
	var dashboard any
	if err := parse(file, &dashboard); err != nil {
		t.Fatal(err)
	}
	var walk func(key string, node any)
	walk = func(key string, node any) {
		switch n := node.(type) {
		case []any:
			for _, inside := range n {
				walk(key, inside)
			}
		case map[string]any:
			if uid, ok := n["uid"].(string); ok && key == "datasource" && !strings.HasPrefix(uid, "$") && uid != "-- Grafana --" && !uids[uid] {
				t.Errorf("%s: there is no data source %q", file, uid)
			}
			for inside, value := range n {
				walk(inside, value)
			}
		}
	}
	walk("", dashboard)
}

// The override for the tests changes the images only.
func TestTheOverrideChangesNothingElse(t *testing.T) {
	var override map[string]map[string]map[string]any
	if err := parse(overrideFile, &override); err != nil {
		t.Fatal(err)
	}
	if len(override) != 1 || len(override["services"]) == 0 {
		t.Errorf("it has more than services: %v", override)
	}
	allowed := []string{"image", "entrypoint", "healthcheck", "environment"}
	for name, service := range override["services"] {
		for key, value := range service {
			if !slices.Contains(allowed, key) {
				t.Errorf("%s: it changes %s", name, key)
			}
			if env, _ := value.(map[string]any); key == "environment" && (len(env) != 1 || env["MONGODB_URI"] == nil) {
				t.Errorf("%s: it changes %v", name, value)
			}
		}
	}
	with, without := load(t, composeFile, overrideFile), load(t, composeFile)
	if !slices.Equal(with.ServiceNames(), without.ServiceNames()) {
		t.Errorf("with it the services are %v", with.ServiceNames())
	}
	for name, s := range with.Services {
		if !reflect.DeepEqual(s.Volumes, without.Services[name].Volumes) || !slices.Equal(s.Command, without.Services[name].Command) {
			t.Errorf("%s: with it other files are mounted, or there is another command", name)
		}
	}
}
