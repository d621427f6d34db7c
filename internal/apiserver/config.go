package apiserver

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// Defaults of Config.
var (
	DefaultListen      = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 6443)
	DefaultServiceCIDR = netip.MustParsePrefix("10.96.0.0/12")
	DefaultNodePorts   = utilnet.PortRange{Base: 30000, Size: 2768} // 30000-32767
)

// Config says what a Server serves and where its data is.
type Config struct {
	// Dir holds all data: Dir/pki and Dir/etcd. It is created with mode 0700.
	Dir string
	// Listen are the addresses to serve on, all with TLS. The first one goes into the kubeconfig and is used by the components of
	// this process. Port 0 takes a free one. Default: 127.0.0.1:6443.
	Listen []netip.AddrPort
	// ServiceCIDRs are the ranges of cluster IPs: one, or one of each family, the default family first. Default: 10.96.0.0/12.
	ServiceCIDRs []netip.Prefix
	// NodePorts is the range of node ports. Default: 30000-32767.
	NodePorts utilnet.PortRange
	// Domain is the cluster's domain, under which Pods may know the API. Default: cluster.local.
	Domain string
	// NoSync leaves out the fsync of every write: faster on slow disks, and the data is lost when the machine (not the process)
	// dies. For throw-away data.
	NoSync bool
	// Advertise is where Pods reach this server: what the endpoints of default/kubernetes point at. It cannot be a loopback
	// address. The zero value leaves default/kubernetes without endpoints.
	Advertise netip.AddrPort
	// Logger receives what the server, etcd and the Kubernetes libraries have to say. Default: nothing is logged.
	Logger *slog.Logger
}

// withDefaults returns the configuration with its gaps filled, or all that is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no data directory given"))
	} else if dir, err := filepath.Abs(c.Dir); err != nil {
		errs = append(errs, err)
	} else {
		c.Dir = dir
	}
	if len(c.Listen) == 0 {
		c.Listen = []netip.AddrPort{DefaultListen}
	}
	if len(c.ServiceCIDRs) == 0 {
		c.ServiceCIDRs = []netip.Prefix{DefaultServiceCIDR}
	}
	if c.NodePorts.Size == 0 {
		c.NodePorts = DefaultNodePorts
	}
	if c.Domain == "" {
		c.Domain = "cluster.local"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(c.ServiceCIDRs) > 2 || len(c.ServiceCIDRs) == 2 && c.ServiceCIDRs[0].Addr().Is4() == c.ServiceCIDRs[1].Addr().Is4() {
		errs = append(errs, fmt.Errorf("service CIDRs %v: give one, or one of each IP family", c.ServiceCIDRs))
	}
	if a := c.Advertise.Addr(); a.IsValid() && (a.IsLoopback() || a.IsUnspecified() || c.Advertise.Port() == 0) {
		errs = append(errs, fmt.Errorf("advertised address %s: Pods cannot reach it; it must be an address of the node with a port", c.Advertise))
	}
	return c, errors.Join(errs...)
}
