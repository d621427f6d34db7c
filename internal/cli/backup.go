package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newBackup(i *instance) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write all objects and the keys of a stand-alone Fairway to a file",
		Long: `Write all objects and the keys of a stand-alone Fairway to a file: every object of the API as of one
moment, the certificate authority with its key, and the ranges and names that 'fairway up' was given.
Fairway may run meanwhile, and need not. Images and what Pods wrote are not in it.

FILE is a gzipped tar with a checksum, has mode 0600, and appears when it is complete; - is standard
output. Who has it can do everything in the cluster: keep it as you keep a key.`,
		Example: `  sudo fairway backup /var/backups/fairway.tgz
  sudo fairway backup - | ssh elsewhere 'cat > fairway.tgz'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := backupOutput(output); err != nil {
				return err
			}
			inst, err := i.app()
			if err != nil {
				return err
			}
			if args[0] == "-" {
				if output != "" {
					return usageError{fmt.Errorf("-o %s: standard output has the backup already; name a file", output)}
				}
				_, err := app.BackupTo(c.Context(), inst, os.TempDir(), c.OutOrStdout())
				return err
			}
			b, err := app.Backup(c.Context(), inst, args[0])
			if err != nil {
				return err
			}
			return writeBackup(c.OutOrStdout(), output, b, fmt.Sprintf("backup/%s written: %d objects of %q at revision %d, %.1f MB", b.File, b.Objects, b.Instance, b.Revision, float64(b.Size)/1e6))
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

func newRestore(i *instance) *cobra.Command {
	var output string
	var force bool
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Bring back what 'fairway backup' wrote",
		Long: `Bring back what 'fairway backup' wrote: objects, keys, and the ranges and names that the next
'fairway up' uses unless it is told otherwise. Fairway must not run; it may be another machine, or another
--name. FILE is read to its end and verified before anything changes, and then takes the place of the
old data in one step, so that a crash leaves the one or the other. - is standard input.

Clients that watched before list everything again. Pods that run and are not in the backup are ended by the
next 'fairway up'; those in it are started, from images that 'fairway image' or a registry must have.`,
		Example: `  sudo fairway down
  sudo fairway restore /var/backups/fairway.tgz
  sudo fairway up`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := backupOutput(output); err != nil {
				return err
			}
			inst, err := i.app()
			if err != nil {
				return err
			}
			b, err := app.Restore(inst, args[0], c.InOrStdin(), force)
			if err != nil {
				return err
			}
			return writeBackup(c.OutOrStdout(), output, b, fmt.Sprintf("backup/%s restored: %d objects of %q as of %s", b.File, b.Objects, b.Instance, b.Created.Format(time.RFC3339)))
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	c.Flags().BoolVar(&force, "force", false, "replace the data that is there")
	return c
}

func backupOutput(output string) error {
	if output != "" && output != "json" {
		return usageError{fmt.Errorf("output %q is not known: use -o json, or leave it out", output)}
	}
	return nil
}

func writeBackup(out io.Writer, output string, b app.BackupInfo, line string) error {
	if output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(b)
	}
	_, err := fmt.Fprintln(out, line)
	return err
}
