package story

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// binaries is a directory with the programs of the example, linked statically, named after the images without their colon.
type binaries string

func (b binaries) path(name string) string { return filepath.Join(string(b), name) }

// programs are what is built: file, package in this module, version that the linker puts in.
var programs = []struct{ file, pkg, version string }{
	{"imaging-v1", "./examples/imaging/imaging", "v1"},
	{"imaging-v2", "./examples/imaging/imaging", "v2"},
	{"gallery", "./examples/imaging/gallery", ""},
}

// build links the programs of the example from the module in source into dir.
func build(ctx context.Context, source, dir string, t *teller) (binaries, error) {
	defer t.step("build imaging:v1, imaging:v2 and gallery from source")()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for _, p := range programs {
		flags := "-s -w"
		if p.version != "" {
			flags += " -X main.version=" + p.version
		}
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", flags, "-o", filepath.Join(dir, p.file), p.pkg)
		cmd.Dir = source
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", p.file, err, out)
		}
	}
	return binaries(dir), nil
}
