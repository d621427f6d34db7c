package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newVersion() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of Fairway and of the Kubernetes API inside",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := map[string]string{"fairway": app.Version, "kubernetes": app.KubernetesVersion(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			switch output {
			case "":
				fmt.Fprintf(c.OutOrStdout(), "fairway %s\nkubernetes API %s\n%s %s\n", v["fairway"], v["kubernetes"], v["go"], v["platform"])
				return nil
			case "json":
				return json.NewEncoder(c.OutOrStdout()).Encode(v)
			}
			return usageError{fmt.Errorf("output %q is not known: use -o json, or leave it out", output)}
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}
