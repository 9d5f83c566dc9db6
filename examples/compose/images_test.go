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

// An image replaces an image of a registry. It contains programs of this machine and their
// libraries.
type image struct {
	name     string
	programs map[string]string // files of this machine, by path in the image
	workdir  string            // empty directory, and the program's working directory
}

// imagePrefix is the prefix of all image names, also in the override.
const imagePrefix = "poolstack-standin/"

// makeImages creates all images named in the override, and removes the images after the test.
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

// writeFile writes a file, or the target of a link, as an executable file.
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

// libraries returns the files which the loader loads for a program, including the loader. A static
// program has none.
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

// installed returns programs from PATH, by the paths used in the override and the health checks. It
// skips the test if a program is missing. On CI it fails the test.
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

// buildPrograms builds our own programs and returns their directory.
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
