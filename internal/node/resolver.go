package node

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Limits of a resolver's configuration, as the kubelet sets them.
const (
	maxNameservers = 3
	maxSearch      = 32
	maxSearchChars = 2048
	maxSearchEntry = 253
)

// resolver is the content of a resolv.conf.
type resolver struct {
	servers, search, options []string
}

// parseResolver reads a resolv.conf; what it does not know it leaves out.
func parseResolver(text string) resolver {
	var r resolver
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			r.servers = append(r.servers, fields[1])
		case "search":
			r.search = nil // the last one counts
			for _, domain := range fields[1:] {
				if domain != "." {
					r.search = append(r.search, domain)
				}
			}
		case "options":
			r.options = append(r.options, fields[1:]...)
		}
	}
	return r
}

// hostResolver is the machine's own. Where a stub resolver on loopback stands in front, which a Pod cannot reach, the file behind
// it is read.
func hostResolver() (resolver, error) {
	data, err := os.ReadFile("/etc/resolv.conf")
	if os.IsNotExist(err) {
		return resolver{}, nil
	}
	if err != nil {
		return resolver{}, err
	}
	r := parseResolver(string(data))
	stub := slices.ContainsFunc(r.servers, func(server string) bool { return server == "127.0.0.53" })
	if behind, err := os.ReadFile("/run/systemd/resolve/resolv.conf"); stub && err == nil {
		r = parseResolver(string(behind))
	}
	return r, nil
}

// podResolver applies the Pod's DNS policy and configuration. Entries beyond the limits are left out, from the end.
func podResolver(pod *corev1.Pod, host resolver, dns []netip.Addr, domain string) resolver {
	var r resolver
	policy := pod.Spec.DNSPolicy
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork || len(dns) == 0 && policy != corev1.DNSNone {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		r = resolver{slices.Clone(host.servers), slices.Clone(host.search), slices.Clone(host.options)}
	default:
		for _, server := range dns {
			r.servers = append(r.servers, server.String())
		}
		r.search = append([]string{pod.Namespace + ".svc." + domain, "svc." + domain, domain}, host.search...)
		r.options = []string{"ndots:5"}
	}
	if c := pod.Spec.DNSConfig; c != nil {
		r.servers = append(r.servers, c.Nameservers...)
		r.search = append(r.search, c.Searches...)
		for _, option := range c.Options {
			text := option.Name
			if option.Value != nil && *option.Value != "" {
				text += ":" + *option.Value
			}
			r.options = slices.DeleteFunc(r.options, func(old string) bool {
				name, _, _ := strings.Cut(old, ":")
				return name == option.Name
			})
			r.options = append(r.options, text)
		}
	}
	return r.limited()
}

func (r resolver) limited() resolver {
	unique := func(words []string, limit int) []string {
		var out []string
		for _, word := range words {
			if len(out) < limit && !slices.Contains(out, word) {
				out = append(out, word)
			}
		}
		return out
	}
	var search []string
	total := 0
	for _, domain := range unique(r.search, maxSearch) {
		if len(domain) > maxSearchEntry {
			continue
		}
		if total += len(domain) + 1; total > maxSearchChars+1 {
			break
		}
		search = append(search, domain)
	}
	return resolver{unique(r.servers, maxNameservers), search, r.options}
}

func (r resolver) String() string {
	var b strings.Builder
	for _, server := range r.servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	if len(r.search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.search, " "))
	}
	if len(r.options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.options, " "))
	}
	return b.String()
}

// hostsFile is the content of a Pod's /etc/hosts.
func hostsFile(pod *corev1.Pod, podIPs []string, domain string) string {
	var b strings.Builder
	b.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n" +
		"fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
	name := hostname(pod)
	if pod.Spec.Subdomain != "" {
		name = name + "." + pod.Spec.Subdomain + "." + pod.Namespace + ".svc." + domain + "\t" + name
	}
	for _, ip := range podIPs {
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	for _, alias := range pod.Spec.HostAliases {
		fmt.Fprintf(&b, "%s\t%s\n", alias.IP, strings.Join(alias.Hostnames, "\t"))
	}
	return b.String()
}

// hostname is a Pod's host name: the one that it asks for, or its own, cut to what the kernel allows.
func hostname(pod *corev1.Pod) string {
	name := pod.Spec.Hostname
	if name == "" {
		name = pod.Name
	}
	if len(name) > 63 {
		name = strings.TrimRight(name[:63], "-.")
	}
	return name
}

// PodResolver gives what a Pod's resolv.conf says: the servers, the search path, and how many dots make a name one that is asked as it is first. dns are the
// cluster's servers.
func PodResolver(pod *corev1.Pod, dns []netip.Addr, domain string) (servers, search []string, ndots int, err error) {
	host, err := hostResolver()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("the machine's resolver: %w", err)
	}
	r := podResolver(pod, host, dns, domain)
	ndots = 1 // resolv.conf(5)
	for _, o := range r.options {
		if v, ok := strings.CutPrefix(o, "ndots:"); ok {
			if n, err := strconv.Atoi(v); err == nil {
				ndots = min(max(n, 0), 15)
			}
		}
	}
	return r.servers, r.search, ndots, nil
}
