package module

import (
	"runtime/debug"
	"testing"
)

func TestVersionIn(t *testing.T) {
	dependency := func(m *debug.Module) *debug.BuildInfo {
		m.Path = path
		return &debug.BuildInfo{
			Main: debug.Module{Path: "example.com/shop", Version: "v9.9.9"},
			Deps: []*debug.Module{{Path: "example.com/other", Version: "v8.8.8"}, m},
		}
	}
	for name, c := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"no build information":          {nil, ""},
		"a program without the module":  {&debug.BuildInfo{Main: debug.Module{Path: "example.com/shop", Version: "v9.9.9"}}, ""},
		"a dependency":                  {dependency(&debug.Module{Version: "v1.2.3"}), "v1.2.3"},
		"replaced by a version":         {dependency(&debug.Module{Version: "v1.2.3", Replace: &debug.Module{Path: "fork", Version: "v1.2.4"}}), "v1.2.4"},
		"replaced by a directory":       {dependency(&debug.Module{Version: "v1.2.3", Replace: &debug.Module{Path: "../poolstack"}}), ""},
		"in a workspace":                {dependency(&debug.Module{Version: "(devel)"}), ""},
		"a program of the module":       {&debug.BuildInfo{Main: debug.Module{Path: path, Version: "v1.2.3+dirty"}}, "v1.2.3+dirty"},
		"a working copy":                {&debug.BuildInfo{Main: debug.Module{Path: path, Version: "(devel)"}}, ""},
		"a working copy without a name": {&debug.BuildInfo{Main: debug.Module{Path: path}}, ""},
	} {
		if got := versionIn(c.info); got != c.want {
			t.Errorf("%s: the version is %q, want %q", name, got, c.want)
		}
	}
}
