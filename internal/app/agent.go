package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/dataplane/nodelocal"
	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/memory"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/upstreamlog"
)

// AgentConfig says how to run the data plane, DNS and Ingress of one node against any Kubernetes API server.
type AgentConfig struct {
	// Kubeconfig is the file with the credentials; "" takes those of the Pod that the agent runs in.
	Kubeconfig string
	// NodeName is this node's name in the API; "" is the host name.
	NodeName string
	// Table is the name of the nftables table.
	Table string
	// ServiceCIDRs are Service ranges of the cluster beside those of its ServiceCIDR objects. PodCIDRs tell Pods from strangers; none means the node's own, as the API has them.
	ServiceCIDRs, PodCIDRs []netip.Prefix
	// NodePortCIDRs are in which ranges an address of the node must lie to serve NodePorts; none means its primary addresses.
	NodePortCIDRs []netip.Prefix
	// DNS is where DNS listens; empty is nowhere. The node's slice of kube-system/kube-dns points at these addresses.
	DNS       []netip.AddrPort
	Domain    string
	Upstreams []netip.AddrPort
	// DNSConfig is the DNS server's configuration file; "" is none.
	DNSConfig string
	// DNSNodeLocal are addresses of the cluster's DNS Service at which this node answers itself, past conntrack; none means by the Service's rules.
	DNSNodeLocal []netip.Addr
	// DNSHandover is the socket at which a successor gets DNS's sockets; "" is none. An agent that finds another one there gets that one's, waits until
	// it has gone, and only then begins.
	DNSHandover string
	// DNSState is the file that keeps the names, for a start while the API is away; "" is none.
	DNSState string
	// IngressHTTP and IngressHTTPS are where Ingress listens; empty is nowhere.
	IngressHTTP, IngressHTTPS []netip.AddrPort
	// IngressTrusted are the proxies in front of Ingress, whose X-Forwarded headers count; nobody by default.
	IngressTrusted []netip.Prefix
	// Health is where /healthz, /livez, /readyz and, on a loopback address, /status listen; Metrics is where /metrics and, on a loopback
	// address, /status listen. The zero value is nowhere.
	Health, Metrics netip.AddrPort
	Logger          *slog.Logger
	Progress        *Progress
}

// Agent runs until ctx ends or a part fails. The rules stay in the kernel. While the API is away, from the start or later, what was last in
// force stays so.
func Agent(ctx context.Context, c AgentConfig) error {
	if _, err := preflight(""); err != nil {
		return err
	}
	thrift()
	var sockets *dns.Inherited
	if c.DNSHandover != "" {
		var err error
		if sockets, err = dns.TakeOver(ctx, c.DNSHandover); err != nil {
			return err
		}
		defer sockets.Close()
	}
	release, err := claimTable(c.Table)
	if err != nil {
		return err
	}
	defer release()
	upstreamlog.Route(c.Logger)
	cfg, err := clusterConfig(c.Kubeconfig, "fairway-agent")
	if err != nil {
		return err
	}
	if c.NodeName == "" {
		if c.NodeName, err = os.Hostname(); err != nil {
			return err
		}
		c.NodeName = strings.ToLower(c.NodeName) // as the kubelet names its Node
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	line := &dataline{
		node: c.NodeName, table: c.Table, domain: c.Domain, serviceCIDRs: c.ServiceCIDRs, podCIDRs: c.PodCIDRs, nodePortCIDRs: c.NodePortCIDRs,
		dns: c.DNS, upstreams: c.Upstreams, dnsConfig: c.DNSConfig, dnsState: c.DNSState, dnsNodeLocal: c.DNSNodeLocal, dnsHandover: c.DNSHandover, dnsInherited: sockets, http: c.IngressHTTP, https: c.IngressHTTPS, trusted: c.IngressTrusted, dnsFlag: "--dns-listen", log: c.Logger,
	}
	defer line.close()
	if err := line.open(cfg); err != nil {
		return err
	}
	p := newParts(ctx)
	report := &reporter{store: line.store, base: Status{
		Name: c.NodeName, Role: "agent", Version: Version, PID: os.Getpid(), Started: time.Now(), API: cfg.Host, Node: c.NodeName, Listeners: line.listeners(),
	}}
	report.meter, report.explain = line.meter, line.explainDNS
	if c.Health.IsValid() {
		p.add("health", listenAndServe("--healthz-bind-address", c.Health, report.health(c.Health.Addr().IsLoopback()), c.Logger))
	}
	if c.Metrics.IsValid() {
		p.add("metrics-listener", listenAndServe("--metrics-bind-address", c.Metrics, line.metrics(report, c.Metrics.Addr().IsLoopback()), c.Logger))
	}
	line.run(p.add)
	p.add("events", line.events(client))
	if line.ingress != nil {
		p.add("ingress-events", line.ingressStatus(client, nil)) // the status is the controller's
	}
	if len(c.DNS) > 0 {
		addrs := make([]netip.Addr, len(c.DNS))
		for i, a := range c.DNS {
			addrs[i] = a.Addr()
		}
		p.add("cluster-dns", func(ctx context.Context) error {
			return keepDNS(ctx, client, c.NodeName, addrs, c.DNS[0].Port(), func(err error) { c.Logger.Warn("cluster DNS", "err", err) })
		})
	}
	p.add("start", func(ctx context.Context) error {
		if err := line.inForce(ctx, func(*store.Snapshot) bool { return true }); err != nil {
			return err
		}
		c.Progress.Step("%d Services in the kernel, DNS on %s, Ingress on %s",
			line.store.Snapshot().Services.Len(), joinOr(c.DNS, "no address"), joinOr(slices.Concat(c.IngressHTTP, c.IngressHTTPS), "no address"))
		p.add("settle", memory.Settle)
		return nil
	})
	return p.wait()
}

// clusterConfig gives the credentials of a kubeconfig, or those of this Pod; name is for the API's log.
func clusterConfig(kubeconfig, name string) (cfg *rest.Config, err error) {
	if kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("this is not a Pod of a cluster, so it has no credentials of its own; give some with --kubeconfig FILE")
		}
		if err != nil {
			return nil, fmt.Errorf("the credentials of this Pod: %w; or give others with --kubeconfig FILE", err)
		}
	} else {
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
		if clientcmd.IsEmptyConfig(err) {
			return nil, fmt.Errorf("--kubeconfig %s: it names no cluster; a kubeconfig has clusters, users, contexts and a current-context", kubeconfig)
		}
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig %s: %w", kubeconfig, err)
		}
	}
	cfg.UserAgent = name + "/" + Version
	cfg.QPS = -1
	return cfg, nil
}

// AgentCleanup removes the agent's rules from the kernel. It refuses while the agent runs.
func AgentCleanup(table string) error {
	if _, err := preflight(""); err != nil {
		return err
	}
	release, err := claimTable(table)
	if err != nil {
		return err
	}
	defer release()
	return errors.Join(nft.Cleanup(table), nodelocal.Cleanup(table))
}
