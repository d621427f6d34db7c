package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"fairway.dev/fairway/internal/app/ingress"
)

func newIngress(i *instance) *cobra.Command {
	c := &cobra.Command{
		Use:   "ingress",
		Short: "Look at Ingresses: what becomes of each, and which rule takes a request",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newIngressCheck(i), newIngressExplain(i))
	return c
}

// ingressInput are the flags that say where the objects are.
type ingressInput struct {
	files      []string
	kubeconfig string
	parameters []string
}

func (in *ingressInput) flags(c *cobra.Command) {
	c.Flags().StringArrayVarP(&in.files, "filename", "f", nil, "manifests: a file, a directory, or - for standard input; may be repeated (default: a cluster)")
	c.Flags().StringArrayVarP(&in.parameters, "parameter", "p", nil, "KEY=VALUE of the class's parameters, for Ingresses of other products; may be repeated (docs/ingress.md lists them)")
	c.Flags().StringVar(&in.kubeconfig, "kubeconfig", os.Getenv("KUBECONFIG"), "the cluster's credentials (default: $KUBECONFIG, else this machine's Fairway)")
}

// class gives the parameters.
func (in *ingressInput) class() (map[string]string, error) {
	out := map[string]string{}
	for _, p := range in.parameters {
		k, v, ok := strings.Cut(p, "=")
		if !ok {
			return nil, usageError{fmt.Errorf("--parameter %q: give KEY=VALUE, such as path-matching=ingress-nginx", p)}
		}
		out[k] = v
	}
	return out, nil
}

// read gives the objects; alone is true for a stand-alone Fairway, where every Ingress without a class is its own.
func (in *ingressInput) read(c *cobra.Command, i *instance) (w *ingress.World, alone bool, err error) {
	if len(in.files) > 0 {
		w, err = ingress.ReadFiles(in.files, c.InOrStdin())
		return w, true, err
	}
	file := in.kubeconfig
	if file == "" {
		inst, err := i.app()
		if err != nil {
			return nil, false, err
		}
		file, alone = inst.Kubeconfig(), true
		if _, err := os.Stat(file); err != nil {
			return nil, false, fmt.Errorf("no Fairway of this machine has data (%w): give manifests with -f, or a cluster with --kubeconfig", err)
		}
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		return nil, false, fmt.Errorf("--kubeconfig %s: %w", file, err)
	}
	w, err = ingress.ReadCluster(c.Context(), cfg)
	return w, alone, err
}

// The exit codes of `fairway ingress check`, beside 1 for what cannot be read and 2 for a wrong command line.
const (
	exitChanged = 3
	exitClosed  = 4
)

func newIngressCheck(i *instance) *cobra.Command {
	in := ingressInput{}
	var output string
	c := &cobra.Command{
		Use:   "check [-f FILE|DIR|-]",
		Short: "Say what becomes of each Ingress, annotation by annotation, before anything is moved",
		Long: `Say what Fairway makes of each Ingress, annotation by annotation: in manifests, or in a cluster with
another controller. Ingresses of other products are looked at as if they were of a class of ours,
with the parameters given. Nothing is changed.

The exit code is 0 if everything is served as it is written, 3 if something is ignored that
an Ingress can be served without, 4 if some path is not served or answers 503, 1 if something could not
be read, and 2 for a wrong command line.

  helm template CHART | fairway ingress check -f -
  fairway ingress check -f manifests/ -p path-matching=ingress-nginx
  fairway ingress check --kubeconfig cluster.conf -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("output %q is not known: use -o json, or leave it out", output)}
			}
			class, err := in.class()
			if err != nil {
				return err
			}
			w, _, err := in.read(c, i)
			if err != nil {
				return err
			}
			r, err := w.Check(class)
			if err != nil {
				return usageError{err}
			}
			if output == "json" {
				err = encode(c.OutOrStdout(), r)
			} else {
				err = writeReport(c.OutOrStdout(), r)
			}
			if err != nil {
				return err
			}
			switch r.Worst() {
			case ingress.Changed:
				return exitError(exitChanged)
			case ingress.Partly, ingress.Closed:
				return exitError(exitClosed)
			}
			return nil
		},
	}
	in.flags(c)
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

func encode(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// writeReport prints one block for each Ingress, and the sums last.
func writeReport(out io.Writer, r *ingress.Report) error {
	for _, x := range r.Ingresses {
		where := ""
		if x.File != "" {
			where = " (" + x.File + ")"
		}
		fmt.Fprintf(out, "%s/%s%s: %s\n", x.Namespace, x.Name, where, words[x.Result])
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, a := range x.Annotations {
			effect := string(a.Level)
			switch a.Effect {
			case "closes":
				effect = "CLOSES"
			case "ignored":
				effect = "ignored"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\n", effect, a.Name, a.Note)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for _, f := range x.Findings {
			fmt.Fprintf(out, "  %s: %s\n", f.Severity, f.Message)
		}
		for _, n := range x.Notes {
			fmt.Fprintf(out, "  note: %s\n", n)
		}
		fmt.Fprintln(out)
	}
	t := r.Totals
	_, err := fmt.Fprintf(out, "%d Ingresses: %d served as written, %d with something ignored, %d in part, %d closed\n", len(r.Ingresses),
		t[ingress.Served], t[ingress.Changed], t[ingress.Partly], t[ingress.Closed])
	return err
}

var words = map[ingress.Result]string{
	ingress.Served: "served as it is written", ingress.Changed: "served, but something is ignored", ingress.Partly: "served in part",
	ingress.Closed: "CLOSED: every path answers 503",
}

func newIngressExplain(i *instance) *cobra.Command {
	in := ingressInput{}
	var output string
	c := &cobra.Command{
		Use:   "explain URL",
		Short: "Say which rule takes a request, what each other one lacks, and where it goes",
		Long: `Say which rule takes a request for a URL, what happens to it on the way and which endpoints it may go
to; and of every other rule for the host the first thing that did not fit. In manifests, Ingresses of other
products are looked at as if they were of a class of ours.

  fairway ingress explain https://photos.example.test/api/?op=thumbnail
  fairway ingress explain http://example.test/x -f manifests/ -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if output != "" && output != "json" {
				return usageError{fmt.Errorf("output %q is not known: use -o json, or leave it out", output)}
			}
			class, err := in.class()
			if err != nil {
				return err
			}
			w, alone, err := in.read(c, i)
			if err != nil {
				return err
			}
			if len(in.files) > 0 {
				if err := w.Adopt(class); err != nil {
					return usageError{err}
				}
			}
			e, err := w.Explain(args[0], alone)
			if err != nil {
				return usageError{err}
			}
			if output == "json" {
				return encode(c.OutOrStdout(), e)
			}
			return writeExplained(c.OutOrStdout(), e)
		},
	}
	in.flags(c)
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

func writeExplained(out io.Writer, e *ingress.Explained) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) { fmt.Fprintf(w, key+"\t"+format+"\n", args...) }
	if e.Host != "" || e.Path != "" {
		line("Request", "host %q, path %q", e.Host, e.Path)
	}
	if e.Certificate != "" {
		line("Certificate", "%s", e.Certificate)
	}
	if e.Ingress != "" {
		line("Rule", "%s %s of ingress %s", e.Rule, e.PathType, e.Ingress)
	}
	for _, s := range e.Steps {
		line("Step", "%s", s)
	}
	if e.Service != "" {
		line("Service", "%s port %s", e.Service, e.Port)
	}
	if len(e.Endpoints) > 0 {
		line("Endpoints", "%s", strings.Join(e.Endpoints, ", "))
	}
	if e.Code != 0 {
		line("Answer", "%d: %s", e.Code, e.Why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(e.Candidates) > 0 {
		fmt.Fprintln(out, "\nRules for the host:")
	}
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range e.Candidates {
		host := c.Host
		if host == "" {
			host = "*"
		}
		why := "taken"
		if c.Failed != "" {
			why = c.Failed + ": " + c.Why
		}
		fmt.Fprintf(w, "  %s%s\t%s\t%s\t%s\n", host, c.Path, c.PathType, c.Ingress, why)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if e.Others > 0 {
		fmt.Fprintf(out, "\n%d rules are for other hosts.\n", e.Others)
	}
	return nil
}
