package app

import "k8s.io/component-base/version"

// Version is Fairway's own version, set by the linker.
var Version = "0.1.0-dev"

// KubernetesVersion is the version of the Kubernetes API inside.
func KubernetesVersion() string { return version.Get().GitVersion }
