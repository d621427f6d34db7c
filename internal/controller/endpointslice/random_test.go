package endpointslice

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// randomWorld is the objects of a random history, by name. An object is replaced, never changed.
type randomWorld struct {
	nodes    map[string]*corev1.Node
	services map[string]*corev1.Service
	pods     map[string]*corev1.Pod
}

// step makes some changes: often few, sometimes many.
func (w *randomWorld) step(r *rand.Rand) {
	for i := range 5 {
		name := fmt.Sprintf("n%d", i)
		switch {
		case w.nodes[name] == nil && r.IntN(2) == 0, w.nodes[name] != nil && r.IntN(8) == 0:
			w.nodes[name] = randomNode(r, name)
		case r.IntN(15) == 0:
			delete(w.nodes, name)
		}
	}
	for _, name := range []string{"web", "some"} {
		old := w.services[name]
		if old != nil && r.IntN(3) > 0 {
			continue
		}
		svc := randomService(r, name)
		if old != nil && r.IntN(6) > 0 { // changed, not made anew
			svc.UID, svc.CreationTimestamp, svc.Spec.ClusterIP = old.UID, old.CreationTimestamp, old.Spec.ClusterIP // a Service does not become headless
		}
		w.services[name] = svc
		if r.IntN(12) == 0 {
			delete(w.services, name)
		}
	}
	most := []int{2, 20, 20, 230}[r.IntN(4)]
	for i := range most {
		name := fmt.Sprintf("web-%d", i)
		switch {
		case r.IntN(8) == 0:
			delete(w.pods, name)
		case w.pods[name] == nil || r.IntN(10) == 0:
			w.pods[name] = randomPod(r, name, i)
		}
	}
	if r.IntN(6) == 0 { // down to a few
		for name := range maps.Clone(w.pods) {
			if r.IntN(20) > 0 {
				delete(w.pods, name)
			}
		}
	}
}

func randomNode(r *rand.Rand, name string) *corev1.Node {
	n := aNode(name, []string{"z1", "z2", "z3", "z1", "z2", "z3", "z2", "z3", ""}[r.IntN(9)])
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse}[r.IntN(4)]}}
	if r.IntN(10) > 0 {
		n.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: *resource.NewMilliQuantity(int64(1000*(1+r.IntN(4))), resource.DecimalSI)}
	}
	if r.IntN(8) == 0 {
		metav1.SetMetaDataLabel(&n.ObjectMeta, []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}[r.IntN(2)], "")
	}
	return n
}

func randomService(r *rand.Rand, name string) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, UID: types.UID(fmt.Sprintf("uid-%s-%d", name, r.IntN(1000))),
		CreationTimestamp: metav1.NewTime(epoch.Add(time.Duration(r.IntN(100)) * time.Second)), Labels: map[string]string{}, Annotations: map[string]string{},
	}}
	svc.Spec.Selector = map[string]string{"app": "web"}
	if name == "some" {
		svc.Spec.Selector["v"] = fmt.Sprint(r.IntN(2))
	}
	switch r.IntN(15) {
	case 0:
		svc.Spec.Selector = nil
	case 1:
		svc.Spec.Selector = map[string]string{}
	case 2:
		svc.Spec.Type = corev1.ServiceTypeExternalName
	}
	svc.Spec.ClusterIP = []string{"10.96.0.1", "None"}[r.IntN(2)]
	svc.Spec.PublishNotReadyAddresses = r.IntN(4) == 0
	svc.Spec.IPFamilies = [][]corev1.IPFamily{{"IPv4"}, {"IPv6"}, {"IPv4", "IPv6"}, {"IPv6", "IPv4"}, nil}[r.IntN(5)]
	if r.IntN(2) == 0 {
		svc.Spec.TrafficDistribution = new([]string{
			corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode, "Other",
		}[r.IntN(4)])
	}
	for _, key := range []string{corev1.AnnotationTopologyMode, corev1.DeprecatedAnnotationTopologyAwareHints} {
		if r.IntN(3) == 0 {
			svc.Annotations[key] = []string{"Auto", "auto", "Auto", "Disabled", ""}[r.IntN(5)]
		}
	}
	for i := range r.IntN(3) {
		svc.Labels[fmt.Sprintf("l%d", i)] = fmt.Sprint(r.IntN(2))
	}
	if r.IntN(5) == 0 {
		svc.Labels[corev1.IsHeadlessService] = "users-own"
	}
	ports := 1 + r.IntN(2)
	if svc.Spec.ClusterIP == "None" && r.IntN(4) == 0 {
		ports = 0
	}
	for i := range ports {
		p := corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: int32(80 + i), Protocol: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(2)]}
		p.TargetPort = []intstr.IntOrString{intstr.FromInt32(8080), intstr.FromString("named"), intstr.FromString("sidecar")}[r.IntN(3)]
		if r.IntN(3) == 0 {
			p.AppProtocol = new("kubernetes.io/h2c")
		}
		svc.Spec.Ports = append(svc.Spec.Ports, p)
	}
	return svc
}

func randomPod(r *rand.Rand, name string, i int) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(fmt.Sprintf("uid-%s-%d", name, r.IntN(1000)))}}
	p.Labels = map[string]string{"app": []string{"other", "web"}[min(r.IntN(10), 1)], "v": fmt.Sprint(r.IntN(2))}
	p.Spec.NodeName = []string{"n0", "n1", "n2", "n3", "n4", "n0", "n1", "n2", "n3", "unknown"}[r.IntN(10)]
	p.Status.Phase = []corev1.PodPhase{corev1.PodPending, corev1.PodFailed, corev1.PodSucceeded, corev1.PodRunning}[min(r.IntN(20), 3)]
	if r.IntN(8) > 0 {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprintf("10.1.%d.%d", i/250, i%250+1)})
	}
	if r.IntN(3) > 0 {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprintf("fd01::%x", i+1)})
	}
	if r.IntN(30) == 0 {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: fmt.Sprintf("010.001.%d.%d", i/250+1, i%250+1)})
	}
	if len(p.Status.PodIPs) > 0 {
		p.Status.PodIP = p.Status.PodIPs[0].IP
	}
	if r.IntN(10) > 0 {
		p.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodReady, Status: []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown}[r.IntN(4)],
			LastTransitionTime: metav1.NewTime(epoch.Add(time.Duration(r.IntN(1000)) * time.Second)),
		}}
	}
	if r.IntN(6) == 0 {
		p.DeletionTimestamp = new(metav1.NewTime(epoch))
	}
	if r.IntN(6) == 0 {
		p.Spec.Hostname, p.Spec.Subdomain = name, []string{"web", "some", "other", ""}[r.IntN(4)]
	}
	port := func(name string) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, Protocol: []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP}[r.IntN(2)], ContainerPort: int32(9000 + r.IntN(2))}
	}
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{port("named"), port("other")}}, {Ports: []corev1.ContainerPort{port("named")}}}
	p.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{port("sidecar")}}}
	if r.IntN(2) == 0 {
		p.Spec.InitContainers[0].RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	}
	return p
}
