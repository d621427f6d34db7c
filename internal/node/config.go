package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/node/image"
	"fairway.dev/fairway/internal/node/network"
)

// Config is what a Node needs to know. Name, Client, DataDir, RunDir, PodCIDRs and Images must be set.
type Config struct {
	Name     string // of the Node object
	Instance string // of this Fairway on the machine; empty: "default"
	Client   kubernetes.Interface

	DataDir string // survives a reboot: volumes, logs, what containers write
	RunDir  string // does not: what runs here

	PodCIDRs     []netip.Prefix // one per address family; the first address of each is the node's
	ServiceCIDRs []netip.Prefix
	NodeIPs      []netip.Addr // the Node's InternalIPs; empty: the first address of each Pod CIDR

	ClusterDNS    []netip.Addr // name servers of Pods; empty: those of the machine
	ClusterDomain string       // empty: "cluster.local"

	Images *image.Store
	Runc   string // path of runc; empty: looked up

	KubeletListen netip.AddrPort // address of the kubelet API; an invalid one: not served
	KubeletTLS    *tls.Config    // its certificate and whom it lets in

	// VolumeSync is how often volumes that come from the API are brought to what it has; 0: each minute. Tokens live for ten minutes at least.
	VolumeSync time.Duration

	// BeforeStop is called when a Pod is marked for deletion, before anything is done to its containers: it returns when no consumer
	// sends the Pod anything new. The grace period starts after it. May be nil.
	BeforeStop func(ctx context.Context, pod *corev1.Pod)

	Version string // of this Fairway, shown as the Node's kubelet version; empty: "unknown"
	Logger  *slog.Logger
}

func (c *Config) complete() error {
	var missing []error
	for name, absent := range map[string]bool{
		"Name": c.Name == "", "Client": c.Client == nil, "DataDir": c.DataDir == "", "RunDir": c.RunDir == "",
		"PodCIDRs": len(c.PodCIDRs) == 0, "Images": c.Images == nil,
	} {
		if absent {
			missing = append(missing, fmt.Errorf("node: %s is not set", name))
		}
	}
	if c.Instance == "" {
		c.Instance = "default"
	}
	if c.Version == "" {
		c.Version = "unknown"
	}
	if c.ClusterDomain == "" {
		c.ClusterDomain = "cluster.local"
	}
	if c.VolumeSync == 0 {
		c.VolumeSync = time.Minute
	}
	if len(c.NodeIPs) == 0 {
		c.NodeIPs = c.network().NodeAddresses()
	}
	if c.BeforeStop == nil {
		c.BeforeStop = func(context.Context, *corev1.Pod) {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(missing...)
}

func (c *Config) network() network.Config {
	return network.Config{Instance: c.Instance, RunDir: c.RunDir, PodCIDRs: c.PodCIDRs, ServiceCIDRs: c.ServiceCIDRs}
}

// The directories of a Pod. Only these functions know them.

func podsDir(dir string) string             { return filepath.Join(dir, "pods") }
func (c *Config) podRun(uid string) string  { return filepath.Join(podsDir(c.RunDir), uid) }
func (c *Config) podData(uid string) string { return filepath.Join(podsDir(c.DataDir), uid) }
