package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
)

// endpointChange measures, with many Services present, from the moment when the API has acknowledged a changed EndpointSlice to the moment
// when the kernel says that a new generation of its rules is committed. The kernel's own notification is the clock, so the same
// measure fits every program that writes nftables.
func (b *bench) endpointChange(ctx context.Context) (err error) {
	c, err := b.newCluster()
	if err != nil {
		return err
	}
	defer func() {
		if derr := c.down(ctx); err == nil {
			err = derr
		}
	}()
	if err := c.up(ctx); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig())
	if err != nil {
		return err
	}
	cfg.QPS = -1
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	var others *peer
	if b.kubeProxy != "" {
		if others, err = b.startPeer(ctx, c, client); err != nil {
			return err
		}
		defer others.stop()
	}
	begin := time.Now()
	if err := b.fill(ctx, client); err != nil {
		return err
	}
	fmt.Printf("created %d Services of %d endpoints: %.1f s\n", b.services, b.endpoints, time.Since(begin).Seconds())
	ours, err := watchCommits(0)
	if err != nil {
		return err
	}
	defer ours.Close()
	watched := []*commits{ours}
	if others != nil {
		watched = append(watched, others.commits)
	}
	for _, w := range watched {
		if err := w.quiet(3 * time.Second); err != nil {
			return err
		}
	}
	ms := make([][]float64, len(watched))
	for i := range b.changes {
		ds, err := b.oneChange(ctx, client, watched, i)
		if err != nil {
			return err
		}
		for k, d := range ds {
			ms[k] = append(ms[k], float64(d.Microseconds())/1000)
		}
	}
	for k, who := range []string{"fairway", "kube-proxy"}[:len(ms)] {
		fmt.Printf("endpoint change to kernel, %d Services of %d endpoints, %d changes, %s: p50 %.2f ms, p90 %.2f ms, p99 %.2f ms\n",
			b.services, b.endpoints, b.changes, who, median(ms[k]), percentile(ms[k], 90), percentile(ms[k], 99))
	}
	fmt.Printf("memory with them: %.0f MiB\n", rssMiB(c.cmd.Process.Pid))
	for _, p := range []int{50, 99} {
		figure := fmt.Sprintf("endpoint-change-to-kernel-p%d", p)
		if others == nil {
			b.result(figure, percentile(ms[0], p), "ms")
		} else {
			b.resultBeside(figure, percentile(ms[0], p), percentile(ms[1], p), "ms")
		}
	}
	return nil
}

// fill creates the Services with hand-written slices: their endpoints are nobody's addresses, and nothing is sent to them.
func (b *bench) fill(ctx context.Context, client kubernetes.Interface) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range b.services {
		g.Go(func() error {
			name := fmt.Sprintf("bench-%05d", i)
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
				Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
			}}
			if _, err := client.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
				return err
			}
			slice := &discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
				Endpoints:   b.endpointsOf(i),
			}
			_, err := client.DiscoveryV1().EndpointSlices("default").Create(ctx, slice, metav1.CreateOptions{})
			return err
		})
	}
	return g.Wait()
}

func (b *bench) endpointsOf(service int) (out []discoveryv1.Endpoint) {
	for k := range b.endpoints {
		n := service*b.endpoints + k
		out = append(out, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.245.%d.%d", n/250%250, 1+n%250)},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		})
	}
	return out
}

// oneChange replaces one endpoint of one slice, and gives how long each watched kernel took to have it.
func (b *bench) oneChange(ctx context.Context, client kubernetes.Interface, watched []*commits, i int) ([]time.Duration, error) {
	api := client.DiscoveryV1().EndpointSlices("default")
	name := fmt.Sprintf("bench-%05d-1", i*7919%b.services)
	slice, err := api.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	slice.Endpoints[i%len(slice.Endpoints)].Addresses = []string{fmt.Sprintf("10.246.%d.%d", i/250%250, 1+i%250)}
	for _, w := range watched {
		w.drain()
	}
	if _, err := api.Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
		return nil, err
	}
	returned := time.Now()
	limit := time.After(time.Minute)
	var took []time.Duration
	for _, w := range watched {
		select {
		case at := <-w.at:
			took = append(took, max(0, at.Sub(returned))) // the watch may be faster than the answer to who wrote
		case <-limit:
			return nil, fmt.Errorf("endpointslice %s: no commit in the kernel a minute after the change", name)
		}
	}
	return took, nil
}

// commits tells when the kernel of a network namespace commits a generation of nftables rules.
type commits struct {
	conn *netlink.Conn
	at   chan time.Time
}

// watchCommits watches the network namespace of that descriptor, or with 0 this process's own.
func watchCommits(namespace int) (*commits, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: namespace})
	if err != nil {
		return nil, fmt.Errorf("nftables notifications: %w", err)
	}
	// A full load is one burst; what does not fit is only a notification less.
	_ = conn.SetReadBuffer(64 << 20)
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		conn.Close()
		return nil, fmt.Errorf("nftables notifications: %w", err)
	}
	c := &commits{conn: conn, at: make(chan time.Time, 1024)}
	go func() {
		for {
			msgs, err := conn.Receive()
			if errors.Is(err, unix.ENOBUFS) {
				continue
			}
			if err != nil {
				return
			}
			now := time.Now()
			for _, m := range msgs {
				if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
					select {
					case c.at <- now:
					default:
					}
				}
			}
		}
	}()
	return c, nil
}

func (c *commits) Close() { c.conn.Close() }

func (c *commits) drain() {
	for {
		select {
		case <-c.at:
		default:
			return
		}
	}
}

// quiet waits until nothing was committed for a while: the load is in.
func (c *commits) quiet(d time.Duration) error {
	limit := time.After(5 * time.Minute)
	for {
		select {
		case <-c.at:
		case <-time.After(d):
			return nil
		case <-limit:
			return fmt.Errorf("the kernel's rules do not come to rest")
		}
	}
}
