package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newDNSQuery(i *instance) *cobra.Command {
	var output, agent, server string
	var q app.DNSQuestion
	c := &cobra.Command{
		Use:   "query NAME [TYPE...]",
		Short: "Ask cluster DNS for a name, and say why the answer is as it is; exit 1 if there are no records",
		Long: `Ask cluster DNS for a name, and say why the answer is as it is: which Service answers, with which of
its endpoints, or why nothing does, and which name may have been meant. Without a type, A and AAAA
are asked for, as programs do.

With --namespace or --pod the name is made to what a program there asks for: the search path is
walked, name by name, until one has records. Without, the name is asked as it is.

The exit status is 0 if there are records, and 1 if there are none.`,
		Example: `  fairway dns query imaging.default.svc.cluster.local
  fairway dns query imaging --namespace default
  fairway dns query imaging.shop --pod default/gallery-7d4b9c-x2x5q
  fairway dns query _http._tcp.imaging.default.svc.cluster.local SRV --server 10.96.0.10`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p := &parser{}
			q.Name, q.Types = args[0], args[1:]
			if server != "" {
				q.Server = p.upstreams([]string{server})[0]
			}
			if q.Pod != "" && !strings.Contains(q.Pod, "/") {
				if q.Namespace == "" {
					q.Namespace = "default"
				}
				q.Pod = q.Namespace + "/" + q.Pod
			}
			if output != "" && output != "json" {
				p.fail("output %q is not known: use -o json, or leave it out", output)
			}
			if strings.Trim(q.Name, ".") == "" && q.Name != "." {
				p.fail("%q is no name", q.Name)
			}
			ask := func() (*app.DNSReport, error) {
				inst, err := i.app()
				if err != nil {
					return nil, err
				}
				return app.QueryDNS(c.Context(), inst, q)
			}
			if agent != "" {
				at := p.addr("--agent", agent)
				ask = func() (*app.DNSReport, error) { return app.QueryAgentDNS(c.Context(), at, q) }
			}
			if p.err != nil {
				return usageError{p.err}
			}
			r, err := ask()
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(c.OutOrStdout())
				enc.SetIndent("", "  ")
				err = enc.Encode(r)
			} else {
				err = writeDNSReport(c.OutOrStdout(), r)
			}
			if err == nil && !r.Found() {
				return errSilent
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVarP(&q.Namespace, "namespace", "n", "", "walk the search path of Pods in this namespace")
	f.StringVar(&q.Pod, "pod", "", "walk the search path of this Pod, NAMESPACE/NAME")
	f.StringVar(&server, "server", "", "ask this server, ADDRESS[:PORT], such as the cluster's DNS address (default: this node's server)")
	f.StringVar(&agent, "agent", "", "ask the agent of this node, at its --healthz-bind-address (127.0.0.1:10256 if none is given: --agent=ADDRESS:PORT)")
	f.Lookup("agent").NoOptDefVal = "127.0.0.1:10256"
	f.StringVarP(&output, "output", "o", "", "json")
	return c
}

// maxEndpointLines is how many endpoints are listed; -o json has them all.
const maxEndpointLines = 10

// errWriter keeps the first error, so that it need not be looked for after each line.
type errWriter struct {
	out io.Writer
	err error
}

func (w *errWriter) line(format string, args ...any) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.out, format+"\n", args...)
	}
}

// writeDNSReport prints records as dig does, and everything else as comments of a zone file.
func writeDNSReport(out io.Writer, r *app.DNSReport) error {
	w := &errWriter{out: out}
	w.line(";; server %s", r.Server)
	if r.Of > 1 {
		w.line(";; search path %s, ndots:%d", strings.Join(r.Search, " "), r.NDots)
	}
	if r.Note != "" {
		w.line(";; %s", r.Note)
	}
	for i := range r.Steps {
		step := &r.Steps[i]
		w.line("\n;; %s (%d of %d)", step.Name, i+1, r.Of)
		writeDNSStep(w, step)
		if !step.Found() && i+1 < len(r.Steps) && step.Answers[0].Rcode != "NXDOMAIN" {
			w.line(";; glibc goes on with its search path here; musl stops.")
		}
	}
	if w.err != nil {
		return errors.New("write: " + w.err.Error())
	}
	return nil
}

func writeDNSStep(w *errWriter, step *app.DNSReportStep) {
	said := map[string]bool{}
	for _, a := range step.Answers {
		if a.Error != "" {
			w.line(";; %s: %s", a.Type, a.Error)
			continue
		}
		w.line(";; %s: %s, %d records, flags %s, %s, %.2f ms", a.Type, a.Rcode, len(a.Answer), a.Flags, a.Protocol, a.Millis)
		for _, rr := range a.Answer {
			w.line("%s", rr)
		}
		if len(a.Answer) == 0 {
			for _, rr := range a.Authority {
				w.line("%s", rr)
			}
		}
	}
	for _, a := range step.Answers {
		if said[a.Why.Message] {
			continue
		}
		said[a.Why.Message] = true
		w.line(";; %s: %s", a.Why.Reason, a.Why.Message)
		for n, e := range a.Why.Endpoints {
			if n == maxEndpointLines {
				w.line(";;   and %d more", len(a.Why.Endpoints)-n)
				break
			}
			w.line(";;   %s %s, %s, EndpointSlice %s", e.Address, e.State, e.Target, e.Slice)
		}
		if len(a.Why.Suggestions) > 0 {
			w.line(";;   Did you mean %s?", strings.Join(a.Why.Suggestions, ", or "))
		}
	}
}
