package questions

import "strings"

// Key is what is asked.
type Key struct{ Name, Type string }

// Key gives what a row asks.
func (q *Question) Key() Key { return Key{q.Name, q.Type} }

// Answer is the answer that is wanted, written out.
func (q *Question) Answer() string { return written(q.Want) }

// Forwarded tells whether an upstream is needed for the answer.
func (q *Question) Forwarded() bool { return strings.HasPrefix(q.Want, "<out>") }

func written(want string) string {
	return strings.ReplaceAll(strings.TrimPrefix(want, "<out>"), "~", "svc.cluster.local.")
}

// OffAPI are the objects of Fixture that no API server takes: what older ones left behind, or what another says while it changes.
var OffAPI = map[string]bool{
	"testns/portless": true, "testns/ext2dual": true, "gone/orphan-a": true,
}

// OffAPI tells whether a row is about an object that no API server takes, or that one changes.
func (q *Question) OffAPI() bool {
	for _, l := range []string{"portless.", "ext2dual.", "orphan.", "pending."} {
		if strings.Contains(q.Name, l) {
			return true
		}
	}
	return false
}

// Other is an answer that differs on purpose, and the row of docs/differences.md with the reason.
type Other struct{ Row, Want string }

// Answer is the answer, written out.
func (o *Other) Answer() string { return written(o.Want) }

// CoreDNS has what CoreDNS 1.15 answers where Fairway answers otherwise.
var CoreDNS = map[Key]Other{
	{"_._tcp.plain.testns.svc.cluster.local", "SRV"}: {"a port without a name, asked for as `_._tcp`",
		"NOERROR aa: @ SRV 0 100 80 plain.testns.~ + plain.testns.~ A 10.0.0.6"},
	{"_tcp.svc1.testns.svc.cluster.local", "SRV"}: {emptyNames, "NXDOMAIN aa: ; SOA cluster.local."},
	{"dns.cluster.local", "A"}:                    {emptyNames, "NXDOMAIN aa: ; SOA cluster.local."},
	{"dns-version.cluster.local", "A"}:            {"`dns-version`, asked for another type than TXT", "NXDOMAIN aa: ; SOA cluster.local."},
	{"1.0.0.10.in-addr.arpa", "A"}:                {"a cluster IP's reverse name, asked for another type than PTR", "NXDOMAIN:"},
	{"01.0.0.10.in-addr.arpa", "PTR"}:             {noService, "NOERROR: @ PTR upstream.test."},
	{"77.0.0.10.in-addr.arpa", "PTR"}:             {noService, "NOERROR: @ PTR upstream.test."},
	{"0.0.10.in-addr.arpa", "PTR"}:                {noService, "NOERROR: @ PTR upstream.test."},
	{"5.1.0.0.10.in-addr.arpa", "PTR"}:            {noService, "NOERROR: @ PTR upstream.test."},
	{"ip6.arpa", "PTR"}:                           {reverseZones, "NOERROR aa: ; SOA ip6.arpa."},
	{"10.in-addr.arpa", "SOA"}:                    {reverseZones, "NOERROR aa: ; SOA in-addr.arpa."},
	{"cluster.local", "TXT"}:                      {"the zone itself, asked for TXT", "NXDOMAIN aa: ; SOA cluster.local."},
	{"_http._tcp.hdls1.testns.svc.cluster.local", "SRV"}: {"the weight of SRV records while two slices have one endpoint",
		"NOERROR aa: @ SRV 0 12 80 172-0-0-2.hdls1.testns.~ | @ SRV 0 12 80 172-0-0-3.hdls1.testns.~ | @ SRV 0 12 80 5678-abcd--1.hdls1.testns.~ | @ SRV 0 12 80 5678-abcd--2.hdls1.testns.~ | @ SRV 0 12 80 dup-name.hdls1.testns.~ | @ SRV 0 12 80 pod-a.hdls1.testns.~" +
			" + 172-0-0-2.hdls1.testns.~ A 172.0.0.2 | 172-0-0-3.hdls1.testns.~ A 172.0.0.3 | 5678-abcd--1.hdls1.testns.~ AAAA 5678:abcd::1 | 5678-abcd--2.hdls1.testns.~ AAAA 5678:abcd::2 | dup-name.hdls1.testns.~ A 172.0.0.4 | dup-name.hdls1.testns.~ A 172.0.0.5 | pod-a.hdls1.testns.~ A 172.0.0.6"},
	{"extmissing.testns.svc.cluster.local", "A"}:   {failedTarget, "NOERROR aa: @ CNAME missing.interwebs.test."},
	{"extbroken.testns.svc.cluster.local", "A"}:    {failedTarget, "NOERROR aa: @ CNAME broken.interwebs.test."},
	{"cluster.local", "NS"}:                        {nameServer, "NOERROR aa: ; SOA cluster.local."},
	{"ns.dns.cluster.local", "A"}:                  {nameServer, "NOERROR aa: ; SOA cluster.local."},
	{"example.com", "AXFR"}:                        {"a transfer (AXFR, IXFR) of other people's zones", "NOERROR: @ A 5.6.7.8"},
	{"x.10-240-0-1.testns.pod.cluster.local", "A"}: {"one more label in front of a Pod's name", "NOERROR aa: @ A 10.240.0.1"},
}

const (
	emptyNames   = "names that only hold others, such as `_tcp.web.default.svc`"
	failedTarget = "an ExternalName whose target does not exist, or cannot be found out"
	reverseZones = "`in-addr.arpa` and `ip6.arpa` themselves, and the SOA record of what is below"
	noService    = "reverse names of the Service ranges that no Service has"
	nameServer   = "who the zone's name server is, where CoreDNS is at no endpoint"
)
