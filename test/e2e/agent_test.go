package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fairway.dev/fairway/internal/testkit"
)

// The wire between the two machines, and the ranges that `fairway up` has unless told otherwise.
const (
	wireA4, wireB4 = "192.0.2.1", "192.0.2.2"
	wireA6, wireB6 = "2001:db8::1", "2001:db8::2"
	services4      = "10.96.0.0/16"
	services6      = "fd66:96::/112"
	pods4, pods6   = "10.244.0.0/24", "fd66:244::/64"
	nodeOfA        = "10.244.0.1"
)

const nodeB = `
apiVersion: v1
kind: Node
metadata: {name: b}
spec: {unschedulable: true}
`

const addressesOfB = `{"status":{"addresses":[{"type":"InternalIP","address":"` + wireB4 + `"},{"type":"InternalIP","address":"` + wireB6 + `"}]}}`

// classes are an Ingress of the class that Fairway serves, and one of a class of somebody else's.
const classes = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: ours}
spec:
  ingressClassName: fairway
  rules:
  - host: ours.example.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: others}
spec:
  ingressClassName: others
  rules:
  - host: others.example.test
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}]}
`

// second is a second machine of a cluster whose first one runs `fairway up`: it runs `fairway agent`, and has a wire to the first.
type second struct {
	*machine // the first: its kubectl, its until
	ns       *testkit.NetNS
	p        *process
}

// newSecond makes two machines with a wire between them: each routes to what the other one has, and neither has a default route.
func newSecond(t *testing.T) *second {
	t.Helper()
	b := &second{ns: testkit.NewNetNS(t)}
	b.machine = newMachine(t)
	a := b.machine.ns
	testkit.Join(a, "to-b", b.ns, "to-a")
	a.AddAddr("to-b", wireA4+"/24")
	a.AddAddr("to-b", wireA6+"/64")
	b.ns.AddAddr("to-a", wireB4+"/24")
	b.ns.AddAddr("to-a", wireB6+"/64")
	b.ns.AddLink("services") // a route for them, so that programs on B may send; the rules choose before anything is sent
	for _, r := range []struct{ pods, services, a string }{{pods4, services4, wireA4}, {pods6, services6, wireA6}} {
		b.ns.AddRoute(r.pods, r.a, "to-a")
		b.ns.AddRoute(r.services, "", "services")
		for _, dst := range []string{r.pods, r.services} {
			b.ns.Run("ip", "route", "add", "unreachable", dst, "metric", "4000000000")
		}
	}
	b.ns.Sysctl("net/ipv4/ip_forward", "1") // as on every node of a cluster
	b.ns.Sysctl("net/ipv6/conf/all/forwarding", "1")
	b.until("the wire's own addresses are routed", func() error {
		for ns, addr := range map[*testkit.NetNS]string{a: wireA6, b.ns: wireB6} {
			if out := ns.Run("ip", "-6", "route", "show", "table", "local"); !strings.Contains(out, "local "+addr+" ") {
				return fmt.Errorf("%s is not:\n%s", addr, out)
			}
		}
		return nil
	})
	b.before = b.footprint() // with the wire
	t.Cleanup(func() {
		if b.p == nil {
			return
		}
		_ = b.p.cmd.Process.Kill()
		<-b.p.done
		if t.Failed() {
			t.Logf("fairway agent printed:\n%s", b.p.out)
		}
	})
	return b
}

// kubeconfig gives a copy of the first machine's kubeconfig that works on the second.
func (b *second) kubeconfig() string {
	b.t.Helper()
	raw := b.must("kubeconfig", "--raw")
	moved := strings.Replace(raw, "https://127.0.0.1:6443", "https://"+nodeOfA+":6443", 1)
	if moved == raw {
		b.t.Fatalf("the kubeconfig names another server than 127.0.0.1:6443:\n%s", raw)
	}
	path := filepath.Join(b.t.TempDir(), "agent.conf")
	if err := os.WriteFile(path, []byte(moved), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// agent starts `fairway agent` on the second machine.
func (b *second) agent(args ...string) {
	b.t.Helper()
	cmd := b.ns.Command(binary(b.t), append([]string{
		"agent", "--node-name", "b", "--service-cidr", services4 + "," + services6,
		"--dns-listen", wireB4 + ":10053,[" + wireB6 + "]:10053", "--ingress-http", wireB4 + ":80", "--health-listen", "127.0.0.1:10256",
	}, args...)...)
	p := &process{cmd: cmd, out: &buffer{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(p.done) }()
	b.p = p
}

// stop ends the agent with a signal and gives what it printed.
func (b *second) stop(sig syscall.Signal) string {
	b.t.Helper()
	if err := b.p.cmd.Process.Signal(sig); err != nil {
		b.t.Fatal(err)
	}
	select {
	case <-b.p.done:
	case <-time.After(patience):
		b.t.Fatalf("fairway agent did not end on %v; it printed\n%s", sig, b.p.out)
	}
	if sig != syscall.SIGKILL && !b.p.cmd.ProcessState.Success() {
		b.t.Fatalf("fairway agent ended with %v\n%s", b.p.cmd.ProcessState, b.p.out)
	}
	return b.p.out.String()
}

// healthy asks the agent for its health.
func (b *second) healthy(path string) (status int, body string, err error) {
	select {
	case <-b.p.done:
		b.t.Fatalf("fairway agent ended: %v\n%s", b.p.cmd.ProcessState, b.p.out)
	default:
	}
	status, body, _, err = get(b.ns, "http://127.0.0.1:10256"+path, "")
	return status, body, err
}

func (b *second) untilReady() {
	b.t.Helper()
	b.until("the agent is ready", func() error {
		status, body, err := b.healthy("/readyz?verbose")
		if err == nil && status != 200 {
			err = fmt.Errorf("%d\n%s", status, body)
		}
		return err
	})
}

// reaches waits until an address answers from the given machine.
func (b *second) reaches(from *testkit.NetNS, url, host string) {
	b.t.Helper()
	b.until(url+" answers", func() error { return asks(from, url, host) })
}

func asks(from *testkit.NetNS, url, host string) error {
	status, body, _, err := get(from, url, host)
	if err == nil && (status != 200 || !strings.HasPrefix(body, "web-")) {
		err = fmt.Errorf("status %d: %q", status, body)
	}
	return err
}

// lookup asks a server on the second machine for the addresses of a name, over UDP or TCP.
func (b *second) lookup(network, server, name string) ([]netip.Addr, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return b.ns.Dial(ctx, network, server)
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addrs, err := r.LookupNetIP(ctx, "ip", name)
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return addrs, err
}

// balances asks the Service until exactly the Pods that run have answered.
func (b *second) balances() {
	b.t.Helper()
	url := "http://" + net.JoinHostPort(b.clusterIPs("web")[0], "80") + "/"
	b.until("B balances over the Pods that run", func() error {
		pods := strings.Fields(b.must("kubectl", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"))
		seen := map[string]bool{}
		for range 16 * len(pods) { // so that one of n is missed once in e^16 times
			status, body, _, err := get(b.ns, url, "")
			if err != nil || status != 200 {
				return fmt.Errorf("status %d %s: %w", status, body, err)
			}
			seen[body] = true
		}
		for _, p := range pods {
			if !seen[p] {
				return fmt.Errorf("%s has not answered; the Pods are %v", p, pods)
			}
		}
		if len(seen) != len(pods) {
			return fmt.Errorf("answered by %v; the Pods are %v", seen, pods)
		}
		return nil
	})
}

// storm asks the Service from the second machine all the time until end is called, which gives how many requests there were and what failed.
func (b *second) storm() (asked *atomic.Int64, end func() []error) {
	url := "http://" + net.JoinHostPort(b.clusterIPs("web")[0], "80") + "/"
	asked = &atomic.Int64{}
	stop := make(chan struct{})
	var mu sync.Mutex
	var failed []error
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := asks(b.ns, url, ""); err != nil {
					mu.Lock()
					failed = append(failed, err)
					mu.Unlock()
				}
				asked.Add(1)
			}
		})
	}
	return asked, func() []error {
		close(stop)
		clients.Wait()
		return failed
	}
}

// TestAgent runs the agent on a second machine: every way to a Service works there, follows the API, and outlives the agent and the API.
func TestAgent(t *testing.T) {
	t.Parallel()
	b := newSecond(t)
	b.start()
	b.withWeb()
	b.apply(nodeB)
	b.must("kubectl", "patch", "node", "b", "--subresource=status", "--type=merge", "-p", addressesOfB)
	b.apply(classes)
	kubeconfig := b.kubeconfig()
	given := []string{"--kubeconfig", kubeconfig, "--pod-cidr", pods4 + "," + pods6}
	b.agent(given...)
	b.untilReady()

	web := b.clusterIPs("web")
	t.Run("addresses", func(t *testing.T) {
		for _, ip := range web {
			b.reaches(b.ns, "http://"+net.JoinHostPort(ip, "80")+"/", "")
		}
		for _, node := range []string{wireB4, wireB6} {
			url := "http://" + net.JoinHostPort(node, "30080") + "/"
			b.reaches(b.ns, url, "")
			b.reaches(b.machine.ns, url, "") // from outside of B, and on to a Pod that is outside of B
		}
		if err := asks(b.ns, "http://"+net.JoinHostPort(b.clusterIPs("empty")[0], "80")+"/", ""); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a Service without endpoints: %v", err)
		}
	})
	t.Run("names", func(t *testing.T) {
		var want []netip.Addr
		for _, ip := range web {
			want = append(want, netip.MustParseAddr(ip))
		}
		slices.SortFunc(want, netip.Addr.Compare)
		servers := []string{wireB4 + ":10053", "[" + wireB6 + "]:10053"}
		for _, ip := range strings.Fields(b.must("kubectl", "get", "svc", "-n", "kube-system", "kube-dns", "-o", "jsonpath={.spec.clusterIPs[*]}")) {
			servers = append(servers, net.JoinHostPort(ip, "53"))
		}
		if len(servers) != 4 {
			t.Fatalf("the servers are %v; want two of each kind", servers)
		}
		for _, server := range servers {
			for _, network := range []string{"udp", "tcp"} {
				b.until(server+" answers over "+network, func() error {
					got, err := b.lookup(network, server, "web.default.svc.cluster.local.")
					if err == nil && !slices.Equal(got, want) {
						err = fmt.Errorf("web is %v; want %v", got, want)
					}
					return err
				})
			}
		}
	})
	t.Run("ingress", func(t *testing.T) {
		b.reaches(b.ns, "http://"+wireB4+"/", "ours.example.test")
		b.reaches(b.machine.ns, "http://"+wireB4+"/", "ours.example.test")
		if status, body, _, err := get(b.ns, "http://"+wireB4+"/", "others.example.test"); err != nil || status != 404 {
			t.Errorf("an Ingress of another class: status %d %s, %v", status, body, err)
		}
	})
	t.Run("health", func(t *testing.T) {
		status, body, err := b.healthy("/readyz?verbose")
		for _, line := range []string{"[+]nft at revision", "[+]dns at revision", "[+]ingress at revision"} {
			if err != nil || status != 200 || !strings.Contains(body, line) {
				t.Errorf("/readyz?verbose: status %d, %v, no %q in\n%s", status, err, line, body)
			}
		}
		if status, _, err := b.healthy("/livez"); err != nil || status != 200 {
			t.Errorf("/livez: status %d, %v", status, err)
		}
		if status, body, err := b.healthy("/status"); err != nil || status != 200 || !strings.Contains(body, `"role":"agent"`) || strings.Contains(body, `"problems"`) {
			t.Errorf("/status: status %d, %v\n%s", status, err, body)
		}
	})
	if t.Failed() {
		return
	}
	for _, n := range []string{"4", "1", "2"} {
		b.must("kubectl", "scale", "deploy/web", "--replicas="+n)
		b.must("kubectl", "rollout", "status", "deploy/web", "--timeout=90s")
		b.balances()
	}

	// The agent is killed and started again: nobody notices.
	asked, end := b.storm()
	more := func(when string) {
		before := asked.Load()
		b.until("clients go on "+when, func() error {
			if n := asked.Load() - before; n < 50 {
				return fmt.Errorf("%d requests", n)
			}
			return nil
		})
	}
	more("before the kill")
	b.stop(syscall.SIGKILL)
	more("without the agent")
	b.agent(given...)
	b.untilReady()
	more("with the next agent")
	if failed := end(); len(failed) > 0 {
		t.Errorf("%d of %d requests failed while the agent was killed and started again; the first: %v", len(failed), asked.Load(), failed[0])
	}
	b.balances()
	if said := b.stop(syscall.SIGTERM); strings.Contains(said, "level=") {
		t.Errorf("an agent that lacked nothing logged\n%s", said)
	}

	// The API is away when the agent starts, and nobody says what the Pod ranges are: what was in force stays in force.
	b.end(syscall.SIGTERM)
	b.agent("--kubeconfig", kubeconfig)
	b.until("the agent says that it waits for the API", func() error {
		status, body, err := b.healthy("/readyz?verbose")
		if err == nil && (status != 503 || !strings.Contains(body, "[-]source services: no first list yet")) {
			err = fmt.Errorf("status %d\n%s", status, body)
		}
		if err == nil && !strings.Contains(b.p.out.String(), "watch waits for the API") {
			err = fmt.Errorf("it printed %s", b.p.out)
		}
		return err
	})
	for range 20 {
		if err := asks(b.ns, "http://"+net.JoinHostPort(web[0], "80")+"/", ""); err != nil {
			t.Fatalf("without the API: %v", err)
		}
	}
	b.start()
	b.untilReady()
	b.must("kubectl", "scale", "deploy/web", "--replicas=3")
	b.must("kubectl", "rollout", "status", "deploy/web", "--timeout=90s")
	b.balances()
	// The node's ranges come from its Node, whenever that has them.
	ruleset := func() string { return b.ns.Run("nft", "list", "ruleset") }
	if strings.Contains(ruleset(), "10.244.7.0/24") {
		t.Error("the ruleset knows Pod ranges before anybody has said them")
	}
	b.must("kubectl", "patch", "node", "b", "--type=merge", "-p", `{"spec":{"podCIDR":"10.244.7.0/24","podCIDRs":["10.244.7.0/24","fd66:244:7::/64"]}}`)
	b.until("the node's Pod ranges are in force", func() error {
		if !strings.Contains(ruleset(), "10.244.7.0/24") {
			return errors.New("the ruleset does not know them")
		}
		return nil
	})
	b.untilReady()
	b.balances()
	// The API goes away under a running agent, the hard way, and comes back.
	b.end(syscall.SIGKILL)
	b.until("the agent says that the watches are lost", func() error {
		if !strings.Contains(b.p.out.String(), "watch lost") {
			return fmt.Errorf("it printed %s", b.p.out)
		}
		return asks(b.ns, "http://"+net.JoinHostPort(web[0], "80")+"/", "")
	})
	b.start()
	b.must("kubectl", "scale", "deploy/web", "--replicas=4") // more, since B may learn of it late, and Pods that are gone answer nobody
	b.must("kubectl", "rollout", "status", "deploy/web", "--timeout=90s")
	b.balances()
	said := b.stop(syscall.SIGTERM)
	if n := strings.Count(said, "cluster DNS"); n > 1 {
		t.Errorf("one outage of the API is told %d times:\n%s", n, said)
	}
	if n := strings.Count(said, "watch lost"); n > 8 {
		t.Errorf("eight watches were lost once, and it is told %d times:\n%s", n, said)
	}
	for l := range strings.Lines(said) {
		if strings.HasPrefix(l, "E") || strings.HasPrefix(l, "W") || strings.HasPrefix(l, "I") {
			t.Errorf("a library printed past the log: %s", l)
		}
	}

	if !strings.Contains(ruleset(), "fairway") {
		t.Error("the rules went with the agent")
	}
	if out, err := b.ns.Command(binary(t), "agent", "--cleanup").CombinedOutput(); err != nil {
		t.Errorf("fairway agent --cleanup: %v\n%s", err, out)
	}
	if left := ruleset(); strings.TrimSpace(left) != "" {
		t.Errorf("left behind on B:\n%s", left)
	}
}
