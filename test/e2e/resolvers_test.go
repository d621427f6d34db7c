package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// podResolvConf is what a Pod of the namespace default has.
const podResolvConf = "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"

// headlessSize is how many addresses the headless Service has: far more than fit in a UDP answer, so resolvers come again over TCP.
const headlessSize = 200

// resolvers are the programs that look names up, each with a resolver of its own; those that walk no search path get the whole name.
var resolvers = []struct {
	name  string
	words []string // the name comes behind them
	whole bool
}{
	{"glibc", []string{"getent", "ahosts"}, false},
	{"python", []string{"python3", "-c", "import socket,sys\nfor a in {i[4][0] for i in socket.getaddrinfo(sys.argv[1],80)}: print(a)"}, false},
	{"node c-ares", []string{"node", "-e", "require('dns').resolve4(process.argv[1],(e,a)=>{if(e){console.log(e);process.exit(1)};a.forEach(x=>console.log(x))})"}, true},
	{"node lookup", []string{"node", "-e", "require('dns').lookup(process.argv[1],{all:true},(e,a)=>{if(e){console.log(e);process.exit(1)};a.forEach(x=>console.log(x.address))})"}, false},
	{"dig", []string{"dig", "+short", "+search", "+ndots=5"}, false},
	{"musl", nil, false},
	{"go", nil, false},
	{"go with cgo", nil, false},
}

// lookupC prints the addresses of a name, one a line, as the C library that it is linked with finds them.
const lookupC = `#include <netdb.h>
#include <stdio.h>
int main(int n, char **args) {
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *a;
	char text[64];
	int err = getaddrinfo(args[1], 0, &hints, &a);
	if (err) { puts(gai_strerror(err)); return 1; }
	for (; a; a = a->ai_next)
		if (!getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, 0, 0, NI_NUMERICHOST)) puts(text);
}`

// built gives the program of a resolver that is compiled into what uses it; it skips the test where there is no compiler for it.
func built(t *testing.T, name string) string {
	dir := t.TempDir()
	switch name {
	case "go":
		path, err := lookupPath()
		if err != nil {
			t.Fatal(err)
		}
		return path
	case "go with cgo":
		if _, err := exec.LookPath("gcc"); err != nil {
			t.Skip("gcc is not installed")
		}
		build := exec.Command("go", "build", "-tags", "netcgo", "-o", dir+"/lookup", "./lookup")
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	case "musl":
		if _, err := exec.LookPath("musl-gcc"); err != nil {
			t.Skip("musl-gcc is not installed (Debian: musl-tools)")
		}
		build := exec.Command("musl-gcc", "-static", "-x", "c", "-o", dir+"/lookup", "-")
		build.Stdin = strings.NewReader(lookupC)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return dir + "/lookup"
}

// TestResolvers: real resolvers, with a Pod's resolv.conf, find a Service by a part of its name, all addresses of a large headless Service, and no name that is not there.
func TestResolvers(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.ownResolvConf(podResolvConf, false)
	m.start()
	var ends []string
	for i := range headlessSize {
		ends = append(ends, fmt.Sprintf("{addresses: [198.18.0.%d]}", i+1))
	}
	m.apply("apiVersion: v1\nkind: Service\nmetadata: {name: many}\nspec: {clusterIP: None}\n---\n" +
		"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: many-a, labels: {kubernetes.io/service-name: many}}\n" +
		"addressType: IPv4\nports: []\nendpoints: [" + strings.Join(ends, ", ") + "]\n")
	for _, r := range resolvers {
		t.Run(r.name, func(t *testing.T) {
			words := r.words
			if words == nil {
				words = []string{built(t, r.name)}
			}
			if _, err := exec.LookPath(words[0]); err != nil {
				t.Skipf("%s is not installed", words[0])
			}
			find := func(name string) map[string]bool {
				if r.whole {
					name += ".svc.cluster.local"
				}
				out, _ := m.command(append(words[:len(words):len(words)], name)...).CombinedOutput()
				found := map[string]bool{}
				for _, w := range strings.Fields(string(out)) {
					if a, err := netip.ParseAddr(w); err == nil && a != netip.MustParseAddr("10.96.0.10") {
						found[a.String()] = true
					}
				}
				return found
			}
			if got := find("kubernetes.default"); len(got) != 1 || !got["10.96.0.1"] {
				t.Errorf("a Service: %v", got)
			}
			m.until("all addresses of the headless Service are found", func() error {
				if got := find("many.default"); len(got) != headlessSize && (r.name != "musl" || len(got) == 0) { // musl 1.2.3 takes what is in a UDP answer, and no more than 48
					return fmt.Errorf("%d of %d: %v", len(got), headlessSize, got)
				}
				return nil
			})
			if got := find("nobody.default"); len(got) > 0 {
				t.Errorf("a name that is not there: %v", got)
			}
		})
	}
}
