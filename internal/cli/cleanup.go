package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newCleanup(i *instance) *cobra.Command {
	var table, output string
	var kubeProxy, dryRun bool
	c := &cobra.Command{
		Use:   "cleanup",
		Short: "Take away what a Fairway that does not run any more left on this machine",
		Long: `Take away what a Fairway that does not run any more left on this machine: the rules of an agent, and of a
stand-alone one also Pods, devices, routes and the run directory. Data stays. It refuses while that Fairway
runs, and doing it twice is fine. Connections through the rules end, unless another proxy has its rules there.

With --kube-proxy it takes away what kube-proxy left, its nftables tables and its iptables chains, and nothing
of Fairway: the last step of a change to Fairway on a running node.`,
		Example: `  sudo fairway cleanup --dry-run
  sudo fairway cleanup -o json
  sudo fairway cleanup --kube-proxy`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("output %q is not known: use -o json, or leave it out", output)}
			}
			if kubeProxy && table != "" {
				return usageError{fmt.Errorf("--kube-proxy and --table: give one of them; kube-proxy's tables have a fixed name")}
			}
			inst, err := i.app()
			if err != nil {
				return err
			}
			done, err := app.Cleanup(c.Context(), app.CleanupConfig{
				Instance: inst, Table: table, KubeProxy: kubeProxy, DryRun: dryRun, Logger: i.logger(c),
			})
			if done == nil {
				return err
			}
			return writeCleaned(c, done, output, err)
		},
	}
	f := c.Flags()
	f.StringVar(&table, "table", "", "the nftables table of an agent (default: that of the instance)")
	f.BoolVar(&kubeProxy, "kube-proxy", false, "what kube-proxy left, instead of Fairway")
	f.BoolVar(&dryRun, "dry-run", false, "only tell what would be removed")
	f.StringVarP(&output, "output", "o", "", "json")
	return c
}

// writeCleaned prints what was done, also where not all could be, and gives that error on.
func writeCleaned(c *cobra.Command, done *app.Cleaned, output string, failed error) error {
	out := c.OutOrStdout()
	if output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(done); err != nil {
			return err
		}
		return failed
	}
	word := "removed"
	if done.DryRun {
		word = "would remove"
	}
	for _, r := range done.Removed {
		fmt.Fprintf(out, "%s %s\n", word, r)
	}
	for _, k := range done.Kept {
		fmt.Fprintf(out, "kept %s\n", k)
	}
	if len(done.Removed) == 0 && failed == nil {
		fmt.Fprintln(out, "nothing to remove")
	}
	return failed
}
