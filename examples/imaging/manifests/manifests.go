// Package manifests holds the Kubernetes objects of the imaging example, embedded. A user applies the same files with
// "kubectl apply -f examples/imaging/manifests".
package manifests

import "embed"

// Files holds imaging.yaml, gallery.yaml and ingress.yaml, applied at the start, and later/probe.yaml.
//
//go:embed *.yaml later/*.yaml
var Files embed.FS
