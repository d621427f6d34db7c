package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	goruntime "runtime"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"golang.org/x/sys/unix"
)

// Times of the node's signs of life, as the kubelet has them.
const (
	leaseSeconds   = 40
	leaseRenew     = 10 * time.Second
	statusInterval = 5 * time.Minute
)

// maxPods is how many Pods the node says it takes.
const maxPods = 110

// register makes the Node object, or brings it up to date.
func (n *Node) register(ctx context.Context) error {
	want, err := n.object()
	if err != nil {
		return fmt.Errorf("node %s: describe: %w", n.Name, err)
	}
	// Others write to the Node as well; whoever is second tries again on top of the first.
	if err := retry.RetryOnConflict(retry.DefaultRetry, func() error { return n.write(ctx, want) }); err != nil {
		return fmt.Errorf("node %s: register: %w", n.Name, err)
	}
	return nil
}

func (n *Node) write(ctx context.Context, want *corev1.Node) error {
	nodes := n.Client.CoreV1().Nodes()
	have, err := nodes.Get(ctx, n.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		if have, err = nodes.Create(ctx, want, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
			have, err = nodes.Get(ctx, n.Name, metav1.GetOptions{})
		}
	}
	if err != nil {
		return err
	}
	have = have.DeepCopy()
	if have.Labels == nil {
		have.Labels = map[string]string{}
	}
	changed := false
	for key, value := range want.Labels {
		changed = changed || have.Labels[key] != value
		have.Labels[key] = value
	}
	if have.Spec.PodCIDR == "" {
		have.Spec.PodCIDR, have.Spec.PodCIDRs, changed = want.Spec.PodCIDR, want.Spec.PodCIDRs, true
	}
	if changed {
		if have, err = nodes.Update(ctx, have, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	have.Status = mergeNodeStatus(have.Status, want.Status)
	_, err = nodes.UpdateStatus(ctx, have, metav1.UpdateOptions{})
	return err
}

// mergeNodeStatus keeps the conditions of others, and the times of those that have not changed.
func mergeNodeStatus(have, want corev1.NodeStatus) corev1.NodeStatus {
	own := want.Conditions
	want.Conditions = nil
	known := map[corev1.NodeConditionType]corev1.NodeCondition{}
	for _, c := range have.Conditions {
		known[c.Type] = c
	}
	for _, c := range own {
		if old, found := known[c.Type]; found && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
		delete(known, c.Type)
		want.Conditions = append(want.Conditions, c)
	}
	for _, c := range have.Conditions {
		if _, foreign := known[c.Type]; foreign {
			want.Conditions = append(want.Conditions, c)
		}
	}
	return want
}

// object is the Node as this machine is.
func (n *Node) object() (*corev1.Node, error) {
	resources, err := capacity(n.DataDir)
	if err != nil {
		return nil, err
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.Name, Labels: map[string]string{
			corev1.LabelHostname: n.Name, corev1.LabelOSStable: goruntime.GOOS, corev1.LabelArchStable: goruntime.GOARCH,
		}},
		Status: corev1.NodeStatus{
			Capacity: resources, Allocatable: resources, NodeInfo: n.info(),
			Conditions: conditionsAt(metav1.Now()),
		},
	}
	for _, p := range n.PodCIDRs {
		node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, p.Masked().String())
	}
	node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
	for _, ip := range n.NodeIPs {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip.String()})
	}
	node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.Name})
	if n.KubeletListen.IsValid() {
		node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(n.KubeletListen.Port())
	}
	return node, nil
}

func conditionsAt(now metav1.Time) []corev1.NodeCondition {
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{
			Type: kind, Status: status, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now,
		}
	}
	return []corev1.NodeCondition{
		condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "fairway runs Pods on this machine"),
	}
}

// capacity reads what the machine has.
func capacity(dataDir string) (corev1.ResourceList, error) {
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err != nil {
		return nil, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(dataDir, &disk); err != nil {
		return nil, err
	}
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(int64(memory.Totalram)*int64(memory.Unit), resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(disk.Blocks)*disk.Bsize, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maxPods, resource.DecimalSI),
	}, nil
}

func (n *Node) info() corev1.NodeSystemInfo {
	read := func(path string) string {
		data, _ := os.ReadFile(path) // absent on some machines: then it is not known
		return strings.TrimSpace(string(data))
	}
	var kernel unix.Utsname
	_ = unix.Uname(&kernel)
	return corev1.NodeSystemInfo{
		MachineID: read("/etc/machine-id"), SystemUUID: read("/sys/class/dmi/id/product_uuid"),
		BootID: read("/proc/sys/kernel/random/boot_id"), KernelVersion: string(bytes.TrimRight(kernel.Release[:], "\x00")),
		OSImage: osName(read("/etc/os-release")), OperatingSystem: goruntime.GOOS, Architecture: goruntime.GOARCH,
		ContainerRuntimeVersion: "fairway://runc", KubeletVersion: n.Version,
	}
}

func osName(release string) string {
	for line := range strings.Lines(release) {
		if name, found := strings.CutPrefix(line, "PRETTY_NAME="); found {
			return strings.Trim(strings.TrimSpace(name), `"`)
		}
	}
	return goruntime.GOOS
}

// heartbeat renews the node's lease and, more rarely, its status until ctx ends.
func (n *Node) heartbeat(ctx context.Context) {
	lastStatus := time.Now()
	for {
		if err := n.renewLease(ctx); err != nil && ctx.Err() == nil {
			n.Logger.Warn("node's lease not renewed", "error", err)
		}
		if time.Since(lastStatus) >= statusInterval {
			if err := n.register(ctx); err != nil && ctx.Err() == nil {
				n.Logger.Warn("node's status not written", "error", err)
			}
			lastStatus = time.Now()
		}
		if !pause(ctx, leaseRenew) {
			return
		}
	}
}

func (n *Node) renewLease(ctx context.Context) error {
	leases := n.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	seconds, now := int32(leaseSeconds), metav1.NowMicro()
	spec := coordinationv1.LeaseSpec{HolderIdentity: &n.Name, LeaseDurationSeconds: &seconds, RenewTime: &now}
	lease, err := leases.Get(ctx, n.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: n.Name}, Spec: spec}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease = lease.DeepCopy()
	lease.Spec = spec
	_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}
