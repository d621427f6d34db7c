package story

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Options says which Fairway to run the story against, and how hard. Only Fairway is required.
type Options struct {
	Fairway    string        // path of the fairway binary
	Source     string        // directory of this module, from which the programs are built; default: the current one
	Binaries   string        // directory that holds imaging-v1, imaging-v2 and gallery already; default: build them
	Name       string        // of the instance; default "demo"
	Rate       float64       // requests per second of each client outside; default 20
	Phase      time.Duration // shortest length of each phase; default 4 s
	Screenshot string        // file for a picture of the gallery's page; default: none. Needs Chromium
	Out        io.Writer     // where the story is told; default: nowhere
}

func (o Options) withDefaults() (Options, error) {
	if o.Fairway == "" {
		return o, errors.New("story: no fairway binary given")
	}
	path, err := filepath.Abs(o.Fairway)
	if err != nil {
		return o, fmt.Errorf("story: %s: %w", o.Fairway, err)
	}
	if _, err := os.Stat(path); err != nil {
		return o, fmt.Errorf("story: fairway binary: %w", err)
	}
	o.Fairway = path
	if o.Source == "" {
		o.Source = "."
	}
	if o.Name == "" {
		o.Name = "demo"
	}
	if o.Rate <= 0 {
		o.Rate = 20
	}
	if o.Phase <= 0 {
		o.Phase = 4 * time.Second
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	return o, nil
}

// cleanupTime bounds taking everything down after ctx has ended.
const cleanupTime = 60 * time.Second

// Run tells the story. The report is worth reading also if there is an error: it has what was seen until then. The error says
// what kept the story from reaching its end; whether what it saw was good is Report.Err.
func Run(ctx context.Context, o Options) (Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Report{}, err
	}
	if os.Geteuid() != 0 {
		return Report{}, errors.New("story: this needs root, to make network namespaces and run Pods")
	}
	t := &teller{out: o.Out, begin: time.Now()}
	dir, err := os.MkdirTemp("", "fairway-story-")
	if err != nil {
		return Report{}, fmt.Errorf("story: %w", err)
	}
	defer os.RemoveAll(dir)
	ns, err := newNamespace()
	if err != nil {
		return Report{}, fmt.Errorf("story: make a network namespace: %w", err)
	}
	defer ns.Close()
	t.say("a network namespace of its own, no way out; to look inside: nsenter --net=%s", ns.Path())

	c := newCluster(o, ns, dir, t)
	before, err := takeInventory(ctx, c)
	if err != nil {
		return Report{}, fmt.Errorf("story: look at the namespace before the start: %w", err)
	}
	report := Report{Started: t.begin}
	if err = tell(ctx, o, c, t, &report); err != nil && ctx.Err() == nil {
		c.lookAround(context.WithoutCancel(ctx))
	}

	// Whatever happened, take it down, and with a context of its own: ctx may be what ended the story.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if downErr := c.down(ending); downErr != nil {
		err = errors.Join(err, downErr)
	}
	left, leftErr := before.compare(ending, c)
	report.Left = left
	if leftErr != nil {
		err = errors.Join(err, leftErr)
	} else if len(left) == 0 {
		t.say("nothing is left: no process, mount, link, address, route, rule or file")
	}
	c.destroy() // if down did its work, there is nothing to destroy
	report.Took = time.Since(t.begin)
	report.Steps = t.steps
	return report, err
}

// tell is the story from its beginning to just before "fairway down".
func tell(ctx context.Context, o Options, c *cluster, t *teller, r *Report) error {
	bin := binaries(o.Binaries)
	if o.Binaries == "" {
		var err error
		if bin, err = build(ctx, o.Source, filepath.Join(c.dir, "bin"), t); err != nil {
			return err
		}
	}
	if err := c.up(ctx); err != nil {
		return err
	}
	if err := c.images(ctx, bin); err != nil {
		return err
	}
	cert, err := newCertificate(host)
	if err != nil {
		return err
	}
	if err := c.apply(ctx, cert); err != nil {
		return err
	}
	at, err := c.locate(ctx)
	if err != nil {
		return err
	}
	r.Reached = reach(ctx, c, at, t)
	if o.Screenshot != "" {
		if r.Page, err = look(ctx, c.ns, o.Screenshot, t); err != nil {
			r.Problems = append(r.Problems, err.Error())
		}
	}
	return runPhases(ctx, o, c, at, cert, t, r)
}
