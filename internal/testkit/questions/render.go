package questions

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
)

// patience is generous: the machine may be busy, and nothing here is lost on purpose.
const patience = 20 * time.Second

// Message makes a query of a type given by its name, which takes answers of 4096 bytes over UDP.
func Message(n, qtype string) *miekg.Msg {
	m := new(miekg.Msg)
	m.SetQuestion(miekg.Fqdn(n), miekg.StringToType[qtype])
	m.SetEdns0(4096, false)
	return m
}

// Exchange asks a server over "udp" or "tcp" and gives its answer.
func Exchange(t testing.TB, srv netip.AddrPort, network string, m *miekg.Msg) *miekg.Msg {
	t.Helper()
	c := miekg.Client{Net: network, Timeout: patience, UDPSize: 65535}
	in, _, err := c.Exchange(m, srv.String())
	if err != nil {
		t.Fatalf("ask %v over %s: %v", m.Question, network, err)
	}
	return in
}

// Render writes a response in the form of the table, and checks what holds for every response.
func Render(t testing.TB, m *miekg.Msg) string {
	t.Helper()
	if !m.Response || len(m.Question) != 1 {
		t.Fatalf("no response to one question: %v", m)
	}
	asked := m.Question[0].Name
	var b strings.Builder
	b.WriteString(miekg.RcodeToString[m.Rcode])
	if m.Authoritative {
		b.WriteString(" aa")
	}
	if m.Truncated {
		b.WriteString(" tc")
	}
	b.WriteString(":")
	section := func(rrs []miekg.RR) string {
		var alias, out []string
		for i, rr := range rrs {
			h := rr.Header()
			owner := h.Name
			if owner == asked {
				owner = "@"
			}
			ttl := uint32(5)
			if h.Rrtype == miekg.TypeTXT {
				ttl = 28800
			}
			// What came from elsewhere may have been kept for some seconds.
			ours := strings.HasSuffix(strings.ToLower(h.Name), "cluster.local.")
			if h.Ttl != ttl && (ours || h.Ttl > ttl || h.Ttl == 0) {
				t.Errorf("TTL of %v, want %d", rr, ttl)
			}
			data := strings.TrimPrefix(rr.String(), h.String())
			switch rr := rr.(type) {
			case *miekg.SOA:
				of := func(first, s string) bool {
					return strings.EqualFold(s, first+"cluster.local.") || strings.EqualFold(s, first+rr.Hdr.Name)
				}
				if origin := rr.Hdr.Name; !of("ns.dns.", rr.Ns) || !of("hostmaster.", rr.Mbox) ||
					rr.Serial == 0 || rr.Refresh != 7200 || rr.Retry != 1800 || rr.Expire != 86400 || rr.Minttl != 5 {
					t.Errorf("SOA of %s: %v", origin, rr)
				}
				out = append(out, "SOA "+rr.Hdr.Name)
				continue
			case *miekg.CNAME:
				if i > 0 && !strings.EqualFold(rrs[i-1].(*miekg.CNAME).Target, h.Name) {
					t.Errorf("alias %v does not follow the one that leads to it", rr)
				}
				alias = append(alias, owner+" CNAME "+data)
				continue
			}
			out = append(out, owner+" "+miekg.TypeToString[h.Rrtype]+" "+data)
		}
		slices.Sort(out)
		return strings.Join(append(alias, out...), " | ")
	}
	var extra []miekg.RR
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != miekg.TypeOPT {
			extra = append(extra, rr)
		}
	}
	if s := section(m.Answer); s != "" {
		b.WriteString(" " + s)
	}
	if s := section(m.Ns); s != "" {
		b.WriteString(" ; " + s)
	}
	if s := section(extra); s != "" {
		b.WriteString(" + " + s)
	}
	return b.String()
}
