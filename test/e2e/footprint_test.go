package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// footprint is everything that an instance could leave behind on a machine, as lines to compare.
type footprint map[string][]string

// footprint reads it: inside the namespace what belongs to a network, outside what mentions the instance.
func (m *machine) footprint() footprint {
	f := footprint{
		"links":  m.lines("ip", "-o", "link"),
		"addrs":  m.lines("ip", "-o", "addr"),
		"routes": append(m.lines("ip", "route", "show", "table", "all"), m.lines("ip", "-6", "route", "show", "table", "all")...),
		"rules":  m.lines("nft", "list", "ruleset"),
		"sysctl": m.lines("sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		f["mounts"] = mentioning(strings.Split(string(b), "\n"), m.dir)
	}
	names, _ := filepath.Glob("/run/netns/*")
	f["namespaces"] = mentioning(names, m.name)
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), m.dir) {
			f["processes"] = append(f["processes"], strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	for _, root := range []string{"/sys/fs/cgroup/*/fairway/" + m.name, "/sys/fs/cgroup/fairway/" + m.name} {
		found, _ := filepath.Glob(root)
		f["cgroups"] = append(f["cgroups"], found...)
	}
	for _, dir := range []string{m.dir + "/data", m.dir + "/run"} {
		if _, err := os.Stat(dir); err == nil {
			f["directories"] = append(f["directories"], dir)
		}
	}
	return f
}

func (m *machine) lines(name string, args ...string) []string {
	out, err := m.ns.Command(name, args...).CombinedOutput()
	if err != nil {
		m.t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	var keep []string
	for l := range strings.Lines(string(out)) {
		if l = strings.TrimSpace(l); l != "" {
			keep = append(keep, l)
		}
	}
	return keep
}

func mentioning(lines []string, what string) (out []string) {
	for _, l := range lines {
		if strings.Contains(l, what) {
			out = append(out, l)
		}
	}
	return out
}

// nothingLeft compares the machine with what it was before.
func (m *machine) nothingLeft() {
	m.t.Helper()
	after := m.footprint()
	for what, lines := range after {
		for _, l := range missing(lines, m.before[what]) {
			m.t.Errorf("left behind in %s: %s", what, l)
		}
	}
	for what, lines := range m.before {
		for _, l := range missing(lines, after[what]) {
			m.t.Errorf("taken away from %s: %s", what, l)
		}
	}
}

// missing gives the lines that are not among others.
func missing(lines, others []string) (out []string) {
	for _, l := range lines {
		if !slices.Contains(others, l) {
			out = append(out, l)
		}
	}
	return out
}
