package endpointslice

import (
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/net"
)

// service is what of a Service decides about its slices. Rows are never changed once made.
type service struct {
	name     types.NamespacedName
	uid      types.UID
	created  time.Time
	labels   map[string]string
	selector map[string]string // empty selects every Pod
	families []discoveryv1.AddressType
	ports    []corev1.ServicePort
	// noIP is true without a cluster IP, whether None or not allocated: its slices are labelled headless.
	noIP                      bool
	publishNotReady, deleting bool
	hints                     hints
}

// hints is which hints a Service wants on its ready endpoints.
type hints int

const (
	noHints hints = iota
	zoneHints
	nodeHints // and zone hints
	// topologyHints share endpoints out among zones by their CPU.
	topologyHints
)

// pod is what of a Pod decides about endpoints.
type pod struct {
	name                      types.NamespacedName
	uid                       types.UID
	labels                    map[string]string
	addrs                     []netip.Addr
	node, hostname, subdomain string
	ready, deleting           bool
	// readyAt is when the condition Ready last changed.
	readyAt time.Time
	ports   []namedPort
}

// namedPort is a container port that a Service may ask for by name.
type namedPort struct {
	name     string
	protocol corev1.Protocol
	port     int32
}

// serviceRow has no row for Services whose endpoints are somebody else's: those of type ExternalName, and those without a selector, which is not
// the same as an empty one.
func serviceRow(o *corev1.Service) (*service, bool) {
	if o.Spec.Type == corev1.ServiceTypeExternalName || o.Spec.Selector == nil {
		return nil, false
	}
	s := &service{
		name:            types.NamespacedName{Namespace: o.Namespace, Name: o.Name},
		uid:             o.UID,
		created:         o.CreationTimestamp.Time,
		labels:          o.Labels,
		selector:        o.Spec.Selector,
		ports:           o.Spec.Ports,
		noIP:            o.Spec.ClusterIP == "" || o.Spec.ClusterIP == corev1.ClusterIPNone,
		publishNotReady: o.Spec.PublishNotReadyAddresses,
		deleting:        o.DeletionTimestamp != nil,
		hints:           hintsOf(o),
	}
	for _, f := range o.Spec.IPFamilies {
		s.families = append(s.families, discoveryv1.AddressType(f)) // the two types spell the families alike
	}
	if len(s.families) > 0 {
		return s, true
	}
	// The families are missing only in objects from before dual stack.
	switch {
	case s.noIP:
		s.families = []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}
	case net.IsIPv6String(o.Spec.ClusterIP):
		s.families = []discoveryv1.AddressType{discoveryv1.AddressTypeIPv6}
	default:
		s.families = []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
	}
	return s, true
}

// hintsOf reads the annotation, in its old spelling or its new one, before the field that came after it.
func hintsOf(o *corev1.Service) hints {
	mode, ok := o.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !ok {
		mode = o.Annotations[corev1.AnnotationTopologyMode]
	}
	switch {
	case mode == "Auto" || mode == "auto":
		return topologyHints
	case o.Spec.TrafficDistribution == nil:
		return noHints
	}
	switch *o.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return zoneHints
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return nodeHints
	}
	return noHints
}

// podRow has no row for Pods that cannot be behind a Service: those that have ended, whose address may already be another's, and those
// without an address.
func podRow(o *corev1.Pod) (*pod, bool) {
	if o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		return nil, false
	}
	p := &pod{
		name:      types.NamespacedName{Namespace: o.Namespace, Name: o.Name},
		uid:       o.UID,
		labels:    o.Labels,
		node:      o.Spec.NodeName,
		hostname:  o.Spec.Hostname,
		subdomain: o.Spec.Subdomain,
		deleting:  o.DeletionTimestamp != nil,
	}
	for _, ip := range o.Status.PodIPs {
		p.addAddr(ip.IP)
	}
	if len(o.Status.PodIPs) == 0 {
		p.addAddr(o.Status.PodIP)
	}
	if len(p.addrs) == 0 {
		return nil, false
	}
	if i := slices.IndexFunc(o.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady }); i >= 0 {
		c := &o.Status.Conditions[i]
		p.ready, p.readyAt = c.Status == corev1.ConditionTrue, c.LastTransitionTime.Time
	}
	for i := range o.Spec.Containers {
		p.addPorts(&o.Spec.Containers[i])
	}
	for i := range o.Spec.InitContainers {
		// An init container that is restarted runs beside the others: a sidecar (KEP-753).
		if c := &o.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			p.addPorts(c)
		}
	}
	return p, true
}

func (p *pod) addAddr(s string) {
	// The sloppy reader takes the leading zeros of old objects; the row holds the usual spelling.
	if a, ok := netip.AddrFromSlice(net.ParseIPSloppy(s)); ok {
		p.addrs = append(p.addrs, a.Unmap())
	}
}

func (p *pod) addPorts(c *corev1.Container) {
	for _, q := range c.Ports {
		if q.Name != "" {
			p.ports = append(p.ports, namedPort{q.Name, protocol(q.Protocol), q.ContainerPort})
		}
	}
}

// node is what of a Node decides about endpoints.
type node struct {
	zone string
	// cpu is what of the Node's CPU is for Pods, in thousandths; counts is true if it counts for its zone: the Node is ready and no control plane.
	cpu    int64
	counts bool
}

func nodeRow(o *corev1.Node) (node, bool) {
	n := node{zone: o.Labels[corev1.LabelTopologyZone], cpu: o.Status.Allocatable.Cpu().MilliValue()}
	if i := slices.IndexFunc(o.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady }); i >= 0 {
		n.counts = o.Status.Conditions[i].Status == corev1.ConditionTrue
	}
	for _, role := range []string{"control-plane", "master"} {
		if _, ok := o.Labels["node-role.kubernetes.io/"+role]; ok {
			n.counts = false
		}
	}
	return n, true
}

// ownSlice takes the slices of this controller as they are: an update must send back what it does not understand.
func ownSlice(o *discoveryv1.EndpointSlice) (*discoveryv1.EndpointSlice, bool) {
	if o.Labels[discoveryv1.LabelManagedBy] != managedBy || o.Labels[discoveryv1.LabelServiceName] == "" {
		return nil, false
	}
	sl := *o
	sl.ManagedFields = nil // the server keeps them without our sending them, and they are most of the object
	return &sl, true
}

// protocol is the API's default where none is named.
func protocol(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}
