package dashboards

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"

	"github.com/earnorm/poolstack/pool/pooltest"
	"github.com/earnorm/poolstack/telemetry/dashboards"
)

func TestMain(m *testing.M) {
	plugins.RegisterDefaultPlugins() // the types of panels and queries: without them, options of any kind pass
	os.Exit(pooltest.Main(m))
}

func files(t *testing.T) map[string][]byte {
	t.Helper()
	made, err := dashboards.New(dashboards.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return made.Files()
}

// read reads a dashboard by Grafana's schema: no field is unknown, no required field is missing, no
// value is of another type or out of bounds.
func read(content []byte) (dashboard.Dashboard, error) { //nolint:staticcheck // the schema of the files, which every Grafana imports
	var strict, d dashboard.Dashboard //nolint:staticcheck // as above
	err := strict.UnmarshalJSONStrict(content)
	// Without a mistake the SDK returns an empty list, which is an error other than nil. For the same
	// reason the result of the strict reading has no panels.
	if mistakes, ok := errors.AsType[cog.BuildErrors](err); ok && len(mistakes) == 0 {
		err = nil
	}
	if err := errors.Join(err, json.Unmarshal(content, &d)); err != nil {
		return d, err
	}
	return d, d.Validate()
}

func TestGrafanaUnderstandsTheDashboards(t *testing.T) {
	all := files(t)
	if len(all) != 3 {
		t.Errorf("there are %d dashboards, want 3", len(all))
	}
	for name, content := range all {
		d, err := read(content)
		if err != nil {
			t.Errorf("%s:\n%v", name, err)
		}
		panels := 0
		for i, p := range d.Panels {
			if p.RowPanel != nil {
				continue
			}
			panels++
			if p.Panel == nil {
				t.Fatalf("%s: panel %d is neither a panel nor a row", name, i)
			}
			if _, ok := cog.ConfigForPanelcfgVariant(p.Panel.Type); !ok {
				t.Errorf("%s: panel %d is a %s, which Grafana's types do not know", name, i, p.Panel.Type)
			}
			for _, target := range p.Panel.Targets {
				if kind := target.DataqueryType(); kind != "prometheus" {
					t.Errorf("%s: panel %d asks a data source of the type %q", name, i, kind)
				}
			}
		}
		if panels == 0 {
			t.Errorf("%s has no panels", name)
		}
	}
}

// The test above sees what is wrong, at each depth.
func TestItSees(t *testing.T) {
	whole := files(t)["pool.json"]
	for _, tc := range []struct{ replace, by, want string }{
		{`"panels": []`, `"panels": null`, "panels[0].panels: required field is null"},
		{`"frameIndex": 0`, `"frameIndices": 0`, "panels[7].options.frameIndex: required field is missing"},
		{`"editable": true`, `"editabel": true`, "unexpected field 'editabel'"},
		{`"calcs": [],`, ``, "panels[1].options.legend.calcs: required field is missing"},
		{`"expr":`, `"expression":`, "unexpected field 'expression'"},
		{`"drawStyle": "line"`, `"drawingStyle": "line"`, "unexpected field 'drawingStyle'"},
		{`"schemaVersion": 39`, `"schemaVersion": "39"`, "schemaVersion"},
	} {
		broken := bytes.Replace(whole, []byte(tc.replace), []byte(tc.by), 1)
		if bytes.Equal(broken, whole) {
			t.Errorf("there is no %s in the dashboard", tc.replace)
			continue
		}
		if _, err := read(broken); err == nil || !strings.Contains(fmt.Sprint(err), tc.want) {
			t.Errorf("%s for %s: got %v, want %s", tc.by, tc.replace, err, tc.want)
		}
	}
}
