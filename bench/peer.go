package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// peer is upstream's kube-proxy in nftables mode, as the node "peer" of the same API, in a network namespace of its own that reaches
// nothing but the API.
type peer struct {
	cmd     *exec.Cmd
	ns      *os.File
	out     *output
	commits *commits
}

// The wire between the two namespaces.
const (
	ourEnd, peerEnd   = "bench-a", "bench-b"
	ourAddr, peerAddr = "10.99.0.1", "10.99.0.2"
	apiAddr           = "10.244.0.1" // the node's own, on which the API listens for Pods
)

func (b *bench) startPeer(ctx context.Context, c *cluster, client kubernetes.Interface) (_ *peer, err error) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "peer"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.247.0.0/24"}, PodCIDR: "10.247.0.0/24"}}
	if node, err = client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: peerAddr}}
	if _, err = client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	cfg, err := clientcmd.LoadFromFile(c.kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	for _, cl := range cfg.Clusters {
		cl.Server = "https://" + apiAddr + ":6443"
	}
	kubeconfig := c.dir + "/peer.kubeconfig"
	if err := clientcmd.WriteToFile(*cfg, kubeconfig); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}

	p := &peer{out: &output{}}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	// A process holds the namespace while its links are made; it becomes kube-proxy when the link is there.
	script := `ip link set lo up; until ip link set "$1" up 2>/dev/null; do sleep 0.02; done
ip addr add "$2/30" dev "$1"; ip route add "$4/32" via "$3"; ip route add unreachable 10.96.0.0/16; shift 4; exec "$@"`
	p.cmd = exec.CommandContext(ctx, "sh", "-c", script, "sh", peerEnd, peerAddr, ourAddr, apiAddr,
		b.kubeProxy, "--kubeconfig", kubeconfig, "--proxy-mode", "nftables", "--hostname-override", "peer", "--cluster-cidr", "10.247.0.0/16",
		"--healthz-bind-address", "127.0.0.1:10256", "--metrics-bind-address", "127.0.0.1:10249", "--conntrack-max-per-core", "0",
		"--conntrack-tcp-timeout-established", "0s", "--conntrack-tcp-timeout-close-wait", "0s", "--v", "0")
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	if p.ns, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", p.cmd.Process.Pid)); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: ourEnd}, PeerName: peerEnd, PeerNamespace: netlink.NsPid(p.cmd.Process.Pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("peer: link: %w", err)
	}
	for _, args := range [][]string{{"addr", "add", ourAddr + "/30", "dev", ourEnd}, {"link", "set", ourEnd, "up"}} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("peer: ip %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	if p.commits, err = watchCommits(int(p.ns.Fd())); err != nil {
		return nil, err
	}
	// Its first commit means that it runs.
	return p, until(ctx, func() error {
		select {
		case <-p.commits.at:
			return nil
		default:
			return fmt.Errorf("kube-proxy has written nothing; it said\n%s", p.out)
		}
	})
}

func (p *peer) stop() {
	if p.commits != nil {
		p.commits.Close()
	}
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	if p.ns != nil {
		p.ns.Close()
	}
	if link, err := netlink.LinkByName(ourEnd); err == nil {
		_ = netlink.LinkDel(link)
	}
}
