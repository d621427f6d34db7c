package cli

import (
	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newAgent(i *instance) *cobra.Command {
	var kubeconfig, node, dns, http, https, health, metrics, domain, table, dnsConfig, dnsState, dnsHandover string
	var services, pods, nodePorts, upstreams, dnsNodeLocal, trusted []string
	var cleanup bool
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run the data plane, DNS and Ingress of one node of a cluster",
		Long: `Run what a node of a cluster needs for Services, against any Kubernetes API server: the rules in the
kernel, DNS, and Ingress where it is asked for. It writes nothing to the API but Events on Services and Ingresses
that it cannot put in force as they are written and, with --dns-listen, this node's slices of the DNS Service. What it reads depends on what it
runs: Namespaces with --dns-listen alone; Ingresses, IngressClasses and TLS Secrets with --ingress-* alone.
deploy/ has manifests with the roles for each.

Stopping the agent leaves the rules in force; --cleanup takes them away.`,
		Example: `  fairway agent --kubeconfig /etc/kubernetes/agent.conf
  fairway agent --kubeconfig agent.conf --service-cidr 10.96.0.0/12 --dns-listen 10.0.0.7:10053 --ingress-http 10.0.0.7:80
  fairway agent --cleanup`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if cleanup {
				return app.AgentCleanup(table)
			}
			p := &parser{}
			cfg := app.AgentConfig{
				Kubeconfig: kubeconfig, Table: table, DNSConfig: p.file("--dns-config", dnsConfig), DNSState: p.file("--dns-state", dnsState),
				DNSHandover: p.file("--dns-handover", dnsHandover), DNSNodeLocal: p.ips("--dns-node-local", dnsNodeLocal),
				Logger: i.logger(c), Progress: app.NewProgress(c.OutOrStdout(), processStart()),
			}
			cfg.Domain = p.domain("--cluster-domain", domain)
			if node != "" {
				cfg.NodeName = p.node("--node-name", node)
			}
			cfg.ServiceCIDRs = p.ranges("--service-cidr", services)
			if len(pods) > 0 {
				cfg.PodCIDRs = p.cidrs("--pod-cidr", pods)
			}
			cfg.NodePortCIDRs = p.ranges("--nodeport-addresses", nodePorts)
			cfg.DNS, cfg.Upstreams = p.addrs("--dns-listen", dns), p.upstreams(upstreams)
			cfg.IngressHTTP, cfg.IngressHTTPS = p.addrs("--ingress-http", http), p.addrs("--ingress-https", https)
			cfg.IngressTrusted = p.ranges("--ingress-trusted-proxies", trusted)
			if health != "" && health != "off" {
				cfg.Health = p.addr("--healthz-bind-address", health)
			}
			if metrics != "" && metrics != "off" {
				cfg.Metrics = p.addr("--metrics-bind-address", metrics)
			}
			p.published("--dns-listen", cfg.DNS)
			if p.err != nil {
				return usageError{p.err}
			}
			return app.Agent(c.Context(), cfg)
		},
	}
	f := c.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "", "credentials for the API (default: those of the Pod that the agent runs in)")
	f.StringVar(&node, "node-name", "", "this node's name in the API (default: the host name)")
	f.StringVar(&table, "table", "fairway", "the name of the nftables table")
	f.StringSliceVar(&services, "service-cidr", nil, "ranges of ClusterIPs beside those of the API's ServiceCIDR objects, as many as there are; needed before Kubernetes 1.33")
	f.StringSliceVar(&pods, "pod-cidr", nil, "the range of Pod addresses (default: the node's own, from the API)")
	f.StringSliceVar(&nodePorts, "nodeport-addresses", nil, "serve NodePorts on the node's addresses in these ranges (default: its primary address of each family)")
	f.StringVar(&dns, "dns-listen", "", "where DNS listens, ADDRESS:PORT, comma-separated (default: nowhere)")
	f.StringSliceVar(&upstreams, "dns-upstream", nil, "servers for other names, ADDRESS[:PORT] (default: those of /etc/resolv.conf)")
	f.StringVar(&dnsConfig, "dns-config", "", "the DNS server's configuration file, read again when it changes (docs/dns.md)")
	f.StringSliceVar(&dnsNodeLocal, "dns-node-local", nil, "the cluster's DNS addresses, to answer at them on this node itself, past conntrack (default: by the Service's rules)")
	f.StringVar(&dnsHandover, "dns-handover", "", "the socket at which the next agent gets DNS's sockets, so that an upgrade loses no question (default: none)")
	f.StringVar(&dnsState, "dns-state", "", "the file that keeps the names for a start while the API is away, on a disk of the node (default: none)")
	f.StringVar(&domain, "cluster-domain", "cluster.local", "the domain of the cluster's names")
	f.StringVar(&http, "ingress-http", "", "where Ingress listens for HTTP, comma-separated (default: nowhere)")
	f.StringVar(&https, "ingress-https", "", "where Ingress listens for HTTPS, comma-separated (default: nowhere)")
	f.StringSliceVar(&trusted, "ingress-trusted-proxies", nil, "ranges of the proxies in front of Ingress, whose X-Forwarded headers count (default: nobody)")
	f.StringVar(&health, "healthz-bind-address", "127.0.0.1:10256", "where /healthz, /livez and /readyz listen, as kube-proxy's; or off")
	f.StringVar(&health, "health-listen", "127.0.0.1:10256", "the former name of --healthz-bind-address")
	_ = f.MarkHidden("health-listen") // it is there: the line above
	f.StringVar(&metrics, "metrics-bind-address", "127.0.0.1:10249", "where /metrics listens, as kube-proxy's; or off")
	f.BoolVar(&cleanup, "cleanup", false, "remove the rules from the kernel, and end")
	return c
}
