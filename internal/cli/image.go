package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newImage(i *instance) *cobra.Command {
	c := &cobra.Command{
		Use:   "image",
		Short: "Build, import, pull, list and remove the images that Pods run",
		Long: `Build, import, pull, list and remove the images that Pods run. They are kept in the data directory;
Fairway need not be running, and a running one sees a new image at once.`,
		RunE: func(c *cobra.Command, args []string) error { return c.Help() },
		Args: cobra.NoArgs,
	}
	c.AddCommand(imageBuild(i), imageImport(i), imagePull(i), imageList(i), imageRemove(i))
	return c
}

func imageBuild(i *instance) *cobra.Command {
	var b app.ImageBuild
	c := &cobra.Command{
		Use:   "build --binary FILE NAME",
		Short: "Make an image of one static program",
		Long: `Make an image of one static program. It holds the program, the host's CA certificates if there are any, and nothing else;
the program is the entry point.`,
		Example: `  CGO_ENABLED=0 go build -o web ./cmd/web
  sudo fairway image build --binary web web:v1`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if b.Binary == "" {
				return usageError{fmt.Errorf("--binary is missing: name the program")}
			}
			inst, err := i.app()
			if err != nil {
				return err
			}
			digest, err := app.BuildImage(inst, args[0], b)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "image/%s built %s\n", args[0], digest)
			return nil
		},
	}
	c.Flags().StringVar(&b.Binary, "binary", "", "the program, linked statically")
	c.Flags().StringArrayVar(&b.Env, "env", nil, "an environment variable, NAME=VALUE; may be given again")
	c.Flags().StringArrayVar(&b.Args, "arg", nil, "an argument that the program gets unless the Pod gives some; may be given again")
	return c
}

func imageImport(i *instance) *cobra.Command {
	return forEach(i, "imported", &cobra.Command{
		Use:   "import PATH...",
		Short: "Import an OCI layout (directory or tarball) or the tarball of 'docker save'",
	}, func(_ context.Context, inst app.Instance, path string) ([]string, error) {
		return app.ImportImages(inst, path)
	})
}

func imagePull(i *instance) *cobra.Command {
	return forEach(i, "pulled", &cobra.Command{
		Use:   "pull NAME...",
		Short: "Pull images from their registries",
	}, func(ctx context.Context, inst app.Instance, name string) ([]string, error) {
		return []string{name}, app.PullImage(ctx, inst, name)
	})
}

func imageRemove(i *instance) *cobra.Command {
	return forEach(i, "removed", &cobra.Command{
		Use:     "remove NAME...",
		Aliases: []string{"rm"},
		Short:   "Remove images",
	}, func(_ context.Context, inst app.Instance, name string) ([]string, error) {
		return []string{name}, app.RemoveImage(inst, name)
	})
}

// forEach makes a command that does the same with each of its arguments, tells what became of each image, and stops at the first failure.
func forEach(i *instance, done string, c *cobra.Command, do func(context.Context, app.Instance, string) ([]string, error)) *cobra.Command {
	c.Args = cobra.MinimumNArgs(1)
	c.RunE = func(c *cobra.Command, args []string) error {
		inst, err := i.app()
		if err != nil {
			return err
		}
		for _, arg := range args {
			names, err := do(c.Context(), inst, arg)
			if err != nil {
				return err
			}
			for _, n := range names {
				fmt.Fprintf(c.OutOrStdout(), "image/%s %s\n", n, done)
			}
		}
		return nil
	}
	return c
}

func imageList(i *instance) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the images",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			inst, err := i.app()
			if err != nil {
				return err
			}
			images, err := app.ListImages(inst)
			if err != nil {
				return err
			}
			switch output {
			case "json":
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(images)
			case "":
			default:
				return usageError{fmt.Errorf("output %q is not known: use -o json, or leave it out", output)}
			}
			if len(images) == 0 {
				fmt.Fprintln(c.ErrOrStderr(), "No images found.")
				return nil
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "NAME\tDIGEST\tSIZE")
			for _, m := range images {
				fmt.Fprintf(w, "%s\t%.19s\t%.1fMB\n", m.Name, m.Digest, float64(m.Size)/1e6)
			}
			return w.Flush()
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}
