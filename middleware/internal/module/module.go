// Package module finds out the version of this module, for the instrumentation scopes.
package module

import (
	"runtime/debug"
	"sync"
)

const path = "github.com/earnorm/poolstack"

// Version returns the version of this module in the running program, such as "v1.2.3". Version
// returns "" if the version is unknown: in a program made from a working copy, or without build
// information. Version may be called concurrently.
var Version = sync.OnceValue(func() string {
	info, _ := debug.ReadBuildInfo()
	return versionIn(info)
})

// versionIn returns the version in info. info may be nil.
func versionIn(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path != path {
			continue
		}
		if m.Replace != nil { // the program has the code of the replacement
			m = m.Replace
		}
		if m.Version == "(devel)" { // the Go command knows no version
			return ""
		}
		return m.Version
	}
	return ""
}
