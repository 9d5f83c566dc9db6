package compose_test

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/earnorm/poolstack/examples/tools"
)

// An image stands in for one that only a registry has: programs of this machine, with the libraries that they load, and nothing else.
type image struct {
	name     string
	programs map[string]string // files of this machine, by where they are in the image
	workdir  string            // empty, and what the program starts in
}

// imagePrefix is what the names of all our images begin with, in the override too.
const imagePrefix = "poolstack-standin/"

// makeImages makes all images that the override names, and removes them after the test.
func makeImages(t *testing.T, d docker, tag string) {
	t.Helper()
	built := buildPrograms(t)
	for _, i := range []image{
		{name: "redis", programs: installed(t, "redis-server", "redis-cli"), workdir: "/data"},
		{name: "prometheus", programs: installed(t, "prometheus", "promtool"), workdir: "/prometheus"},
		{name: "jaeger", programs: map[string]string{"/jaeger": tools.Need(t, tools.Jaeger)}, workdir: "/data"},
		{name: "collector", programs: map[string]string{"/collector": tools.Need(t, tools.Collector)}, workdir: "/data"},
		{name: "ferretdb", programs: map[string]string{"/ferretdb": filepath.Join(built, "ferretdb")}, workdir: "/data"},
		{
			name: "outage", workdir: "/data",
			programs: map[string]string{"/servers": filepath.Join(built, "servers"), "/outage": filepath.Join(built, "outage")},
		},
	} {
		makeImage(t, d, i, imagePrefix+i.name+":"+tag)
	}
}

func makeImage(t *testing.T, d docker, i image, name string) {
	t.Helper()
	reader, writer := io.Pipe()
	go func() { _ = writer.CloseWithError(i.write(t.Context(), writer)) }()
	id, err := d.run(t.Context(), reader, "import", "--change", "WORKDIR "+i.workdir, "-", name)
	_ = reader.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := d.run(context.Background(), nil, "image", "rm", "--force", strings.TrimSpace(id)); err != nil {
			t.Error(err)
		}
	})
}

// write writes the image's only layer.
func (i image) write(ctx context.Context, to io.Writer) error {
	files := map[string]string{}
	for inside, file := range i.programs {
		files[inside] = file
		libraries, err := libraries(ctx, file)
		if err != nil {
			return err
		}
		for _, library := range libraries {
			files[library] = library
		}
	}
	layer := tar.NewWriter(to)
	for _, dir := range []string{"/tmp", i.workdir} {
		if err := layer.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o777}); err != nil {
			return err
		}
	}
	for inside, file := range files {
		if err := writeFile(layer, inside, file); err != nil {
			return err
		}
	}
	return layer.Close()
}

// writeFile writes a file, or what a link leads to, as an executable one.
func writeFile(layer *tar.Writer, name, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := layer.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(layer, f)
	return err
}

// libraries are the files that the loader loads along with a program, itself included; none for a static one.
func libraries(ctx context.Context, program string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).CombinedOutput()
	if strings.Contains(string(out), "not a dynamic executable") {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Join(errors.New(string(out)), err)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		for word := range strings.FieldsSeq(line) {
			if filepath.IsAbs(word) && !slices.Contains(found, word) {
				found = append(found, word)
			}
		}
	}
	return found, nil
}

// installed are programs from PATH, where the override and the health checks look for them. It skips the test where there is none,
// except on CI.
func installed(t *testing.T, names ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			missing(t, name+" is not installed: "+err.Error())
		}
		found["/usr/bin/"+name] = path
	}
	return found
}

// buildPrograms builds our own programs and returns the directory that they are in.
func buildPrograms(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir+"/", "./compose/ferretdb", "./servers", "./outage")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}
