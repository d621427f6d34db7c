package model

import "strings"

// Name identifies a namespaced object: namespace and name as in the API's metadata. Cluster-scoped rows leave Namespace
// empty. It is comparable and fit to be a map key.
type Name struct {
	Namespace, Name string
}

// String gives "namespace/name", or "name" for a cluster-scoped object.
func (n Name) String() string {
	if n.Namespace == "" {
		return n.Name
	}
	return n.Namespace + "/" + n.Name
}

// Compare orders names by namespace, then by name.
func (n Name) Compare(o Name) int {
	if c := strings.Compare(n.Namespace, o.Namespace); c != 0 {
		return c
	}
	return strings.Compare(n.Name, o.Name)
}
