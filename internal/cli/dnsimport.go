package cli

import (
	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newDNSImport() *cobra.Command {
	var partial bool
	c := &cobra.Command{
		Use:   "import COREFILE",
		Short: "Turn a Corefile of CoreDNS into Fairway's DNS configuration",
		Long: `Turn a Corefile of CoreDNS into Fairway's DNS configuration, for --dns-config, on standard output. Give - to
read standard input.

What Fairway does not do is named on standard error, line by line, and then nothing is written and the
exit status is 1, unless --partial is given.`,
		Example: `  fairway dns import Corefile > dns.yaml
  kubectl -n kube-system get cm coredns -o jsonpath='{.data.Corefile}' | fairway dns import -`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return app.ImportCorefile(args[0], partial, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().BoolVar(&partial, "partial", false, "write what can be done, and leave out the rest")
	return c
}
