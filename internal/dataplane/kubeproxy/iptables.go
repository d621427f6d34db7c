package kubeproxy

import (
	"slices"
	"strings"
)

// The chains of kube-proxy's iptables and IPVS modes (Kubernetes 1.37, pkg/proxy/iptables and pkg/proxy/ipvs), and of older versions.
var (
	chainNames = []string{
		"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-NODE-PORT", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", "KUBE-FORWARD",
		"KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY", "KUBE-LOAD-BALANCER", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
	}
	chainPrefixes = []string{"KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-", "KUBE-XLB-"}
)

func isKubeProxys(chain string) bool {
	return slices.Contains(chainNames, chain) || slices.ContainsFunc(chainPrefixes, func(p string) bool { return strings.HasPrefix(chain, p) })
}

// rule is one line "-A CHAIN …" of iptables-save.
type rule struct{ chain, target, rest string }

// leftovers reads what iptables-save printed, and gives what iptables-restore --noflush must be told to take kube-proxy's chains away, and their
// names as "TABLE CHAIN". Nothing is left over where there are no names.
func leftovers(saved string) (restore string, names []string) {
	var out strings.Builder
	var table string
	var chains []string // all of the table
	builtin := map[string]bool{}
	var rules []rule
	for line := range strings.Lines(saved) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table, chains, rules = line[1:], nil, nil
			clear(builtin)
		case strings.HasPrefix(line, ":"):
			f := strings.Fields(line[1:])
			if len(f) < 2 {
				continue
			}
			chains = append(chains, f[0])
			builtin[f[0]] = f[1] != "-"
		case strings.HasPrefix(line, "-A "):
			f := strings.SplitN(line, " ", 3)
			if len(f) == 3 {
				rules = append(rules, rule{f[1], target(f[2]), f[2]})
			}
		case line == "COMMIT":
			text, gone := ofTable(table, chains, builtin, rules)
			out.WriteString(text)
			names = append(names, gone...)
		}
	}
	return out.String(), names
}

// ofTable gives what is to be said of one table.
func ofTable(table string, chains []string, builtin map[string]bool, rules []rule) (text string, names []string) {
	ours := map[string]bool{}
	for _, c := range chains {
		ours[c] = !builtin[c] && isKubeProxys(c)
	}
	// What a chain of somebody else's leads to stays, and so does what that leads to.
	for changed := true; changed; {
		changed = false
		for _, r := range rules {
			if ours[r.target] && !ours[r.chain] && !builtin[r.chain] {
				ours[r.target], changed = false, true
			}
		}
	}
	var flush, unlink, remove strings.Builder
	for _, c := range chains {
		if ours[c] {
			flush.WriteString(":" + c + " - [0:0]\n") // with --noflush: this one is flushed, or made
			remove.WriteString("-X " + c + "\n")
			names = append(names, table+" "+c)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	for _, r := range rules {
		if ours[r.target] && !ours[r.chain] {
			unlink.WriteString("-D " + r.chain + " " + r.rest + "\n")
		}
	}
	return "*" + table + "\n" + flush.String() + unlink.String() + remove.String() + "COMMIT\n", names
}

// target gives the chain to which a rule leads.
func target(rest string) string {
	f := fields(rest)
	for i := range f {
		if (f[i] == "-j" || f[i] == "-g" || f[i] == "--jump" || f[i] == "--goto") && i+1 < len(f) {
			return f[i+1]
		}
	}
	return ""
}

// fields splits at spaces outside of double quotes, in which iptables-save puts comments.
func fields(s string) (out []string) {
	var b strings.Builder
	quoted, escaped := false, false
	for _, r := range s {
		switch {
		case escaped:
			b.WriteRune(r)
			escaped = false
		case r == '\\' && quoted:
			escaped = true
		case r == '"':
			quoted = !quoted
		case r == ' ' && !quoted:
			if b.Len() > 0 {
				out = append(out, b.String())
				b.Reset()
			}
		default:
			b.WriteRune(r)
		}
	}
	if b.Len() > 0 {
		out = append(out, b.String())
	}
	return out
}
