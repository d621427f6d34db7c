package e2e

import (
	"fmt"
	"image/jpeg"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is one ```sh block of a Markdown file.
type block struct {
	before   string   // the last line of text above it
	commands []string // without comments and sudo: the tests are root
}

func shellBlocks(text string) (blocks []block) {
	inside, shell, before := false, false, ""
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		switch {
		case strings.HasPrefix(l, "```"):
			inside, shell = !inside, l == "```sh"
			if inside && shell {
				blocks = append(blocks, block{before: before})
			}
		case inside && shell && l != "" && !strings.HasPrefix(l, "#"):
			command, _, _ := strings.Cut(l, "  #")
			b := &blocks[len(blocks)-1]
			b.commands = append(b.commands, strings.TrimSpace(strings.TrimPrefix(command, "sudo ")))
		case !inside && l != "":
			before = l
		}
	}
	return blocks
}

// reader is somebody who follows a README to the letter, in a directory that looks like the project's.
type reader struct {
	*machine
	dir     string
	exports []string // what the terminal knows by now
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{machine: newMachine(t), dir: t.TempDir()}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum", "examples", "internal", "cmd"} {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(r.dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t), filepath.Join(r.dir, "bin/fairway")); err != nil {
		t.Fatal(err)
	}
	return r
}

// run types one command and gives what it prints.
func (r *reader) run(command string) (string, error) {
	cmd := r.ns.Command("bash", "-c", strings.Join(append(slices.Clone(r.exports), command), "\n"))
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), r.env()...)
	cmd.Env = append(cmd.Env, "no_proxy=*")
	for _, name := range []string{"GOCACHE", "GOMODCACHE"} { // which are below HOME, and the machine has a HOME of its own
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			return "", fmt.Errorf("go env %s: %w", name, err)
		}
		cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(value)))
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// prints gives a check that the command succeeds and prints all of want.
func prints(want ...string) func(*reader, string) error {
	return func(r *reader, command string) error {
		out, err := r.run(command)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		for _, w := range want {
			if !regexp.MustCompile(w).MatchString(out) {
				return fmt.Errorf("it does not print %q but\n%s", w, out)
			}
		}
		return nil
	}
}

// readmeCommands says of each command how to run it and what to expect. The first pattern that matches counts.
var readmeCommands = []struct {
	pattern string
	check   func(*reader, string) error
}{
	{`^make [a-z]+$`, func(_ *reader, command string) error { return makeTarget(strings.TrimPrefix(command, "make ")) }},
	{`^\./bin/fairway up\b`, func(r *reader, command string) error {
		r.start(strings.Fields(command)[2:]...)
		return nil
	}},
	{`^\./bin/fairway down$`, func(r *reader, command string) error {
		if err := prints(`removed Pods, rules, links and data`)(r, command); err != nil {
			return err
		}
		<-r.up.done // down has waited for it
		r.nothingLeft()
		return nil
	}},
	{`^export KUBECONFIG=`, func(r *reader, command string) error {
		r.exports = append(r.exports, command)
		return prints(`(?m)^apiVersion: v1$`, `(?m)^kind: Config$`)(r, `cat "$KUBECONFIG"`)
	}},
	{`^\./bin/fairway backup fairway\.tgz$`, prints(`backup/fairway\.tgz written: [0-9]+ objects`)},
	{`^\./bin/fairway kubectl create (serviceaccount|rolebinding) reader`, prints(`/reader created`)},
	{`^\./bin/fairway kubectl create token reader `, func(r *reader, command string) error {
		token, err := r.run(command)
		if err != nil {
			return err
		}
		// Without the administrator's certificate, which would count more than a token.
		as := `./bin/fairway kubectl --kubeconfig /dev/null --server https://127.0.0.1:6443 --insecure-skip-tls-verify --token ` + strings.TrimSpace(token)
		if err := prints(`No resources found`)(r, as+` get pods`); err != nil {
			return err
		}
		if out, err := r.run(as + ` get secrets`); err == nil || !strings.Contains(out, "forbidden") {
			return fmt.Errorf("the reader reads Secrets: %v: %s", err, out)
		}
		return nil
	}},
	{`^\./bin/fairway kubectl get svc,deploy,pods -A$`, prints(`default +service/kubernetes`, `kube-system +service/kube-dns`)},
	{`^\./bin/fairway status$`, prints(`(?m)^Kernel `, `(?m)^DNS `, `(?m)^Ingress +127\.0\.0\.1:80 `)},
	{`^CGO_ENABLED=0 go build -o bin/`, prints()},
	{`^\./bin/fairway image build `, prints(`image/[a-z]+:v1 built sha256:`)},
	{`^\./bin/fairway kubectl apply -f examples/imaging/manifests$`, prints(`deployment.apps/imaging created`, `deployment.apps/gallery created`, `ingress.networking.k8s.io/photos created`)},
	{`^\./bin/fairway kubectl wait .*deploy`, prints(`deployment.apps/imaging condition met`, `deployment.apps/gallery condition met`)},
	{`^curl .* -o thumbnail\.jpg$`, func(r *reader, command string) error {
		if err := prints(`^$`)(r, command); err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(r.dir, "thumbnail.jpg"))
		if err != nil {
			return err
		}
		defer f.Close()
		picture, err := jpeg.Decode(f)
		if err != nil {
			return fmt.Errorf("thumbnail.jpg: %w", err)
		}
		if size := picture.Bounds().Size(); size.X != 64 || size.Y < 1 || size.Y > 64 {
			return fmt.Errorf("thumbnail.jpg is %v", size)
		}
		return nil
	}},
	{`^curl .*http://127\.0\.0\.1/ \| head$`, prints(`(?i)<!doctype html>`, `<title>`)},
}

// TestReadme follows README.md: every command of its shell blocks, in order, as it is written.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(t)
	used := map[string]bool{}
	for _, b := range shellBlocks(string(text)) {
		if strings.Contains(b.before, "with Fairway up") {
			r.start()
		}
		for _, command := range b.commands {
			var check func(*reader, string) error
			for _, c := range readmeCommands {
				if regexp.MustCompile(c.pattern).MatchString(command) {
					check, used[c.pattern] = c.check, true
					break
				}
			}
			if check == nil {
				t.Fatalf("README.md has a command that this test does not know: %s", command)
			}
			if err := check(r, command); err != nil {
				t.Fatalf("%s: %v", command, err)
			}
		}
	}
	for _, c := range readmeCommands {
		if !used[c.pattern] {
			t.Errorf("README.md has no command like %s any more", c.pattern)
		}
	}
	for _, m := range regexp.MustCompile("`make ([a-z-]+)`").FindAllStringSubmatch(string(text), -1) {
		if err := makeTarget(m[1]); err != nil {
			t.Error(err)
		}
	}
}

func makeTarget(name string) error {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		return err
	}
	if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `:`).Match(makefile) {
		return fmt.Errorf("the Makefile has no target %s", name)
	}
	return nil
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks holds every relative link of every Markdown file to a file that exists.
func TestLinks(t *testing.T) {
	t.Parallel()
	links := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && (name == ".git" || name == "bin" || name == "out") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), target)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if links < 5 {
		t.Errorf("only %d links found", links)
	}
}
