package nft_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairway.dev/fairway/internal/dataplane/nft"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"
)

// TestBalance opens 100,000 flows to a Service and counts which backend gets each. The counts must be what equal chances give: by the
// chi-square test, a fair kernel fails once in a million.
func TestBalance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		backends int
		affinity time.Duration // then each flow is of another client
	}{{2, 0}, {3, 0}, {7, 0}, {100, 0}, {1000, 0}, {7, time.Hour}} {
		t.Run(fmt.Sprintf("backends=%d,affinity=%s", c.backends, c.affinity), func(t *testing.T) {
			t.Parallel()
			const flows = 100_000
			counts := spread(t, c.backends, c.affinity, flows)
			total := 0
			for _, n := range counts {
				total += n
			}
			// A busy machine may lose some on the wire between the namespaces, whichever backend they are for.
			if len(counts) != c.backends || total < flows/2 {
				t.Fatalf("%d flows arrived at %d backends, want %d at %d", total, len(counts), flows, c.backends)
			}
			if x, limit := chiSquare(counts), chiSquareLimit(c.backends-1); x > limit {
				t.Errorf("chi-square of %d backends is %.1f, at most %.1f is by chance; %v", c.backends, x, limit, counts)
			}
		})
	}
}

// TestChiSquare holds that the test of the balance sees what is not even, and passes what is.
func TestChiSquare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		counts []int
		even   bool
	}{
		{[]int{50_000, 50_000}, true}, {[]int{50_300, 49_700}, true}, {[]int{51_000, 49_000}, false},
		{[]int{33_400, 33_300, 33_300}, true}, {[]int{34_500, 32_750, 32_750}, false}, {[]int{100_000, 0}, false},
	} {
		if x, limit := chiSquare(c.counts), chiSquareLimit(len(c.counts)-1); x <= limit != c.even {
			t.Errorf("%v: chi-square %.1f, limit %.1f, want even: %v", c.counts, x, limit, c.even)
		}
	}
}

func chiSquare(counts []int) (x float64) {
	total := 0
	for _, n := range counts {
		total += n
	}
	fair := float64(total) / float64(len(counts))
	for _, n := range counts {
		x += (float64(n) - fair) * (float64(n) - fair) / fair
	}
	return x
}

// chiSquareLimit is what chi-square exceeds with probability 1e-6, a little more for few degrees of freedom: the approximation of
// Wilson and Hilferty.
func chiSquareLimit(degrees int) float64 {
	const sigmas = 4.7534 // of the normal distribution, one-sided
	d := 2 / (9 * float64(degrees))
	return float64(degrees) * math.Pow(1-d+sigmas*math.Sqrt(d), 3)
}

// spread sends the first packets of as many flows through a node to a Service, and counts where they arrive: in a network namespace that is
// the client and all backends.
func spread(t *testing.T, backends int, affinity time.Duration, flows int) (counts []int) {
	node, others := testkit.NewNetNS(t), testkit.NewNetNS(t)
	node.Sysctl("net/ipv4/ip_forward", "1")
	for _, s := range []string{"all", "default"} {
		node.Sysctl("net/ipv4/conf/"+s+"/rp_filter", "0")
		node.Sysctl("net/ipv4/conf/"+s+"/send_redirects", "0")
	}
	testkit.Join(node, "eth0", others, "eth0")
	node.AddAddr("eth0", "192.0.2.1/24")
	others.AddAddr("eth0", "192.0.2.2/24")
	node.AddRoute("10.0.0.0/8", "192.0.2.2", "eth0")
	others.AddRoute("10.96.0.0/16", "192.0.2.1", "eth0")
	others.Run("nft", `table ip count {
	set hits { type ipv4_addr; flags dynamic; size 65536; }
	chain all-in { type filter hook prerouting priority raw; update @hits { ip daddr counter } drop; }
}`)

	svc := &model.Service{
		Name: model.Name{Namespace: "default", Name: "s"}, Type: model.ClusterIP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		Ports: []model.Port{{Protocol: model.UDP, Port: 53}}, Affinity: affinity,
	}
	sl := &model.EndpointSlice{Name: model.Name{Namespace: "default", Name: "s-1"}, Service: svc.Name, Ports: []model.EndpointPort{{Protocol: model.UDP, Port: 53}}}
	for i := range backends {
		sl.Endpoints = append(sl.Endpoints, model.Endpoint{Addr: netip.AddrFrom4([4]byte{10, 245, byte(i >> 8), byte(i)}), Ready: true, Serving: true})
	}
	st := store.New()
	cfg := nft.Config{Node: "n", ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	stop := runIn(t, node, st, cfg)
	defer stop()
	rev, _ := st.Update(func(t *store.Txn) error { t.PutService(svc); t.PutSlice(sl); return nil })
	settled(t, st, rev)

	var fd int
	var err error
	others.Do(func() { fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW) })
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := []byte{
		4<<4 | 5, 0, 0, 28, 0, 0, 0x40, 0, 64, byte(model.UDP), 0, 0, 10, 0, 0, 0, 10, 96, 0, 1, // the kernel fills the checksum in
		0, 0, 0, 53, 0, 8, 0, 0, // UDP without one
	}
	for i := range flows {
		p[13] = byte(1 + i>>15)
		binary.BigEndian.PutUint16(p[20:], uint16(1<<15+i&(1<<15-1)))
		if affinity > 0 {
			p[13], p[14], p[15] = byte(1+i>>16), byte(i>>8), byte(i)
		}
		if err := unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: [4]byte{10, 96, 0, 1}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range regexp.MustCompile(`10\.245\.[0-9.]+ counter packets (\d+)`).FindAllStringSubmatch(others.Run("nft", "list", "set", "ip", "count", "hits"), -1) {
		n, _ := strconv.Atoi(m[1])
		counts = append(counts, n)
	}
	return counts
}
