package nft_test

import (
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
	"fairway.dev/fairway/internal/testkit/connections"
)

// TestListing lists the ruleset with every feature in use, the way people look at it. Old versions of the nft command abort on rules that
// they cannot print, and then nobody on the machine can list anything.
func TestListing(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.start()
	node, services, slices := connections.World()
	refuses, slice := web(v4, 100, "refuses", connections.PodB)
	_ = l.ports[connections.Backend{Place: connections.PodB, Port: connections.Listen}].Close()
	l.applied(connections.Put(l.store, &node, append(services, refuses), append(slices, slice)))
	// What packets leave in the dynamic sets must be fit to print too.
	for _, f := range connections.Families {
		if _, err := l.ask(connections.PodC, plan.Key{Addr: f.Service(11), Protocol: model.TCP, Port: 80}, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.ask(connections.PodC, tcp(100), 250*time.Millisecond); err != nil {
		t.Fatal(err)
	}

	for _, args := range [][]string{
		{"list", "ruleset"}, {"-a", "list", "ruleset"}, {"-j", "list", "ruleset"}, {"list", "table", "ip", "fairway"}, {"list", "table", "ip6", "fairway"},
	} {
		cmd := l.ns[connections.OnNode].Command("nft", args...)
		var errors strings.Builder
		cmd.Stderr = &errors
		out, err := cmd.Output()
		// The JSON writer of old versions warns of statements that it leaves out.
		if err != nil || errors.Len() > 0 && args[0] != "-j" {
			t.Errorf("nft %s: %v\n%s", strings.Join(args, " "), err, &errors)
			continue
		}
		if args[0] == "-j" {
			continue
		}
		text := string(out)
		for _, s := range services {
			if label := `comment "` + s.Name.String() + ":" + s.Ports[0].Name + `" : 0x`; !strings.Contains(text, label) {
				t.Errorf("nft %s: no %s", strings.Join(args, " "), label)
			}
		}
		// One thing of each feature.
		want := []string{
			"chain stick-10800-of-4 {", "chain from-listed-pick-1 {", "chain split-pick-2-pick-1-outside {", `comment "backends reject" : goto refuse`,
			`comment "backends drop" : goto discard`, "udp . 53 comment", "numgen random mod 4 map @draws", "timeout 3h expires",
		}
		if args[len(args)-1] != "fairway" {
			want = append(want, "10.96.0.1 . tcp . 80", "fd00:10:96::1 . tcp . 80", "timeout 3s expires")
			want = append(want, "table ip fairway {", "table ip6 fairway {")
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("nft %s: no %q", strings.Join(args, " "), w)
			}
		}
		if testing.Verbose() && len(args) == 2 {
			t.Log(text)
		}
	}
}
