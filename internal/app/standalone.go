package app

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/apiserver"
	"fairway.dev/fairway/internal/controller/endpointslice"
	"fairway.dev/fairway/internal/controller/mirroring"
	"fairway.dev/fairway/internal/memory"
	"fairway.dev/fairway/internal/node"
	"fairway.dev/fairway/internal/node/image"
	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/workload"
)

const (
	kubeletPort = 10250
	// systemMasters is the group that may do everything, as the API's components may: they are this process.
	systemMasters = "system:masters"
)

// standalone is a stand-alone Fairway between its start and its end.
type standalone struct {
	UpConfig
	nodeIPs []netip.Addr
	started bool // it was up; read it only after run

	api    *apiserver.Server
	line   *dataline
	node   *node.Node
	status net.Listener
}

// open makes all parts and claims what they need: files, certificates, sockets. Nothing runs yet, so what fails here leaves nothing running.
func (s *standalone) open(runc string) (err error) {
	inst := s.Instance
	if s.api, err = apiserver.New(apiserver.Config{
		Dir:          inst.api(),
		Listen:       append([]netip.AddrPort{s.API}, withPort(s.nodeIPs, s.API.Port())...),
		ServiceCIDRs: s.ServiceCIDRs,
		Domain:       s.Domain,
		NoSync:       s.Ephemeral,
		Advertise:    netip.AddrPortFrom(s.nodeIPs[0], s.API.Port()),
		Logger:       s.Logger.With("part", "api"),
	}); err != nil {
		return taken(err, "--api")
	}
	s.line = &dataline{
		node: s.NodeName, table: inst.table(), domain: s.Domain,
		serviceCIDRs: s.ServiceCIDRs, podCIDRs: s.PodCIDRs,
		dns: withPort(s.nodeIPs, s.DNSPort), upstreams: s.Upstreams, dnsConfig: s.DNSConfig, dnsState: inst.names(),
		http: s.IngressHTTP, https: s.IngressHTTPS, trusted: s.IngressTrusted, withoutClass: true,
		certDir: filepath.Join(inst.DataDir, "ingress"), dnsFlag: "--dns-port",
		log: s.Logger,
	}
	if err := s.line.open(s.credentials("source")); err != nil {
		return err
	}
	if err := s.openNode(runc); err != nil {
		return err
	}
	s.status, err = listenStatus(inst)
	return err
}

func (s *standalone) openNode(runc string) error {
	inst := s.Instance
	kubeletTLS, err := s.api.KubeletServing(s.nodeIPs...)
	if err != nil {
		return err
	}
	images, err := image.Open(inst.Images())
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(s.credentials("node"))
	if err != nil {
		return err
	}
	s.node, err = node.New(node.Config{
		Name: s.NodeName, Instance: inst.Name, Client: client,
		DataDir: inst.DataDir, RunDir: inst.RunDir,
		PodCIDRs: s.PodCIDRs, ServiceCIDRs: s.ServiceCIDRs, NodeIPs: s.nodeIPs,
		ClusterDNS: clusterDNS(s.ServiceCIDRs), ClusterDomain: s.Domain,
		Images: images, Runc: runc, Version: "fairway-" + Version,
		KubeletTLS: kubeletTLS, KubeletListen: netip.AddrPortFrom(s.nodeIPs[0], kubeletPort),
		BeforeStop: drain(s.line.store, s.line.consumers()...),
		Logger:     s.Logger.With("part", "node"),
	})
	return err
}

// close gives back what open took, as far as run has not.
func (s *standalone) close() {
	if s.api != nil {
		s.api.Close()
	}
	if s.line != nil {
		s.line.close()
	}
	if s.status != nil {
		s.status.Close()
	}
}

// credentials are those of one component in this process.
func (s *standalone) credentials(component string) *rest.Config {
	return s.api.ClientConfig("system:fairway:"+component, systemMasters)
}

// run runs all parts until ctx ends or one of them fails.
func (s *standalone) run(ctx context.Context) error {
	// The API outlives everything that writes to it, so that the last writes of a graceful stop arrive.
	apiCtx, stopAPI := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAPI()
	var apiErr error // read it after apiEnded
	apiEnded := make(chan struct{})
	go func() { apiErr = s.api.Run(apiCtx); close(apiEnded) }()

	p := newParts(ctx)
	p.add("api", func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case <-apiEnded:
			return cmp.Or(apiErr, errors.New("it stopped by itself"))
		}
	})
	report := &reporter{store: s.line.store, meter: s.line.meter, trouble: s.api.Trouble, explain: s.line.explainDNS, base: Status{
		Name: s.Instance.Name, Role: "stand-alone", Version: Version, PID: os.Getpid(), Started: time.Now(),
		API: "https://" + s.API.String(), Node: s.NodeName, Kubeconfig: s.Instance.Kubeconfig(), Listeners: s.line.listeners(),
	}}
	p.add("status", func(ctx context.Context) error { return serve(ctx, s.status, report.health(true)) })
	s.line.run(p.add)
	p.add("network", func(ctx context.Context) error {
		return network.Keep(ctx, s.network(), s.Logger.With("part", "network"))
	})
	p.add("routes", s.followRanges)
	p.add("start", func(ctx context.Context) error { return s.start(ctx, p) })
	err := p.wait()
	stopAPI()
	<-apiEnded
	return cmp.Or(err, apiErr)
}

// start adds the parts that need the API once it answers, and returns when the first state is in force.
func (s *standalone) start(ctx context.Context, p *parts) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.api.Ready():
	}
	if err := s.Instance.saveSettings(Settings{s.ServiceCIDRs, s.PodCIDRs, s.NodeName, s.Domain}); err != nil {
		return err
	}
	uid, gid := invoker()
	if err := s.api.WriteKubeconfig(s.Instance.Kubeconfig(), uid, gid); err != nil {
		return err
	}
	s.Progress.Step("API ready on https://%s", s.API)
	cfg := s.credentials("controller")
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	if err := furnish(ctx, client, s.UpConfig); err != nil {
		return err
	}
	p.add("endpointslice", endpointslice.New(cfg, endpointslice.Options{Logger: s.Logger.With("part", "endpointslice")}).Run)
	p.add("mirroring", mirroring.New(cfg, mirroring.Options{Logger: s.Logger.With("part", "mirroring")}).Run)
	p.add("workload", func(ctx context.Context) error {
		return workload.Run(ctx, workload.Config{API: s.credentials("workload"), Logger: s.Logger.With("part", "workload")})
	})
	p.add("node", s.node.Run)
	p.add("settle", memory.Settle)
	p.add("cluster-dns", func(ctx context.Context) error {
		return keepDNS(ctx, client, s.NodeName, s.nodeIPs, s.DNSPort, func(err error) { s.Logger.Warn("cluster DNS", "err", err) })
	})
	p.add("events", s.line.events(client))
	ingress := slices.Concat(s.IngressHTTP, s.IngressHTTPS)
	if len(ingress) > 0 {
		p.add("ingress-status", s.line.ingressStatus(client, s.line.ingressAddresses()))
	}
	// The first full list may be older than the DNS Service that was just made, and "up" promises that names are answered.
	if err := s.line.inForce(ctx, func(snap *store.Snapshot) bool { return hasDNS(snap, s.nodeIPs) }); err != nil {
		return err
	}
	names, err := s.resolveHere(ctx, p)
	if err != nil {
		return err
	}
	s.started = true
	s.Progress.Step("Services in the kernel, DNS on %s, Ingress on %s", join(clusterDNS(s.ServiceCIDRs)), joinOr(ingress, "no address"))
	s.welcome(names)
	return nil
}
