package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/plugin"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"

	"fairway.dev/fairway/internal/app"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // kubeconfigs may name these, and --kubeconfig takes any
)

func newKubectl(i *instance) *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl ...",
		Short: "The kubectl inside, pointed at this Fairway",
		Long: `The kubectl inside, pointed at this Fairway whatever $KUBECONFIG says; --kubeconfig points it
elsewhere. With --token, the token alone says who you are. Everything after the word kubectl is kubectl's own:

  fairway kubectl get svc,deploy,pods
  fairway --name ci kubectl apply -f app.yaml`,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			inst, err := i.app()
			if err != nil {
				return err
			}
			if !namesCluster(args) {
				if err := readable(inst); err != nil {
					return err
				}
				os.Setenv("KUBECONFIG", inst.Kubeconfig())
				kubectlutil.BehaviorOnFatal(func(message string, code int) { fatal(c.Context(), inst, message, code) })
			}
			streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
			// Signals are kubectl's own business: where it does not ask for them, they end it.
			signal.Reset(os.Interrupt, syscall.SIGTERM)
			// kubectl looks at os.Args itself, for its plugins.
			os.Args = append([]string{"kubectl"}, args...)
			k := kubectl.NewDefaultKubectlCommandWithArgs(kubectl.KubectlOptions{
				PluginHandler: kubectl.NewDefaultPluginHandler(plugin.ValidPluginFilenamePrefixes),
				Arguments:     os.Args,
				ConfigFlags:   kubectlFlags().WithWarningPrinter(streams),
				IOStreams:     streams,
			})
			k.SetArgs(args)
			if err := cli.RunNoErrOutput(k); err != nil {
				kubectlutil.CheckErr(err) // prints as kubectl does, and exits
			}
			return nil
		},
	}
}

// fatal ends kubectl as it does by itself, and says what to do where nobody listens because Fairway does not run.
func fatal(ctx context.Context, inst app.Instance, message string, code int) {
	if message = strings.TrimSuffix(message, "\n"); message != "" {
		fmt.Fprintln(os.Stderr, message)
	}
	if strings.Contains(message, "refused") {
		if _, err := app.ReadStatus(ctx, inst); err != nil {
			fmt.Fprintln(os.Stderr, "fairway kubectl:", err)
		}
	}
	os.Exit(code)
}

// kubectlFlags are kubectl's own defaults, but that a token on the command line says who asks: the kubeconfig's client certificate stays
// behind then. The API would believe the certificate, and whoever tries what a token may do would have the administrator's answer.
func kubectlFlags() *genericclioptions.ConfigFlags {
	flags := genericclioptions.NewConfigFlags(true).WithDeprecatedPasswordFlag().WithDiscoveryBurst(300).WithDiscoveryQPS(50)
	return flags.WithWrapConfigFn(func(c *rest.Config) *rest.Config {
		if *flags.BearerToken != "" && *flags.CertFile == "" {
			c.CertFile, c.KeyFile, c.CertData, c.KeyData = "", "", nil, nil
		}
		return c
	})
}

// namesCluster tells whether kubectl's arguments say themselves which cluster is meant, or need none.
func namesCluster(args []string) bool {
	for _, a := range args {
		if a == "--" {
			break
		}
		name, _, _ := strings.Cut(a, "=") // --server-side is another flag
		short := strings.HasPrefix(a, "-s") && !strings.HasPrefix(a, "--")
		if name == "--kubeconfig" || name == "--server" || short || a == "--help" || a == "-h" {
			return true
		}
	}
	return len(args) == 0 || args[0] == "help" || args[0] == "completion"
}

// readable tells why the kubeconfig of an instance cannot be read, if so.
func readable(inst app.Instance) error {
	path := inst.Kubeconfig()
	f, err := os.Open(path)
	switch {
	case os.IsNotExist(err):
		return fmt.Errorf("no Fairway has been started here: %s does not exist; start one with 'sudo %s'", path, inst.Command("up"))
	case os.IsPermission(err):
		return fmt.Errorf("%s belongs to another user; run as the user who started Fairway, or with sudo", path)
	case err != nil:
		return err
	}
	return f.Close()
}

func newKubeconfig(i *instance) *cobra.Command {
	var raw bool
	c := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print where the kubeconfig is",
		Long: `Print where the kubeconfig is, for any Kubernetes client:

  export KUBECONFIG=$(fairway kubeconfig)
  kubectl get svc`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			inst, err := i.app()
			if err != nil {
				return err
			}
			if err := readable(inst); err != nil {
				return err
			}
			if !raw {
				fmt.Fprintln(c.OutOrStdout(), inst.Kubeconfig())
				return nil
			}
			b, err := os.ReadFile(inst.Kubeconfig())
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(b)
			return err
		},
	}
	c.Flags().BoolVar(&raw, "raw", false, "print the file itself, with its credentials")
	return c
}
