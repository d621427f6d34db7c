package node

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubernetes/pkg/kubelet/envvars"
)

// maxServiceLinks is how many bytes the variables of Services may take in a process's environment. Linux gives arguments and environment
// together a quarter of the stack's limit, 2 MiB as a rule (execve(2)), and refuses to start a program that has more; every program that
// the container starts has the same environment. A namespace of 5,000 Services would take some 2.5 MiB.
const maxServiceLinks = 1 << 20

// serviceLinks are the variables that tell a container of Services, as Docker's links once did.
type serviceLinks struct {
	// values are those of all Services: what the container's own variables and arguments may refer to.
	values map[string]string
	// excess are the names that do not go into the environment, of Services of which there are left out that many out of all.
	excess    map[string]bool
	left, all int
}

// serviceVariables are those of the Services in the Pod's namespace, unless it does not want them, and of the API itself, unless the namespace
// has a Service of that name. If that is too much for an environment, the variables of the oldest Services go in: so a new Service never takes
// another's away.
func (n *Node) serviceVariables(pod *corev1.Pod) (*serviceLinks, error) {
	links := &serviceLinks{values: map[string]string{}, excess: map[string]bool{}}
	var own []*corev1.Service
	if pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks {
		all, err := n.services.Services(pod.Namespace).List(labels.Everything())
		if err != nil {
			return nil, err
		}
		own = slices.DeleteFunc(slices.Clone(all), func(s *corev1.Service) bool { return !hasVariables(s) })
	}
	isAPI := func(s *corev1.Service) bool { return s.Name == apiService }
	if api, err := n.services.Services(metav1.NamespaceDefault).Get(apiService); err == nil && hasVariables(api) && !slices.ContainsFunc(own, isAPI) {
		own = append(own, api)
	}
	slices.SortFunc(own, func(a, b *corev1.Service) int {
		if isAPI(a) != isAPI(b) {
			return map[bool]int{true: -1, false: 1}[isAPI(a)]
		}
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	links.all = len(own)
	size := 0
	for _, s := range own {
		of := envvars.FromServices([]*corev1.Service{s})
		for _, v := range of {
			size += len(v.Name) + len("=") + len(v.Value) + len("\x00") + 8 // and a pointer to it
			links.values[v.Name] = v.Value
		}
		if size <= maxServiceLinks {
			continue
		}
		links.left++
		for _, v := range of {
			links.excess[v.Name] = true
		}
	}
	return links, nil
}

// apiService is the Service of the API itself.
const apiService = "kubernetes"

// hasVariables tells whether a Service has a cluster address, and a port to reach it at.
func hasVariables(s *corev1.Service) bool {
	return s.Spec.ClusterIP != "" && s.Spec.ClusterIP != corev1.ClusterIPNone && len(s.Spec.Ports) > 0
}

// keep says that the container has variables of its own, which are no excess whatever they are called.
func (l *serviceLinks) keep(own map[string]string) {
	for name := range own {
		delete(l.excess, name)
	}
}

// environment leaves of a container's variables those that go into its process's environment.
func (l *serviceLinks) environment(values map[string]string) map[string]string {
	if len(l.excess) == 0 {
		return values
	}
	out := maps.Clone(values)
	maps.DeleteFunc(out, func(name, _ string) bool { return l.excess[name] })
	return out
}
