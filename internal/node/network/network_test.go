package network_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/nodetest"
)

func TestMain(m *testing.M) { nodetest.Main(m) }

func config(t *testing.T, instance string) network.Config {
	return network.Config{
		Instance: instance, RunDir: t.TempDir(),
		PodCIDRs:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/108")},
	}
}

// picture is all of this namespace's network that Setup could change.
func picture(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, command := range []string{"ip -o link", "ip -o addr", "ip route show table all", "ip -6 route show table all", "nft list ruleset"} {
		args := strings.Fields(command)
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		fmt.Fprintf(&b, "%s:\n%s", command, out)
	}
	for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/lo/accept_ra"} {
		value, err := os.ReadFile("/proc/sys/net/" + path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s = %s", path, value)
	}
	return b.String()
}

// The tests of this package change the namespace that they share, so they run one after the other.

func TestSetupAndTeardown(t *testing.T) {
	nodetest.Need(t)
	before := picture(t)
	for _, instance := range []string{"default", "a-long-name-for-an-instance"} {
		c := config(t, instance)
		for range 2 { // the second call repairs and changes nothing
			if err := network.Setup(c); err != nil {
				t.Fatal(err)
			}
		}
		sandbox, err := network.CreateSandbox(c, "pod", addresses("10.244.0.2", "fd00:10:244::2"))
		if err != nil {
			t.Fatal(err)
		}
		if !sandbox.Exists() {
			t.Error("the Pod has no namespace")
		}
		if got := picture(t); !strings.Contains(got, "ipv4/ip_forward = 1") || !strings.Contains(got, "ipv6/conf/all/forwarding = 1") {
			t.Errorf("forwarding is off:\n%s", got)
		}
		if err := network.Teardown(instance, c.RunDir); err != nil {
			t.Fatal(err)
		}
		if after := picture(t); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if sandbox.Exists() {
			t.Error("the Pod's namespace is left")
		}
		if err := network.Teardown(instance, c.RunDir); err != nil {
			t.Errorf("a second time: %v", err)
		}
	}
}

func TestNothingLeavesForServicesAndPods(t *testing.T) {
	nodetest.Need(t)
	c := config(t, "default")
	if err := network.Setup(c); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = network.Teardown(c.Instance, c.RunDir) }()
	// A default route such as a machine has: only the routes of Setup keep these addresses from it.
	run(t, "ip link add uplink type veth peer name peer")
	defer run(t, "ip link del uplink")
	run(t, "ip link set uplink up")
	run(t, "ip link set peer up")
	run(t, "ip addr add 192.0.2.1/24 dev uplink")
	run(t, "ip route add default via 192.0.2.2")
	run(t, "ip -6 route add default via fe80::2 dev uplink")
	for _, test := range []struct{ address, want string }{
		{"10.244.0.77", "unreachable"}, {"fd00:10:244::77", "unreachable"},
		{"10.96.3.4", "dev fairway0 src 10.244.0.1"}, {"fd00:10:96::4", "dev fairway0 src fd00:10:244::1"},
		{"198.51.100.1", "via 192.0.2.2 dev uplink"},
	} {
		out, _ := exec.Command("ip", "route", "get", test.address).CombinedOutput() // fails for an unreachable address
		if got := strings.Join(strings.Fields(string(out)), " "); !strings.Contains(got, test.want) && !strings.Contains(got, "No route to host") {
			t.Errorf("%s goes %q, want %q", test.address, got, test.want)
		}
	}
	run(t, "ip link del fairway0")
	for _, address := range []string{"10.96.3.4", "fd00:10:96::4"} {
		if out, err := exec.Command("ip", "route", "get", address).CombinedOutput(); err == nil && !strings.Contains(string(out), "unreachable") {
			t.Errorf("without the device %s goes %s", address, out)
		}
	}
}

// Whoever removes the device or sets it down takes the routes to all Services away, of both families: they come back by themselves.
func TestKeepRepairs(t *testing.T) {
	nodetest.Need(t)
	c := config(t, "default")
	if err := network.Setup(c); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = network.Teardown(c.Instance, c.RunDir) }()
	before := picture(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- network.Keep(ctx, c, slog.New(slog.DiscardHandler)) }()
	for _, harm := range []string{"ip link del fairway0", "ip link set fairway0 down", "ip link del fairway0"} {
		run(t, harm)
		for _, want := range [][2]string{{"10.96.3.4", "dev fairway0 src 10.244.0.1"}, {"fd00:10:96::4", "dev fairway0 src fd00:10:244::1"}} {
			got := ""
			for deadline := time.Now().Add(10 * time.Second); !strings.Contains(got, want[1]); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s: %s goes %q, want %q", harm, want[0], got, want[1])
				}
				out, _ := exec.Command("ip", "route", "get", want[0]).CombinedOutput() // fails as long as there is no route
				got = strings.Join(strings.Fields(string(out)), " ")
			}
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Keep ended with %v", err)
	}
	if err := network.Teardown(c.Instance, c.RunDir); err != nil {
		t.Error(err)
	}
	if after := picture(t); strings.Contains(after, "fairway0") {
		t.Errorf("before:\n%s\nafter it was repaired and taken down:\n%s", before, after)
	}
}

func run(t *testing.T, command string) {
	t.Helper()
	args := strings.Fields(command)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

func addresses(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func TestPodsReachEachOtherAndTheMachine(t *testing.T) {
	nodetest.Need(t)
	c := config(t, "default")
	if err := network.Setup(c); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = network.Teardown(c.Instance, c.RunDir) }()
	one, err := network.CreateSandbox(c, "one", addresses("10.244.0.2", "fd00:10:244::2"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := network.CreateSandbox(c, "two", addresses("10.244.0.3", "fd00:10:244::3"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, at, from string // "": the machine
		address, seen  string
	}{
		{"machine to Pod", one.Path, "", "10.244.0.2", "10.244.0.1"},
		{"machine to Pod, IPv6", one.Path, "", "fd00:10:244::2", "fd00:10:244::1"},
		{"Pod to Pod", two.Path, one.Path, "10.244.0.3", "10.244.0.2"},
		{"Pod to Pod, IPv6", two.Path, one.Path, "fd00:10:244::3", "fd00:10:244::2"},
		{"Pod to machine", "", two.Path, "10.244.0.1", "10.244.0.3"},
		{"Pod to machine, IPv6", "", two.Path, "fd00:10:244::1", "fd00:10:244::3"},
	} {
		if got := seen(t, test.at, test.from, test.address); got != test.seen {
			t.Errorf("%s: the server sees %s, want %s", test.name, got, test.seen)
		}
	}
	if err := network.DeleteSandbox(two); err != nil {
		t.Fatal(err)
	}
	if err := network.DeleteSandbox(two); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// seen connects from one namespace to a server in another and returns the address that the server sees.
func seen(t *testing.T, at, from, address string) string {
	t.Helper()
	var listener net.Listener
	inside(t, at, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(address, "0"))
		return err
	})
	defer listener.Close()
	inside(t, from, func() error {
		conn, err := net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second)
		if err == nil {
			defer conn.Close()
		}
		return err
	})
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	return netip.MustParseAddrPort(server.RemoteAddr().String()).Addr().String()
}

func TestPodsTalkToTheOutsideUnderTheMachinesAddress(t *testing.T) {
	nodetest.Need(t)
	c := config(t, "default")
	if err := network.Setup(c); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = network.Teardown(c.Instance, c.RunDir) }()
	pod, err := network.CreateSandbox(c, "pod", addresses("10.244.0.2", "fd00:10:244::2"))
	if err != nil {
		t.Fatal(err)
	}
	// The outside is a namespace of its own, at the other end of a link.
	run(t, "ip netns add outside-"+t.Name())
	defer run(t, "ip netns del outside-"+t.Name())
	outside := "/run/netns/outside-" + t.Name()
	run(t, "ip link add uplink type veth peer name peer netns outside-"+t.Name())
	defer run(t, "ip link del uplink")
	run(t, "ip link set uplink up")
	run(t, "ip addr add 192.0.2.1/24 dev uplink")
	run(t, "ip -n outside-"+t.Name()+" link set peer up")
	run(t, "ip -n outside-"+t.Name()+" addr add 192.0.2.2/24 dev peer")
	if got := seen(t, outside, pod.Path, "192.0.2.2"); got != "192.0.2.1" {
		t.Errorf("the outside sees %s, want the machine's 192.0.2.1", got)
	}
}

func TestAllocator(t *testing.T) {
	small := netip.MustParsePrefix("10.0.0.0/29") // .2 to .6 are for Pods
	a := network.NewAllocator([]netip.Prefix{small})
	a.Reserve(addresses("10.0.0.3"))
	take := func() string {
		t.Helper()
		got, err := a.Allocate()
		if err != nil {
			t.Fatal(err)
		}
		return got[0].String()
	}
	for _, want := range []string{"10.0.0.4", "10.0.0.5"} {
		if got := take(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	a.Release(addresses("10.0.0.4"))
	for _, want := range []string{"10.0.0.6", "10.0.0.2", "10.0.0.4"} { // the one given back comes last
		if got := take(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if _, err := a.Allocate(); !errors.Is(err, network.ErrNoAddress) {
		t.Errorf("a full CIDR: %v", err)
	}
	dual := network.NewAllocator([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/30"), netip.MustParsePrefix("fd00::/64")})
	if got, err := dual.Allocate(); err != nil || fmt.Sprint(got) != "[10.0.0.2 fd00::2]" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := dual.Allocate(); !errors.Is(err, network.ErrNoAddress) {
		t.Errorf("a full IPv4 CIDR: %v", err)
	}
	dual.Release(addresses("10.0.0.2", "fd00::2"))
	if got, err := dual.Allocate(); err != nil || got[0].String() != "10.0.0.2" {
		t.Errorf("after a release: %v, %v", got, err)
	}
}
