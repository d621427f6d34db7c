package cli

import "github.com/spf13/cobra"

func newDNS(i *instance) *cobra.Command {
	c := &cobra.Command{
		Use:   "dns",
		Short: "Tools for cluster DNS",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newDNSQuery(i), newDNSImport())
	return c
}
