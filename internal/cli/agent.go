package cli

import (
	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newAgent(i *instance) *cobra.Command {
	var kubeconfig, node, dns, http, https, health, domain, table, dnsConfig string
	var services, pods, nodePorts, upstreams []string
	var cleanup bool
	c := &cobra.Command{
		Use:   "agent",
		Short: "Run the data plane, DNS and Ingress of one node of a cluster",
		Long: `Run what a node of a cluster needs for Services, against any Kubernetes API server: the rules in the
kernel, DNS, and Ingress where it is asked for. It writes nothing to the API but this node's slices of the
DNS Service, and only with --dns-listen.

Stopping the agent leaves the rules in force; --cleanup takes them away.`,
		Example: `  fairway agent --kubeconfig /etc/kubernetes/agent.conf --service-cidr 10.96.0.0/12
  fairway agent --kubeconfig agent.conf --service-cidr 10.96.0.0/12 --dns-listen 10.0.0.7:10053 --ingress-http 10.0.0.7:80
  fairway agent --cleanup`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if cleanup {
				return app.AgentCleanup(table)
			}
			p := &parser{}
			cfg := app.AgentConfig{
				Kubeconfig: kubeconfig, Table: table, DNSConfig: p.file("--dns-config", dnsConfig),
				Logger: i.logger(c), Progress: app.NewProgress(c.OutOrStdout(), processStart()),
			}
			cfg.Domain = p.domain("--cluster-domain", domain)
			if node != "" {
				cfg.NodeName = p.node("--node-name", node)
			}
			if cfg.ServiceCIDRs = p.ranges("--service-cidr", services); len(services) == 0 {
				p.fail("--service-cidr: give the cluster's ranges of ClusterIPs")
			}
			if len(pods) > 0 {
				cfg.PodCIDRs = p.cidrs("--pod-cidr", pods)
			}
			cfg.NodePortCIDRs = p.ranges("--nodeport-addresses", nodePorts)
			cfg.DNS, cfg.Upstreams = p.addrs("--dns-listen", dns), p.upstreams(upstreams)
			cfg.IngressHTTP, cfg.IngressHTTPS = p.addrs("--ingress-http", http), p.addrs("--ingress-https", https)
			if health != "" && health != "off" {
				cfg.Health = p.addr("--health-listen", health)
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
	f.StringSliceVar(&services, "service-cidr", nil, "the cluster's ranges of ClusterIPs, as many as it has")
	f.StringSliceVar(&pods, "pod-cidr", nil, "the range of Pod addresses (default: the node's own, from the API)")
	f.StringSliceVar(&nodePorts, "nodeport-addresses", nil, "serve NodePorts on the node's addresses in these ranges (default: its primary address of each family)")
	f.StringVar(&dns, "dns-listen", "", "where DNS listens, ADDRESS:PORT, comma-separated (default: nowhere)")
	f.StringSliceVar(&upstreams, "dns-upstream", nil, "servers for other names, ADDRESS[:PORT] (default: those of /etc/resolv.conf)")
	f.StringVar(&dnsConfig, "dns-config", "", "the DNS server's configuration file, read again when it changes (docs/dns.md)")
	f.StringVar(&domain, "cluster-domain", "cluster.local", "the domain of the cluster's names")
	f.StringVar(&http, "ingress-http", "", "where Ingress listens for HTTP, comma-separated (default: nowhere)")
	f.StringVar(&https, "ingress-https", "", "where Ingress listens for HTTPS, comma-separated (default: nowhere)")
	f.StringVar(&health, "health-listen", "127.0.0.1:10256", "where /livez, /readyz and /status listen, or off")
	f.BoolVar(&cleanup, "cleanup", false, "remove the rules from the kernel, and end")
	return c
}
