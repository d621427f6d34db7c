package e2e

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// parallel is how many machines run at once unless -parallel says otherwise: tests wait much more than they compute.
const parallel = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", parallel); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if dir, err := webDir(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var webDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "fw-web-") })

// webPath, clientPath, loadPath and lookupPath build the tests' programs, once for all of them.
var webPath, clientPath, loadPath, lookupPath = program("web"), program("client"), program("load"), program("lookup")

func program(name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		dir, err := webDir()
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-o", path, "./"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build the tests' %s: %w\n%s", name, err, out)
		}
		return path, nil
	})
}

// TestScript plays every script of testdata, each on a machine of its own. doc.go lists the commands.
func TestScript(t *testing.T) {
	t.Parallel()
	cmds := map[string]func(*testscript.TestScript, bool, []string){}
	for name, c := range commands {
		cmds[name] = c.play
	}
	cmds["until"], cmds["let"], cmds["?"] = until, let, whatever
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Cmds:                cmds,
		Setup: func(env *testscript.Env) error {
			s := &scenario{machine: newMachine(env.T().(testing.TB))}
			env.Values[scenarioKey{}] = s
			env.Vars = append(env.Vars, s.env()...)
			env.Setenv("NAME", s.name)
			env.Setenv("FAIRWAY", binary(s.t))
			env.Setenv("DATA", filepath.Join(s.dir, "data"))
			return nil
		},
	})
}

type scenarioKey struct{}

// scenario is a machine with a script that is played on it.
type scenario struct {
	*machine
	cwd      string     // where the script is
	settings []string   // the script's variables that kubectl looks at
	beside   []*process // kubectls in the background
}

// output is what a command prints.
type output struct{ out, err bytes.Buffer }

// command is a command of the scripts.
type command func(s *scenario, args []string, o *output) error

// commands are those that may follow until, let and ?.
var commands = map[string]command{
	"up":        (*scenario).cmdUp,
	"end":       (*scenario).cmdEnd,
	"fairway":   func(s *scenario, args []string, o *output) error { return s.run(s.fairway(args...), o) },
	"kubectl":   (*scenario).cmdKubectl,
	"beside":    (*scenario).cmdBeside,
	"alone":     (*scenario).cmdAlone,
	"processes": (*scenario).cmdProcesses,
	"tools":     (*scenario).cmdTools,
	"nobody":    (*scenario).cmdNobody,
	"nft":       func(s *scenario, args []string, o *output) error { return s.run(s.ns.Command("nft", args...), o) },
	"ip":        func(s *scenario, args []string, o *output) error { return s.run(s.ns.Command("ip", args...), o) },
	"sysctl":    (*scenario).cmdSysctl,
	"dig":       (*scenario).cmdDig,
	"get":       (*scenario).cmdGet,
	"websocket": (*scenario).cmdWebSocket,
	"udp":       (*scenario).cmdUDP,
	"listen":    (*scenario).cmdListen,
	"kernel":    (*scenario).cmdKernel,
	"left":      (*scenario).cmdLeft,
	"cert":      (*scenario).cmdCert,
	"web":       (*scenario).cmdWeb,
	"client":    (*scenario).cmdClient,
	"oci":       (*scenario).cmdOCI,
	"tarball":   (*scenario).cmdTarball,
	"registry":  (*scenario).cmdRegistry,
}

// playing gives the scenario of a script, and the command that its words name.
func playing(ts *testscript.TestScript, words []string) (*scenario, command) {
	s := ts.Value(scenarioKey{}).(*scenario)
	s.cwd, s.settings = ts.MkAbs("."), nil
	for _, name := range []string{"KUBE_EDITOR", "KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"} {
		s.settings = append(s.settings, name+"="+ts.Getenv(name))
	}
	if len(words) == 0 {
		return s, nil
	}
	return s, commands[words[0]]
}

// play runs a command as a line of a script.
func (c command) play(ts *testscript.TestScript, neg bool, args []string) {
	s, _ := playing(ts, nil)
	var o output
	err := c(s, args, &o)
	o.show(ts)
	switch {
	case err != nil && !neg:
		ts.Fatalf("%v", err)
	case err != nil:
		ts.Logf("[%v]", err)
	case neg:
		ts.Fatalf("it succeeded, and should not")
	}
}

// show lets the lines stdout and stderr of a script see what was printed.
func (o *output) show(ts *testscript.TestScript) {
	_, _ = io.Copy(ts.Stdout(), &o.out)
	_, _ = io.Copy(ts.Stderr(), &o.err)
}

// pause is long enough that the asking does not keep two cores busy by itself: most commands are programs.
const pause = 100 * time.Millisecond

// until is `until [!] [-match REGEXP | -nomatch REGEXP | -same FILE] COMMAND ARGS...`: the command is run until it succeeds, or with ! until it fails, and what it
// prints matches, or does not (on stdout or stderr) or equals (on stdout).
func until(ts *testscript.TestScript, neg bool, args []string) {
	words, fails := args, false
	if len(words) > 0 && words[0] == "!" {
		words, fails = words[1:], true
	}
	good := func(*output) bool { return true }
	if len(words) > 2 && (words[0] == "-match" || words[0] == "-nomatch") {
		re, err := regexp.Compile("(?m)" + words[1])
		ts.Check(err)
		want := words[0] == "-match"
		words, good = words[2:], func(o *output) bool { return (re.Match(o.out.Bytes()) || re.Match(o.err.Bytes())) == want }
	} else if len(words) > 2 && words[0] == "-same" {
		want := ts.ReadFile(words[1])
		words, good = words[2:], func(o *output) bool { return o.out.String() == want }
	}
	s, c := playing(ts, words)
	if c == nil || neg {
		ts.Fatalf("usage: until [!] [-match REGEXP | -nomatch REGEXP | -same FILE] COMMAND ARGS...")
	}
	var o output
	err := retry(strings.Join(args, " "), pause, func() error {
		o = output{}
		err := c(s, words[1:], &o)
		switch {
		case fails && err == nil:
			return errors.New("it still succeeds")
		case !fails && err != nil:
			return err
		case !good(&o):
			return errors.New("it prints something else")
		}
		return nil
	})
	o.show(ts)
	ts.Check(err)
}

// let is `let NAME COMMAND ARGS...`: what the command prints becomes $NAME.
func let(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: let NAME COMMAND ARGS...")
	}
	s, c := playing(ts, args[1:])
	if c == nil {
		ts.Fatalf("let: no command %s", args[1])
	}
	var o output
	err := c(s, args[2:], &o)
	ts.Setenv(args[0], strings.TrimSpace(o.out.String()))
	o.show(ts)
	ts.Check(err)
}

// whatever is `? COMMAND ARGS...`: the command may fail.
func whatever(ts *testscript.TestScript, _ bool, args []string) {
	s, c := playing(ts, args)
	if c == nil {
		ts.Fatalf("usage: ? COMMAND ARGS...")
	}
	var o output
	err := c(s, args[1:], &o)
	o.show(ts)
	ts.Logf("[%v]", err)
}

// run runs a program to its end, and no longer than patience.
func (s *scenario) run(cmd *exec.Cmd, o *output) error {
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.cwd, &o.out, &o.err
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	tooLong := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer tooLong.Stop()
	return cmd.Wait()
}

// cmdUp is `up FLAGS...`: fairway up, in the background, until it is up.
func (s *scenario) cmdUp(args []string, o *output) error {
	err := s.tryStart(args...)
	if s.up != nil {
		o.out.WriteString(s.up.out.String())
	}
	return err
}

// cmdEnd is `end term|int|kill`: the signal for fairway up, and its end; or `end`, without a signal.
func (s *scenario) cmdEnd(args []string, o *output) error {
	signals := map[string]syscall.Signal{"term": syscall.SIGTERM, "int": syscall.SIGINT, "kill": syscall.SIGKILL}
	if len(args) != 1 || signals[args[0]] == 0 {
		return errors.New("usage: end term|int|kill")
	}
	err := s.tryEnd(signals[args[0]])
	if s.up != nil {
		o.out.WriteString(s.up.out.String())
	}
	return err
}

// cmdNobody is `nobody ARGS...`: fairway as a user without rights.
func (s *scenario) cmdNobody(args []string, o *output) error {
	bin := filepath.Join(s.dir, "fairway") // the directories above the real one may be closed
	if _, err := os.Stat(bin); err != nil {
		program, err := os.ReadFile(binary(s.t))
		if err != nil {
			return err
		}
		if err := os.WriteFile(bin, program, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(s.dir, 0o755); err != nil {
			return err
		}
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), s.env()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cwd := s.cwd
	s.cwd = s.dir // which nobody may enter
	defer func() { s.cwd = cwd }()
	return s.run(cmd, o)
}

// cmdLeft is `left`: what an instance has left on the machine, one thing on each line.
func (s *scenario) cmdLeft(_ []string, o *output) error {
	after := s.footprint()
	for what, lines := range after {
		for _, l := range missing(lines, s.before[what]) {
			fmt.Fprintf(&o.out, "%s: %s\n", what, l)
		}
	}
	return nil
}
