package mongopool

import (
	"flag"
	"os"
	"testing"

	"github.com/earnorm/poolstack/pool/pooltest"
)

// The live tests and the Examples need a MongoDB server, or a server with the same protocol, at
// MONGODB_URI. They write to databases of their own there, and drop the databases. Without
// MONGODB_URI they are skipped. With CI=true and POOLSTACK_LIVE=1, as in continuous integration
// with a server, they fail instead.
const (
	envURI  = "MONGODB_URI"
	envLive = "POOLSTACK_LIVE"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(envURI) == "" {
		skip := "^Example"
		if given := flag.Lookup("test.skip").Value.String(); given != "" {
			skip += "|" + given
		}
		if err := flag.Set("test.skip", skip); err != nil { // an Example cannot skip itself
			panic(err)
		}
	}
	os.Exit(pooltest.Main(m))
}

// liveURI returns the address of a real server, or skips the test. It reads the environment in the
// test, so a cached result of the test is not used for another environment.
func liveURI(t testing.TB) string {
	t.Helper()
	uri := os.Getenv(envURI)
	if uri != "" {
		return uri
	}
	if os.Getenv("CI") == "true" && os.Getenv(envLive) == "1" {
		t.Fatalf("%s is not set, though CI is true and %s is 1", envURI, envLive)
	}
	t.Skipf("%s is not set: it needs a real server", envURI)
	return ""
}
