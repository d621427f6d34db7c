// Package cli is the command line: commands, flags and output. It decides nothing; each command fills in a structure of package app
// and calls it.
//
// Contract. Main returns the exit status: 0, or 1 after printing one line "fairway COMMAND: what, where, how to fix it" to
// stderr, or 2 for a wrong command line; a command that has more says so in its help. Only errors go to stderr. Flags beat environment variables (FAIRWAY_NAME,
// FAIRWAY_DATA_DIR, FAIRWAY_RUN_DIR), which beat defaults. To debug, add -v 4. To test, call Main with arguments of your own.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

// Main runs one command line and returns its exit status.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(args[1:])
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var usage usageError
	var code exitError
	switch {
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintf(errOut, "%s: %v\nSee '%s --help'.\n", cmd.CommandPath(), err, cmd.CommandPath())
		return 2
	case errors.Is(err, errSilent):
		return 1
	}
	fmt.Fprintf(errOut, "%s: %v\n", cmd.CommandPath(), err)
	return 1
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

// exitError is an exit status of its own, after everything was told.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// errSilent is a failure that was already told.
var errSilent = errors.New("failed")

// instance holds the flags that say which Fairway of this machine is meant.
type instance struct {
	name, dataDir, runDir string
	verbosity             int
}

func (i *instance) app() (app.Instance, error) {
	return app.NewInstance(i.name, i.dataDir, i.runDir)
}

func newRoot() *cobra.Command {
	i := &instance{}
	root := &cobra.Command{
		Use:   "fairway",
		Short: "The Kubernetes Service, whole, in one binary",
		Long: `Fairway is the Kubernetes Service, whole, in one binary: it keeps track of which Pods are behind
each Service, gives them one stable address and one name, balances connections in the
kernel, answers DNS, and lets HTTP in through one Ingress listener.

  sudo fairway up                    a Kubernetes of its own on this machine, in a second
  fairway kubectl get svc,pods       the kubectl inside
  sudo fairway down                  and nothing is left

  fairway agent --kubeconfig FILE    the same on each node of a cluster that you have
  fairway controller                 and what such a cluster needs once`,
		Version:      app.Version,
		SilenceUsage: true, SilenceErrors: true,
		TraverseChildren: true,
		// A word that is no command would print the help and succeed otherwise.
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&i.name, "name", env("FAIRWAY_NAME", app.DefaultName), "which Fairway of this machine ($FAIRWAY_NAME)")
	f.StringVar(&i.dataDir, "data-dir", os.Getenv("FAIRWAY_DATA_DIR"), "where its data is kept ($FAIRWAY_DATA_DIR; default "+filepath.Join(app.DataRoot, "NAME")+")")
	f.StringVar(&i.runDir, "run-dir", os.Getenv("FAIRWAY_RUN_DIR"), "where its running state is kept ($FAIRWAY_RUN_DIR; default "+filepath.Join(app.RunRoot, "NAME")+")")
	f.IntVarP(&i.verbosity, "v", "v", 0, "how much to log: 0 what matters, 4 every step")
	root.AddCommand(newUp(i), newDown(i), newAgent(i), newCleanup(i), newController(i), newStatus(i), newKubectl(i), newKubeconfig(i), newImage(i), newIngress(i), newBackup(i), newRestore(i), newVersion())
	root.AddCommand(newDNS(i))
	for _, c := range root.Commands() {
		checkArgs(c)
	}
	return root
}

// checkArgs makes a wrong number of arguments a usage error, everywhere.
func checkArgs(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, a []string) error {
			err := args(c, a)
			switch {
			case err == nil:
				return nil
			case c.HasSubCommands(): // a word that is none of them
			case len(a) == 0:
				err = fmt.Errorf("an argument is missing: type '%s'", c.UseLine())
			default:
				err = fmt.Errorf("wrong number of arguments, %q: type '%s'", a, c.UseLine())
			}
			return usageError{err}
		}
	}
	for _, sub := range c.Commands() {
		checkArgs(sub)
	}
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}
