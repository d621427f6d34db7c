package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newStatus(i *instance) *cobra.Command {
	var output, agent string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show on one screen what runs and how far each part is; exit 1 if Fairway is not well",
		Long: `Show on one screen what runs and how far each part is.

The exit status tells how Fairway is: 0 if it runs and every part is well, 1 if it does not run, still
waits for the API, or a part has failed. Objects that cannot be put in force as they are, an Ingress that names
a Secret that is not there, two Services that want one address, are listed with their reasons and leave
it at 0: they are for whoever wrote them to mend, and hold up nothing else. For programs,
-o json has both lists, "problems" and "objects".`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("output %q is not known: use -o json, or leave it out", output)}
			}
			read := func() (*app.Status, error) {
				inst, err := i.app()
				if err != nil {
					return nil, err
				}
				return app.ReadStatus(c.Context(), inst)
			}
			if agent != "" {
				p := &parser{}
				addr := p.addr("--agent", agent)
				if p.err != nil {
					return usageError{p.err}
				}
				read = func() (*app.Status, error) { return app.ReadAgentStatus(c.Context(), addr) }
			}
			s, err := read()
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(s)
			} else {
				err = writeStatus(c.OutOrStdout(), s, time.Now())
			}
			if err == nil && !s.Healthy() {
				return errSilent
			}
			return err
		},
	}
	c.Flags().StringVar(&agent, "agent", "", "ask the agent of this node, at its --healthz-bind-address (127.0.0.1:10256 if none is given: --agent=ADDRESS:PORT)")
	c.Flags().Lookup("agent").NoOptDefVal = "127.0.0.1:10256"
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

// writeStatus prints one line for each part, problems last so that they stand above the prompt.
func writeStatus(out io.Writer, s *app.Status, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "Fairway\t%s\t%s, %s, pid %d, up %s, %d MiB\n", s.Name, s.Role, s.Version, s.PID, now.Sub(s.Started).Round(time.Second), s.MemoryRSS>>20)
	state := "synced"
	if len(s.Waiting) > 0 {
		state = "waiting for " + strings.Join(s.Waiting, ", ")
	}
	fmt.Fprintf(w, "API\t%s\t%s at revision %d\n", s.API, state, s.Revision)
	fmt.Fprintf(w, "Services\t%d\t%d endpoints ready, %d not ready, %d terminating\n", s.Services, s.Endpoints.Ready, s.Endpoints.NotReady, s.Endpoints.Terminating)
	for _, c := range s.Consumers {
		where := ""
		for _, l := range s.Listeners {
			if l.What == c.Name || c.Name == "ingress" && (l.What == "http" || l.What == "https") {
				where += " " + l.Addr
			}
		}
		news := fmt.Sprintf("revision %d", c.Revision)
		if behind := s.Revision - c.Revision; c.Revision < s.Revision {
			news += fmt.Sprintf(", %d behind", behind)
		}
		if c.Error != "" {
			news = "FAILED, last in force: " + news
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", title(c.Name), strings.TrimSpace(where), news)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, list := range []struct {
		title string
		lines []string
	}{{"Objects not in force as they are:", s.Objects}, {"Problems:", s.Problems}} {
		if len(list.lines) > 0 {
			fmt.Fprintln(out, "\n"+list.title)
			for _, line := range slices.Sorted(slices.Values(list.lines)) {
				fmt.Fprintln(out, "  "+line)
			}
		}
	}
	return nil
}

func title(consumer string) string {
	switch consumer {
	case "nft":
		return "Kernel"
	case "dns":
		return "DNS"
	case "ingress":
		return "Ingress"
	case "health-ports":
		return "Health"
	}
	return consumer
}
