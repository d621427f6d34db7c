package cli

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// TestParserAccepts reads values that are right.
func TestParserAccepts(t *testing.T) {
	t.Parallel()
	ports := func(ss ...string) (out []netip.AddrPort) {
		for _, s := range ss {
			out = append(out, netip.MustParseAddrPort(s))
		}
		return out
	}
	ranges := func(ss ...string) (out []netip.Prefix) {
		for _, s := range ss {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, c := range []struct {
		name string
		read func(*parser) any
		want any
	}{
		{"one address", func(p *parser) any { return p.addrs("--f", "127.0.0.1:80") }, ports("127.0.0.1:80")},
		{"two addresses", func(p *parser) any { return p.addrs("--f", "127.0.0.1:80,[::1]:80") }, ports("127.0.0.1:80", "[::1]:80")},
		{"no address", func(p *parser) any { return p.addrs("--f", "") }, ports()},
		{"off", func(p *parser) any { return p.addrs("--f", "off") }, ports()},
		{"one range", func(p *parser) any { return p.cidrs("--f", []string{"10.96.0.0/16"}) }, ranges("10.96.0.0/16")},
		{"two ranges", func(p *parser) any { return p.cidrs("--f", []string{"fd66::/112", "10.96.0.0/16"}) }, ranges("fd66::/112", "10.96.0.0/16")},
		{"servers with and without port", func(p *parser) any { return p.upstreams([]string{"192.0.2.1", "2001:db8::1", "192.0.2.2:5353"}) }, ports("192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:5353")},
		{"no servers", func(p *parser) any { return p.upstreams(nil) }, ports()},
		{"node", func(p *parser) any { return p.node("--f", "rack-1.example") }, "rack-1.example"},
		{"domain", func(p *parser) any { return p.domain("--f", "cluster.local") }, "cluster.local"},
		{"absolute domain", func(p *parser) any { return p.domain("--f", "cluster.local.") }, "cluster.local"},
		{"the smallest range", func(p *parser) any { p.roomForDNS("--f", ranges("10.96.0.0/28", "fd66::/124")); return nil }, nil},
		{"same families", func(p *parser) any {
			p.sameFamilies(ranges("10.96.0.0/16", "fd66:96::/112"), ranges("10.244.0.0/24", "fd66:244::/64"))
			return nil
		}, nil},
		{"published", func(p *parser) any { p.published("--f", ports("192.0.2.1:53", "[2001:db8::1]:53")); return nil }, nil},
		{"published nowhere", func(p *parser) any { p.published("--f", nil); return nil }, nil},
	} {
		p := &parser{}
		if got := c.read(p); p.err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, p.err, c.want)
		}
	}
}

// TestWrongFlags gives commands wrong values: each is refused with exit status 2, and the message names the flag, the value and a better one.
func TestWrongFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"up --api 6443", `--api "6443": give ADDRESS:PORT, such as 127.0.0.1:6443 or [::1]:6443`},
		{"up --api localhost:6443", `--api "localhost:6443": give ADDRESS:PORT`},
		{"up --api 127.0.0.1:0", `--api "127.0.0.1:0": give ADDRESS:PORT`},
		{"up --api 0.0.0.0:6443", `--api 0.0.0.0:6443: name the one address to listen on`},
		{"up --api [::]:6443", `--api [::]:6443: name the one address to listen on`},
		{"up --ingress-http 127.0.0.1:80,", `--ingress-http "": give ADDRESS:PORT`},
		{"up --ingress-https 443", `--ingress-https "443": give ADDRESS:PORT`},
		{"up --ingress-trusted-proxies 10.0.0.1", `--ingress-trusted-proxies "10.0.0.1": give ADDRESS/BITS`},
		{"up --service-cidr 10.96.0.0", `--service-cidr "10.96.0.0": give ADDRESS/BITS, such as 10.96.0.0/16`},
		{"up --service-cidr 10.96.0.1/16", `--service-cidr 10.96.0.1/16: the range begins at 10.96.0.0/16`},
		{"up --service-cidr 10.96.0.0/16,10.97.0.0/16", `--service-cidr: give one range, or one of IPv4 and one of IPv6`},
		{"up --service-cidr 10.96.0.0/29 --pod-cidr 10.244.0.0/24", `--service-cidr 10.96.0.0/29: too small, since cluster DNS has the tenth address; give at least 16 addresses`},
		{"up --pod-cidr fd66:1::/64,fd66:2::/64", `--pod-cidr: give one range, or one of IPv4 and one of IPv6`},
		{"up --pod-cidr 10.244.0.0/24,fd66:244::/64,10.245.0.0/24", `--pod-cidr: give one range, or one of IPv4 and one of IPv6`},
		{"up --pod-cidr 10.244.0.0/24", `--service-cidr and --pod-cidr: give ranges of the same address families for both`},
		{"up --pod-cidr fd66:244::/64,10.244.0.0/24", `--service-cidr and --pod-cidr: give the address families in the same order`},
		{"up --service-cidr 10.244.0.0/16 --pod-cidr 10.244.1.0/24", `--service-cidr 10.244.0.0/16 overlaps --pod-cidr 10.244.1.0/24`},
		{"up --dns-upstream resolver", `--dns-upstream "resolver": give ADDRESS:PORT`},
		{"up --dns-port 0", `--dns-port 0: give a port from 1 to 65535`},
		{"up --dns-port 70000", `"70000"`},
		{"up --node-name Rack_1", `--node-name "Rack_1": use lower-case letters, digits, dashes and dots`},
		{"up --cluster-domain Cluster.local", `--cluster-domain "Cluster.local": give a domain in lower case, such as cluster.local`},
		{"up now", `wrong number of arguments, ["now"]: type 'fairway up`},
		{"up --no-such-flag", `unknown flag: --no-such-flag`},
		{"agent --service-cidr 10.96.0.0/16,10.98.0.0/16,fd00::/112,10.97.0.1/16", `--service-cidr 10.97.0.1/16: the range begins at 10.97.0.0/16`},
		{"agent --service-cidr 10.96.0.0/12 --nodeport-addresses 192.0.2.1", `--nodeport-addresses "192.0.2.1": give ADDRESS/BITS`},
		{"agent --service-cidr 10.96.0.0/12 --pod-cidr 10", `--pod-cidr "10": give ADDRESS/BITS`},
		{"agent --service-cidr 10.96.0.0/12 --node-name B", `--node-name "B": use lower-case letters`},
		{"agent --service-cidr 10.96.0.0/12 --healthz-bind-address 10256", `--healthz-bind-address "10256": give ADDRESS:PORT`},
		{"agent --metrics-bind-address 10249", `--metrics-bind-address "10249": give ADDRESS:PORT`},
		{"controller --controllers endpoints", `--controllers "endpoints": there are endpointslice, endpointslicemirroring, ingressstatus`},
		{"controller --controllers ingressstatus", `--controllers ingressstatus: say with --ingress-address where clients reach the Ingress listeners`},
		{"agent --service-cidr 10.96.0.0/12 --dns-listen 0.0.0.0:53", `--dns-listen 0.0.0.0:53: give the node's own address`},
		{"agent --service-cidr 10.96.0.0/12 --dns-listen [::1]:53", `--dns-listen [::1]:53: give the node's own address`},
		{"agent --service-cidr 10.96.0.0/12 --dns-listen 192.0.2.1:53,[2001:db8::1]:54", `--dns-listen: give one port for all addresses`},
		{"agent --service-cidr 10.96.0.0/12 --dns-listen 192.0.2.1:53,192.0.2.2:53", `--dns-listen: give one address, or one of IPv4 and one of IPv6`},
		{"status -o yaml", `output "yaml" is not known: use -o json, or leave it out`},
		{"version -o yaml", `output "yaml" is not known: use -o json, or leave it out`},
		{"image build web:v1", `--binary is missing`},
		{"image build --binary web", `an argument is missing: type 'fairway image build`},
		{"down here", `wrong number of arguments, ["here"]: type 'fairway down`},
		{"nothing-like-this", `unknown command "nothing-like-this"`},
		{"image nothing-like-this", `unknown command "nothing-like-this"`},
	} {
		var out, errOut bytes.Buffer
		args := append([]string{"fairway", "--name", "test", "--data-dir", "/nonexistent/data", "--run-dir", "/nonexistent/run"}, strings.Fields(c.args)...)
		code := Main(args, strings.NewReader(""), &out, &errOut)
		said, help, _ := strings.Cut(errOut.String(), "\n")
		if code != 2 || !strings.Contains(said, c.want) || out.Len() > 0 {
			t.Errorf("fairway %s: exit status %d, %q, on stdout %q; want 2 and %q", c.args, code, said, &out, c.want)
		}
		if want := fmt.Sprintf("See 'fairway %s", strings.Fields(c.args)[0]); !strings.HasPrefix(help, want) && !strings.HasPrefix(help, "See 'fairway --help'") || strings.Count(help, "\n") != 1 {
			t.Errorf("fairway %s: the second line is %q", c.args, help)
		}
	}
}
