package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/controller/ingressstatus"
	"fairway.dev/fairway/internal/controller/serviceevents"
	"fairway.dev/fairway/internal/dataplane/healthport"
	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/dataplane/nodelocal"
	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/dns/zone"
	"fairway.dev/fairway/internal/ingress/compile"
	"fairway.dev/fairway/internal/ingress/proxy"
	"fairway.dev/fairway/internal/metrics"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/source"
	"fairway.dev/fairway/internal/store"
)

// dnsPort is where everybody asks cluster DNS.
const dnsPort = 53

// dataline is the part that up and agent have in common: from the API's watches through the store to the kernel, DNS and Ingress.
type dataline struct {
	node, table, domain    string
	serviceCIDRs, podCIDRs []netip.Prefix // no podCIDRs: those of the node's row, whatever they are at the time
	nodePortCIDRs          []netip.Prefix
	dns                    []netip.AddrPort
	upstreams              []netip.AddrPort
	dnsConfig              string         // file; "" is none
	dnsNodeLocal           []netip.Addr   // addresses of the cluster's at which this node answers itself, without conntrack
	dnsHandover            string         // socket at which a successor gets DNS's sockets; "" is none
	dnsInherited           *dns.Inherited // sockets that were taken over; nil if none were
	dnsState               string         // file that keeps the names for a start without the API; "" is none
	http, https            []netip.AddrPort
	trusted                []netip.Prefix // proxies in front of Ingress
	withoutClass           bool
	certDir                string // keeps the certificate for hosts without one; "" makes a new one at each start
	dnsFlag                string // which flag moves DNS elsewhere
	log                    *slog.Logger

	api     *rest.Config
	store   *store.Store
	meter   *metrics.Line
	source  *source.Source
	server  *dns.Server
	ingress *proxy.Server

	expected []func() // withdraw what the store's status table was told to expect
}

// open makes the parts and opens their sockets; nothing runs yet.
func (d *dataline) open(api *rest.Config) (err error) {
	d.api, d.store = api, store.New()
	if len(d.dns)+len(d.dnsNodeLocal) > 0 {
		if len(d.dnsNodeLocal) > 0 {
			if err := nodelocal.Setup(d.table, d.dnsNodeLocal, dnsPort); err != nil {
				return fmt.Errorf("--dns-node-local: %w", err)
			}
		}
		cfg := dns.Config{
			Listen: slices.Concat(d.dns, withPort(d.dnsNodeLocal, dnsPort)), Handover: d.dnsHandover, Inherited: d.dnsInherited,
			Domain: d.domain, Upstreams: d.upstreams, File: d.dnsConfig, Checkpoint: d.dnsState, Cluster: api.Host, AfterConsumer: "nft",
			Service: model.Name{Namespace: dnsNamespace, Name: dnsService}, Pods: zone.PodsInsecure, Logger: d.log.With("part", "dns"),
			Ranges: slices.Concat(d.serviceCIDRs, d.podCIDRs),
			Exists: func(ctx context.Context, n model.Name) (bool, error) { return d.source.HasService(ctx, n) },
		}
		if len(d.upstreams) == 0 {
			cfg.ResolvConf = "/etc/resolv.conf"
		}
		if d.server, err = dns.New(d.store, cfg); err != nil {
			return taken(err, d.dnsFlag)
		}
	}
	verified := d.server != nil && d.server.VerifiesPods()
	d.meter = metrics.New(metrics.Config{
		Store: d.store, Kernel: nft.Consumer, Node: d.node, NodePortCIDRs: d.nodePortCIDRs, Version: Version,
	})
	if d.source, err = source.New(api, d.store, source.Options{
		Kinds: d.kinds(), Node: d.node, Pods: verified,
		Committed: func(rev store.Revision, c source.Change) {
			d.meter.Changed(rev, c.Seen, c.Services, c.Slices, c.Triggered)
		},
		Logger: d.log.With("part", "source"),
	}); err != nil {
		return err
	}
	if len(d.http)+len(d.https) > 0 {
		if d.ingress, err = proxy.New(d.store, proxy.Config{
			HTTP: d.http, HTTPS: d.https, TrustedCIDRs: d.trusted, WithoutClass: d.withoutClass, CertificateDir: d.certDir, Logger: d.log.With("part", "ingress"),
		}); err != nil {
			return taken(err, "--ingress-http or --ingress-https")
		}
	}
	// From now on everybody waits for these, also in the moments before they follow the store.
	d.expected = append(d.expected, d.store.Expect(nft.Consumer))
	if d.server != nil {
		d.expected = append(d.expected, d.store.Expect("dns"))
	}
	return nil
}

// kinds are what of the API these parts need: the less is watched, the less an agent must be allowed to read.
func (d *dataline) kinds() []string {
	kinds := slices.Clone(source.Addresses)
	if len(d.dns)+len(d.dnsNodeLocal) > 0 {
		kinds = append(kinds, source.Names...)
	}
	if len(d.http)+len(d.https) > 0 {
		kinds = append(kinds, source.HTTP...)
	}
	return kinds
}

// close gives back what open took, as far as run has not.
func (d *dataline) close() {
	for _, withdraw := range d.expected {
		withdraw()
	}
	if d.server != nil {
		d.server.Close()
	}
	// A successor that has the sockets needs the addresses. Without one, the Service's own rules count again.
	if len(d.dnsNodeLocal) > 0 && (d.server == nil || !d.server.HandedOver()) {
		if err := nodelocal.Cleanup(d.table); err != nil {
			d.log.Warn("node-local DNS", "err", err)
		}
	}
	if d.ingress != nil {
		_ = d.ingress.Close()
	}
}

// taken says which flag helps when an address is taken.
func taken(err error, flag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; stop what listens there, or give another with %s", err, flag)
	}
	return err
}

// ingressStatus tells by Events what of an Ingress is not served as it is written and, if there are addresses, keeps them in the status of those that
// are served here.
func (d *dataline) ingressStatus(client kubernetes.Interface, addrs []netip.Addr) func(context.Context) error {
	opts := compile.Options{WithoutClass: d.withoutClass}
	return func(ctx context.Context) error {
		return ingressstatus.Run(ctx, d.store, ingressstatus.Config{
			Client: client, Addresses: addrs, Proxy: proxy.Consumer, Logger: d.log.With("part", "ingress-status"),
			Owns:     func(snap *store.Snapshot, ing *model.Ingress) bool { return compile.Owns(snap, opts, ing) },
			Findings: d.ingressFindings,
		})
	}
}

// ingressAddresses are those of the listeners.
func (d *dataline) ingressAddresses() (out []netip.Addr) {
	for _, a := range slices.Concat(d.http, d.https) {
		if !slices.Contains(out, a.Addr()) {
			out = append(out, a.Addr())
		}
	}
	return out
}

// ingressFindings are those of the proxy in the words of Events.
func (d *dataline) ingressFindings() []ingressstatus.Finding {
	found := d.ingress.Findings()
	out := make([]ingressstatus.Finding, len(found))
	for i, f := range found {
		reason := "NotAsWritten"
		if f.Severity == compile.Error {
			reason = "NotServed"
		}
		out[i] = ingressstatus.Finding{Ingress: f.Ingress, Reason: reason, Message: f.Message}
	}
	return out
}

// consumers names those that route traffic, in the store's status table.
func (d *dataline) consumers() []string { return []string{"nft", "dns", "ingress"} }

// run starts every part through the group's starter.
func (d *dataline) run(part func(string, func(context.Context) error)) {
	part("source", d.source.Run)
	part("metrics", d.meter.Run)
	part("nft", d.kernel)
	part("health-ports", healthport.New(d.store, healthport.Config{
		Node: d.node, NodePortCIDRs: d.nodePortCIDRs, After: nft.Consumer, Healthy: d.meter.Healthy, Logger: d.log.With("part", "health-ports"),
	}).Run)
	if d.server != nil {
		part("dns", d.server.Run)
	}
	if d.ingress != nil {
		part("ingress", d.ingress.Run)
	}
}

// events tells in Events on Services what of them is not in force on this node.
func (d *dataline) events(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		return serviceevents.Run(ctx, d.store, serviceevents.Config{
			Client: client, Node: d.node, Logger: d.log.With("part", "events"),
			Reasons: map[string]serviceevents.Reason{
				nft.Consumer:        {Failed: "ProgrammingFailed", Mended: "Programmed"},
				healthport.Consumer: {Failed: "FailedToStartServiceHealthcheck", Mended: "StartedServiceHealthcheck"}, // the former is kube-proxy's
			},
		})
	}
}

// beforeRemoval lets names go before what they lead to.
func (d *dataline) beforeRemoval(ctx context.Context, rev store.Revision) {
	if d.server != nil {
		_ = d.server.AwaitGone(ctx, rev) // the kernel does not wait longer than this
	}
}

// kernel keeps nftables equal to the store. Where nobody said what the Pod ranges are, it waits for the node's row and starts over when that one
// has others; the rules stay in force meanwhile.
func (d *dataline) kernel(ctx context.Context) error {
	run := func(ctx context.Context, pods []netip.Prefix) error {
		return nft.New(d.store, nft.Config{
			Node: d.node, Table: d.table, ServiceCIDRs: d.serviceCIDRs, PodCIDRs: pods, NodePortCIDRs: d.nodePortCIDRs,
			BeforeRemoval: d.beforeRemoval,
			Observe:       func(r nft.Round) { d.meter.Round(r.Whole, r.Duration, r.Err) },
			Logger:        d.log.With("part", "nft"),
		}).Run(ctx)
	}
	if len(d.podCIDRs) > 0 {
		return run(ctx, d.podCIDRs)
	}
	for {
		pods, err := d.nodePodCIDRs(ctx)
		if err != nil {
			return err
		}
		if len(pods) == 0 {
			d.log.Warn("the node has no spec.podCIDRs: Services see the node's address in place of every client's; give --pod-cidr if the cluster has other ways to know", "node", d.node)
		}
		g, sameRanges := errgroup.WithContext(ctx)
		g.Go(func() error { return run(sameRanges, pods) })
		g.Go(func() error { return d.otherPodCIDRs(sameRanges, pods) })
		if err := g.Wait(); !errors.Is(err, errOtherPodCIDRs) {
			return err
		}
		d.log.Info("the node has other Pod ranges now", "node", d.node, "before", pods)
	}
}

// nodePodCIDRs waits for the node's row and gives its Pod ranges. It stands in for the data plane in the status table, so that everybody sees
// what is being waited for.
func (d *dataline) nodePodCIDRs(ctx context.Context) ([]netip.Prefix, error) {
	cur := d.store.Follow(nft.Consumer)
	defer cur.Close()
	for told := false; ; {
		snap, _, err := cur.Next(ctx)
		if err != nil {
			return nil, err
		}
		if n := snap.Node(d.node); n != nil {
			return n.PodCIDRs, nil
		}
		if !snap.Synced {
			continue
		}
		err = fmt.Errorf("the API has no node %s, whose Pod ranges are needed; is --node-name right? With --pod-cidr it goes without", d.node)
		cur.Report(snap.Revision, err, nil)
		if !told {
			d.log.Warn("nothing is put in force", "err", err)
			told = true
		}
	}
}

var errOtherPodCIDRs = errors.New("the node has other Pod ranges")

// otherPodCIDRs returns errOtherPodCIDRs when the node's row has other Pod ranges. A node that has gone keeps those it had.
func (d *dataline) otherPodCIDRs(ctx context.Context, pods []netip.Prefix) error {
	cur := d.store.Follow("")
	defer cur.Close()
	for {
		snap, _, err := cur.Next(ctx)
		if err != nil {
			return err
		}
		if n := snap.Node(d.node); n != nil && !slices.Equal(n.PodCIDRs, pods) {
			return errOtherPodCIDRs
		}
	}
}

// inForce waits until the first full state in which all is there that complete asks for is in force everywhere.
func (d *dataline) inForce(ctx context.Context, complete func(*store.Snapshot) bool) error {
	cur := d.store.Follow("")
	defer cur.Close()
	for {
		snap, _, err := cur.Next(ctx)
		if err != nil {
			return err
		}
		if snap.Synced && complete(snap) {
			return d.store.Applied(ctx, snap.Revision, d.consumers()...)
		}
	}
}

func (d *dataline) listeners() (out []Listener) {
	add := func(what string, as []netip.AddrPort) {
		for _, a := range as {
			out = append(out, Listener{what, a.String()})
		}
	}
	add("dns", slices.Concat(d.dns, withPort(d.dnsNodeLocal, dnsPort)))
	add("http", d.http)
	add("https", d.https)
	return out
}
