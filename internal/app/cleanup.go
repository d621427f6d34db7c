package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"fairway.dev/fairway/internal/dataplane/kubeproxy"
	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/node/network"
)

// CleanupConfig says what to take away from a machine.
type CleanupConfig struct {
	Instance Instance
	// Table is the nftables table of an agent; "" is the instance's own.
	Table string
	// KubeProxy takes away what kube-proxy left, and nothing of Fairway.
	KubeProxy bool
	// DryRun only tells.
	DryRun bool
	Logger *slog.Logger
}

// Cleaned is what Cleanup took away, or would, and the JSON of its -o json. Fields are only ever added.
type Cleaned struct {
	DryRun  bool     `json:"dryRun"`
	Removed []string `json:"removed"`
	// Kept is what is still there, with how to take that away.
	Kept []string `json:"kept,omitempty"`
}

// Cleanup takes away what a Fairway that does not run any more left on this machine: tables, and of a stand-alone one also Pods, devices, routes
// and the run directory. Data stays. It refuses while the Fairway that it belongs to runs. Nothing there is no error.
func Cleanup(ctx context.Context, c CleanupConfig) (*Cleaned, error) {
	if _, err := preflight(""); err != nil {
		return nil, err
	}
	out := &Cleaned{DryRun: c.DryRun, Removed: []string{}}
	if c.KubeProxy {
		if pids := processesHere("kube-proxy"); len(pids) > 0 {
			return nil, fmt.Errorf("kube-proxy runs here (pid %s) and would write its rules again; stop it first", strings.Join(pids, ", "))
		}
		found, err := kubeproxy.Remove(ctx, c.DryRun)
		out.Removed = append(out.Removed, found...)
		return out, err
	}
	if c.Table == "" {
		c.Table = c.Instance.table()
	}
	if pid := c.Instance.holder(); c.Instance.running() {
		return nil, fmt.Errorf("instance %q runs (pid %d); 'fairway down' stops it and takes everything away", c.Instance.Name, pid)
	}
	release, err := claimTable(c.Table) // so that none starts meanwhile
	if err != nil {
		return nil, err
	}
	defer release()
	if err := out.look(c); err != nil {
		return nil, err
	}
	if c.DryRun || len(out.Removed) == 0 {
		return out, nil
	}
	if err := nft.Cleanup(c.Table); err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.Instance.RunDir); err == nil && c.Table == c.Instance.table() {
		unlock, err := c.Instance.lock()
		if err != nil {
			return nil, err
		}
		defer unlock()
		if err := clean(ctx, c.Instance, c.Logger, true); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// look finds what there is.
func (o *Cleaned) look(c CleanupConfig) error {
	tables, err := nft.Tables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if _, name, _ := strings.Cut(t, " "); name == c.Table {
			o.Removed = append(o.Removed, "table "+t)
		} else {
			o.Kept = append(o.Kept, fmt.Sprintf("table %s: it belongs to another Fairway; give --table %s, or --name for a stand-alone one", t, name))
		}
	}
	if c.Table != c.Instance.table() {
		return nil
	}
	if _, err := os.Stat(c.Instance.RunDir); err == nil {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list devices: %w", err)
		}
		for _, l := range links {
			if n := l.Attrs().Name; n == network.Device(c.Instance.Name) || strings.HasPrefix(n, network.LinkPrefix(c.Instance.Name)) {
				o.Removed = append(o.Removed, "device "+n+" with its routes")
			}
		}
		o.Removed = append(o.Removed, "run directory "+c.Instance.RunDir+" with its Pods")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("run directory: %w", err)
	}
	if _, err := os.Stat(c.Instance.DataDir); err == nil {
		o.Kept = append(o.Kept, fmt.Sprintf("data directory %s: 'fairway down' removes it", c.Instance.DataDir))
	}
	return nil
}

// processesHere gives the processes of a name that are in this network namespace.
func processesHere(name string) (pids []string) {
	mine, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return nil
	}
	names, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is well-formed
	for _, f := range names {
		pid := filepath.Base(filepath.Dir(f))
		comm, err1 := os.ReadFile(f)
		theirs, err2 := os.Readlink("/proc/" + pid + "/ns/net")
		if err1 == nil && err2 == nil && theirs == mine && strings.TrimSpace(string(comm)) == name {
			pids = append(pids, pid)
		}
	}
	slices.SortFunc(pids, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	return pids
}
