package e2e

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// tools are the programs of an image that has more than one. The first is what its containers run.
var tools = []string{"sh", "tar", "cat", "ls", "sleep", "head", "mkdir", "rm", "seq"}

// cmdTools is `tools IMAGE`: an image with a shell and what `kubectl cp` and people need, made of this machine's own programs.
func (s *scenario) cmdTools(args []string, o *output) error {
	if len(args) != 1 {
		return errors.New("usage: tools IMAGE")
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	packed := map[string]bool{}
	pack := func(path, as string) error {
		if packed[as] {
			return nil
		}
		packed[as] = true
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: as, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}
	library := regexp.MustCompile(`(/\S+) \(0x`)
	for _, tool := range tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			return err
		}
		if err := pack(path, "bin/"+tool); err != nil {
			return err
		}
		needs, err := exec.Command("ldd", path).Output()
		if err != nil {
			return fmt.Errorf("ldd %s: %w", path, err)
		}
		for _, found := range library.FindAllSubmatch(needs, -1) {
			if err := pack(string(found[1]), strings.TrimPrefix(string(found[1]), "/")); err != nil {
				return err
			}
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "tmp/", Mode: 0o777, Typeflag: tar.TypeDir}); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	content, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Cmd: []string{"/bin/sh"}, Env: []string{"PATH=/bin"}}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	tag, err := name.NewTag(args[0])
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, "tools.tar")
	if err := tarball.WriteToFile(path, tag, img); err != nil {
		return err
	}
	return s.run(s.fairway("image", "import", path), o)
}

// cmdKubectl is `kubectl ARGS... [< FILE]`: the kubectl inside, with the file as its standard input.
func (s *scenario) cmdKubectl(args []string, o *output) error {
	cmd, err := s.kubectl(args)
	if err != nil {
		return err
	}
	return s.run(cmd, o)
}

func (s *scenario) kubectl(args []string) (*exec.Cmd, error) {
	var input []byte
	if n := len(args); n > 2 && args[n-2] == "<" {
		var err error
		if input, err = os.ReadFile(filepath.Join(s.cwd, args[n-1])); err != nil {
			return nil, err
		}
		args = args[:n-2]
	}
	cmd := s.fairway(append([]string{"kubectl"}, args...)...)
	cmd.Env = append(cmd.Env, s.settings...)
	if input != nil {
		cmd.Stdin = bytes.NewReader(input)
	}
	return cmd, nil
}

// cmdBeside is `beside [-match REGEXP] ARGS...`: kubectl in the background, from when it has printed something, or that, to `alone` or the end of the script.
func (s *scenario) cmdBeside(args []string, o *output) error {
	expected := regexp.MustCompile(`.`)
	if len(args) > 2 && args[0] == "-match" {
		var err error
		if expected, err = regexp.Compile("(?m)" + args[1]); err != nil {
			return err
		}
		args = args[2:]
	}
	cmd, err := s.kubectl(args)
	if err != nil {
		return err
	}
	p := &process{cmd: cmd, out: &buffer{}, done: make(chan struct{})}
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.cwd, p.out, p.out
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait(); close(p.done) }()
	s.beside = append(s.beside, p)
	s.t.Cleanup(func() { _ = cmd.Process.Kill(); <-p.done })
	err = retry("kubectl "+strings.Join(args, " ")+" prints something", pause, func() error {
		if expected.MatchString(p.out.String()) {
			return nil
		}
		select {
		case <-p.done:
			return final{fmt.Errorf("it ended: %v\n%s", cmd.ProcessState, p.out)}
		default:
			return fmt.Errorf("it has printed %q", p.out.String())
		}
	})
	o.out.WriteString(p.out.String())
	return err
}

// cmdAlone is `alone [kill]`: what runs beside is ended, or killed; what it has printed is on stdout. `alone wait` waits for its end instead.
func (s *scenario) cmdAlone(args []string, o *output) error {
	for _, p := range s.beside {
		switch {
		case len(args) == 0:
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		case args[0] == "kill":
			_ = p.cmd.Process.Kill()
		}
		err := retry("what runs beside has ended", pause, func() error {
			select {
			case <-p.done:
				return nil
			default:
				return errors.New("it goes on")
			}
		})
		o.out.WriteString(p.out.String())
		if err != nil {
			return err
		}
	}
	s.beside = nil
	return nil
}

// cmdProcesses is `processes TEXT`: the command lines on the whole machine that hold the text; none is a failure.
func (s *scenario) cmdProcesses(args []string, o *output) error {
	if len(args) != 1 {
		return errors.New("usage: processes TEXT")
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range commands {
		data, err := os.ReadFile(path)
		line := strings.ReplaceAll(string(data), "\x00", " ")
		if err == nil && strings.Contains(line, args[0]) && !strings.Contains(line, "kubectl") {
			fmt.Fprintln(&o.out, line)
		}
	}
	if o.out.Len() == 0 {
		return errors.New("no such process")
	}
	return nil
}
