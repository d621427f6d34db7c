package discovery_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/testkit/questions"
)

// TestAnswers puts the table to Fairway and to CoreDNS, which follow one API.
func TestAnswers(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	refused := a.create(t, questions.Fixture())
	for n := range questions.OffAPI {
		if _, ok := refused[n]; !ok {
			t.Errorf("the API takes %s, so it can be compared", n)
		}
		delete(refused, n)
	}
	for n, err := range refused {
		t.Errorf("the API refuses %s: %v", n, err)
	}
	upstream := questions.Serve(t, questions.Upstream)
	peer := coreDNS(t, a.kubeconfig, upstream, "insecure")["insecure"]
	ours, _ := serve(t, a.config, dns.Config{Upstreams: []netip.AddrPort{upstream}})
	differences, err := os.ReadFile("../../docs/differences.md")
	if err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, q := range questions.Table {
		if q.OffAPI() {
			continue
		}
		want := q.Answer()
		theirs := want
		if other, ok := questions.CoreDNS[q.Key()]; ok {
			used++
			theirs = other.Answer()
			if !strings.Contains(string(differences), "\n| "+other.Row+" |") {
				t.Errorf("docs/differences.md has no row %q", other.Row)
			}
		}
		t.Run(q.Rule+"/"+q.Name+"/"+q.Type, func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} {
				if got := questions.Render(t, questions.Exchange(t, ours, network, questions.Message(q.Name, q.Type))); got != want {
					t.Errorf("Fairway, %s:\n got %s\nwant %s", network, got, want)
				}
				m := questions.Exchange(t, peer, network, questions.Message(q.Name, q.Type))
				if got := questions.Render(t, m); got != theirs {
					t.Errorf("CoreDNS, %s:\n got %s\nwant %s", network, got, theirs)
				}
			}
		})
	}
	if used != len(questions.CoreDNS) {
		t.Errorf("%d answers of CoreDNS's own are for no question of the table", len(questions.CoreDNS)-used)
	}
}
