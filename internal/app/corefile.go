package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/dns/corefile"
)

// ImportCorefile reads a Corefile, "-" for in, writes Fairway's DNS configuration to out, and one line to refused for each line that it does
// not do. If there is any, nothing is written to out, and that is an error, unless partial says that it is fine.
func ImportCorefile(file string, partial bool, in io.Reader, out, refused io.Writer) error {
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(in, 1<<20))
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return err
	}
	name := file
	if file == "-" {
		name = "stdin"
	}
	r, err := corefile.Import(name, string(text), func(pattern string) ([]corefile.Text, error) { return importFiles(file, pattern) })
	if err != nil {
		return err
	}
	for _, f := range r.Refusals {
		fmt.Fprintln(refused, f)
	}
	if len(r.Refusals) == 0 || partial {
		_, err := io.WriteString(out, r.YAML)
		return err
	}
	return fmt.Errorf("%s: %d lines that Fairway does not do are named above; change them, or take the rest with --partial", name, len(r.Refusals))
}

// importFiles reads what an import in a Corefile means: a path is relative to the Corefile's directory.
func importFiles(corefileName, pattern string) (out []corefile.Text, err error) {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(corefileName), pattern)
	}
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 && !strings.ContainsAny(pattern, "*?[") {
		return nil, fmt.Errorf("no snippet and no file of that name")
	}
	slices.Sort(names)
	for _, n := range names {
		text, err := os.ReadFile(n)
		if err != nil {
			return nil, err
		}
		out = append(out, corefile.Text{Name: n, Text: string(text)})
	}
	return out, nil
}
