package apiserver

import (
	"runtime"

	apiversion "k8s.io/apimachinery/pkg/version"
	"k8s.io/component-base/compatibility"
)

// The release of Kubernetes whose API is served: that of the k8s.io/kubernetes module in go.mod.
const (
	KubernetesVersion = "v1.37.2"
	kubernetesMajor   = "1"
	kubernetesMinor   = "37"
)

// servedVersion is the version that the server presents. Upstream's own comes from link flags of its release build; this one
// needs none.
type servedVersion struct {
	compatibility.MutableEffectiveVersion
}

func newServedVersion() servedVersion {
	return servedVersion{compatibility.NewEffectiveVersionFromString(kubernetesMajor+"."+kubernetesMinor, "", "")}
}

// Info is what /version answers.
func (servedVersion) Info() *apiversion.Info {
	return &apiversion.Info{
		Major:      kubernetesMajor,
		Minor:      kubernetesMinor,
		GitVersion: KubernetesVersion,
		GoVersion:  runtime.Version(),
		Compiler:   runtime.Compiler,
		Platform:   runtime.GOOS + "/" + runtime.GOARCH,
	}
}
