package model

import "time"

// Ingress is one networking/v1 Ingress.
type Ingress struct {
	Name Name
	// UID is metadata.uid, which Events name.
	UID string
	// Class is spec.ingressClassName, or the annotation kubernetes.io/ingress.class where the field is not set, or "".
	Class string
	// Created orders Ingresses that claim the same host and path: the oldest one wins, then the smaller name.
	Created time.Time
	// Default is spec.defaultBackend, or nil.
	Default *IngressBackend
	Rules   []IngressRule
	TLS     []IngressTLS
	// Annotations are all of the object's annotations; never nil.
	Annotations map[string]string
	// Secrets and ConfigMaps are those that annotations name, in its own namespace, whether they exist or not.
	Secrets, ConfigMaps []Name
}

// IngressRule is one rule. A rule without Paths sends all of its host to the Ingress's default backend.
type IngressRule struct {
	// Host is "" (every host), a name, or "*." and a name, in lower case.
	Host  string
	Paths []IngressPath
}

// PathType is networking/v1 PathType.
type PathType string

// The path types of networking/v1.
const (
	PathExact                  PathType = "Exact"
	PathPrefix                 PathType = "Prefix"
	PathImplementationSpecific PathType = "ImplementationSpecific"
)

// IngressPath is one path of a rule.
type IngressPath struct {
	Path    string
	Type    PathType
	Backend IngressBackend
}

// IngressBackend names a port of a Service in the Ingress's own namespace, or another resource.
type IngressBackend struct {
	Service string
	// Exactly one of PortName and PortNumber is set when Service is.
	PortName   string
	PortNumber uint16
	// Resource is "group/kind/name" of a resource backend, which Fairway does not serve, or "".
	Resource string
}

// IngressTLS gives the certificate for some hosts.
type IngressTLS struct {
	Hosts []string
	// Secret is the name of a Secret in the Ingress's namespace; "" asks for the listener's own certificate.
	Secret string
}

// IngressController is the value of IngressClass spec.controller that makes a class ours.
const IngressController = "fairway.dev/ingress"

// IngressClass is one networking/v1 IngressClass.
type IngressClass struct {
	Name, Controller string
	Default          bool
	// Created decides between several defaults.
	Created time.Time
	// Parameters is spec.parameters, or nil.
	Parameters *ClassParameters
}

// ClassParameters names the object that holds the parameters of a class.
type ClassParameters struct {
	// Group is "" for the core group.
	Group, Kind string
	// Name has no namespace if the scope is Cluster.
	Name Name
}

// Secret is one Secret that an annotation of an Ingress names; others have no row.
type Secret struct {
	Name Name
	Data map[string][]byte
}

// ConfigMap is one ConfigMap that an annotation of an Ingress or the parameters of an IngressClass name; others have no row.
type ConfigMap struct {
	Name Name
	Data map[string]string
}

// Certificate is one Secret of type kubernetes.io/tls, as PEM.
type Certificate struct {
	Name      Name
	Cert, Key []byte
}
