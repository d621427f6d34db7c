package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/google/nftables"
)

// Table is the name of kube-proxy's tables in nftables mode, one of IPv4 and one of IPv6.
const Table = "kube-proxy"

// Remove takes kube-proxy's leftovers away and gives what they were, such as "table ip kube-proxy" or "ip6tables nat KUBE-SERVICES"; with dryRun it
// only looks. It is no error if there are none. What could not be removed is in the error, the rest is gone.
func Remove(ctx context.Context, dryRun bool) ([]string, error) {
	found, err := removeTables(dryRun)
	errs := []error{err}
	for _, p := range programs() {
		names, err := p.clean(ctx, dryRun)
		found = append(found, names...)
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

func removeTables(dryRun bool) (found []string, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("nftables: list tables: %w", err)
	}
	families := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6"}
	for _, t := range tables {
		if family, ok := families[t.Family]; ok && t.Name == Table {
			found = append(found, "table "+family+" "+Table)
			c.DelTable(t)
		}
	}
	if dryRun || len(found) == 0 {
		return found, nil
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("tables %s: delete: %w", Table, err)
	}
	return found, nil
}

// program is one pair of iptables-save and iptables-restore.
type program struct{ name, save, restore string }

// programs gives those that there are: of both kinds where there are both, else the one that is called iptables.
func programs() (out []program) {
	for _, family := range []struct{ name, used string }{
		{"iptables", "/proc/net/ip_tables_names"}, {"ip6tables", "/proc/net/ip6_tables_names"},
	} {
		found := len(out)
		for _, kind := range []string{"-nft", "-legacy", ""} {
			if kind == "" && len(out) > found {
				break
			}
			if used, err := os.ReadFile(family.used); kind == "-legacy" && (err != nil || len(used) == 0) {
				continue // asking would load the kernel's module; without it there are no rules
			}
			save, err1 := exec.LookPath(family.name + kind + "-save")
			restore, err2 := exec.LookPath(family.name + kind + "-restore")
			if err1 == nil && err2 == nil {
				out = append(out, program{family.name + kind, save, restore})
			}
		}
	}
	return out
}

func (p program) clean(ctx context.Context, dryRun bool) ([]string, error) {
	var stderr strings.Builder
	save := exec.CommandContext(ctx, p.save)
	save.Stderr = &stderr
	saved, err := save.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", p.save, err, strings.TrimSpace(stderr.String()))
	}
	text, names := leftovers(string(saved))
	for i := range names {
		names[i] = p.name + " " + names[i]
	}
	if dryRun || len(names) == 0 {
		return names, nil
	}
	restore := exec.CommandContext(ctx, p.restore, "--noflush", "--wait", "5")
	restore.Stdin = strings.NewReader(text)
	if out, err := restore.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", p.restore, err, strings.TrimSpace(string(out)))
	}
	return names, nil
}
