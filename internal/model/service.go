package model

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Protocol is a transport protocol by its IANA number, as it stands in a packet.
type Protocol uint8

// The protocols a Service port may have (core/v1 Protocol).
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String gives the API's spelling: TCP, UDP or SCTP.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// ParseProtocol reads the API's spelling; "" is TCP, as the API defaults it. ok is false for anything else.
func ParseProtocol(s string) (p Protocol, ok bool) {
	switch s {
	case "", "TCP":
		return TCP, true
	case "UDP":
		return UDP, true
	case "SCTP":
		return SCTP, true
	}
	return 0, false
}

// ServiceType is core/v1 ServiceType.
type ServiceType string

// The types of core/v1.
const (
	ClusterIP    ServiceType = "ClusterIP"
	NodePort     ServiceType = "NodePort"
	LoadBalancer ServiceType = "LoadBalancer"
	ExternalName ServiceType = "ExternalName"
)

// TrafficPolicy is the value of internalTrafficPolicy and externalTrafficPolicy. The empty string means Cluster.
type TrafficPolicy string

// The two policies of core/v1.
const (
	PolicyCluster TrafficPolicy = "Cluster"
	PolicyLocal   TrafficPolicy = "Local"
)

// Service is one core/v1 Service.
type Service struct {
	Name Name
	UID  string
	// Created is metadata.creationTimestamp: of two Services that want one address, the older has it.
	Created time.Time
	Type    ServiceType

	// ClusterIPs are the addresses of spec.clusterIPs without "None"; empty for headless and ExternalName Services.
	ClusterIPs []netip.Addr
	// Headless is true when spec.clusterIP is "None".
	Headless bool
	// OtherProxy is true with the label service.kubernetes.io/service-proxy-name: another proxy serves its addresses, DNS still has its names.
	OtherProxy bool
	// ExternalName is spec.externalName, set only for that type.
	ExternalName string

	ExternalIPs []netip.Addr
	// LoadBalancerIPs are the addresses of status.loadBalancer.ingress whose ipMode is VIP or unset.
	LoadBalancerIPs []netip.Addr
	// SourceRanges limits who may reach LoadBalancerIPs; empty admits everybody.
	SourceRanges []netip.Prefix

	Ports []Port

	InternalPolicy, ExternalPolicy TrafficPolicy
	// Affinity is the timeout of sessionAffinity ClientIP; 0 means none.
	Affinity time.Duration
	// HealthCheckNodePort is 0 unless the API allocated one.
	HealthCheckNodePort uint16
	// PublishNotReady is spec.publishNotReadyAddresses.
	PublishNotReady bool
}

// Port is one port of a Service. Within a Service its identity is (Name, Protocol).
type Port struct {
	Name     string
	Protocol Protocol
	Port     uint16
	// NodePort is 0 when none is allocated.
	NodePort    uint16
	AppProtocol string
}

// Port gives the port of that name and protocol.
func (s *Service) Port(name string, p Protocol) (Port, bool) {
	for _, q := range s.Ports {
		if q.Name == name && q.Protocol == p {
			return q, true
		}
	}
	return Port{}, false
}

// String says what the Service is, on one line.
func (s *Service) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "service %s %s", s.Name, s.Type)
	switch {
	case s.Headless:
		b.WriteString(" None")
	case s.ExternalName != "":
		b.WriteString(" " + s.ExternalName)
	}
	for _, a := range s.ClusterIPs {
		b.WriteString(" " + a.String())
	}
	if s.OtherProxy {
		b.WriteString(" (of another proxy)")
	}
	for _, p := range s.Ports {
		fmt.Fprintf(&b, " %s:%d/%s", p.Name, p.Port, p.Protocol)
		if p.NodePort != 0 {
			fmt.Fprintf(&b, "@%d", p.NodePort)
		}
	}
	return b.String()
}
