package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const loadManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: 10
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
      - name: server
        image: load:v1
        imagePullPolicy: Never
        args: [serve]
        ports: [{name: http, containerPort: 8080}]
        env: [{name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  type: NodePort
  selector: {app: server}
  ports: [{name: http, port: 80, targetPort: http, nodePort: 30080}]
`

const clientsManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: clients}
spec:
  replicas: 2
  selector: {matchLabels: {app: clients}}
  template:
    metadata: {labels: {app: clients}}
    spec:
      containers:
      - name: clients
        image: load:v1
        imagePullPolicy: Never
        args: [ask, -fresh, "10", -held, "10", %s]
        readinessProbe: {httpGet: {path: /report, port: 8080}, periodSeconds: 1}
`

// TestRolls rolls a Deployment of ten again and again while two hundred clients ask it, half of them on a new connection each time and half on connections
// that they hold: from the machine and from Pods, at the ClusterIP and at the NodePort. In the middle of a roll `fairway up` is killed and started
// again. Not one request may fail, and nobody tries twice.
//
// `make load` runs it at full length (FAIRWAY_LOAD=full). It runs alone: see TestKill.
func TestRolls(t *testing.T) {
	rolls, atLeast, every := 3, 0, "50ms"
	if os.Getenv("FAIRWAY_LOAD") == "full" {
		rolls, atLeast, every = 20, 200_000, "25ms"
	}
	m := newMachine(t)
	m.start()
	program, err := loadPath()
	if err != nil {
		t.Fatal(err)
	}
	m.must("image", "build", "--binary", program, "load:v1")
	m.apply(loadManifest)
	m.must("kubectl", "rollout", "status", "deploy/server", "--timeout=90s")
	service, nodePort := net.JoinHostPort(m.clusterIPs("server")[0], "80"), net.JoinHostPort(nodeOfA, "30080")

	clients := []string{"127.0.0.1:9000"} // where each process of clients tells
	ask := m.ns.Command(program, "ask", "-report", clients[0], "-fresh", "30", "-held", "30", "-every", every, service, nodePort)
	said := &buffer{}
	ask.Stdout, ask.Stderr = said, said
	if err := ask.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ask.Process.Kill(); _ = ask.Wait() })
	m.apply(fmt.Sprintf(clientsManifest, fmt.Sprintf(`-every, %q, %q, %q`, every, service, nodePort)))
	m.must("kubectl", "rollout", "status", "deploy/clients", "--timeout=90s")
	for _, ip := range strings.Fields(m.must("kubectl", "get", "pods", "-l", "app=clients", "-o", "jsonpath={.items[*].status.podIP}")) {
		clients = append(clients, net.JoinHostPort(ip, "8080"))
	}

	begin := time.Now()
	for roll := range rolls {
		m.must("kubectl", "rollout", "restart", "deploy/server")
		if roll == rolls/2 {
			m.until("the roll is in its middle", func() error {
				n := m.must("kubectl", "get", "deploy", "server", "-o", "jsonpath={.status.updatedReplicas}")
				if n < "4" {
					return fmt.Errorf("%s Pods are new", n)
				}
				return nil
			})
			killed := time.Now()
			m.end(syscall.SIGKILL)
			m.start()
			t.Logf("killed at %s, up again after %v", killed.Format(time.StampMilli), time.Since(killed).Round(time.Millisecond))
		}
		m.must("kubectl", "rollout", "status", "deploy/server", "--timeout=90s")
	}
	m.until("the old Pods are gone", func() error {
		if n := len(strings.Fields(m.must("kubectl", "get", "pods", "-l", "app=server", "-o", "name"))); n != 10 {
			return fmt.Errorf("%d Pods", n)
		}
		return nil
	})
	m.until("there were enough requests", func() error {
		if all := m.reports(clients, "/report"); all.Requests < atLeast {
			return fmt.Errorf("%d requests", all.Requests)
		}
		return nil
	})
	all := m.reports(clients, "/end")
	t.Logf("%d rolls of ten Pods and a kill -9 of fairway in %v: %d requests on %d connections, answered by %d Pods, the slowest after %v; %d failed",
		rolls, time.Since(begin).Round(time.Second), all.Requests, all.Connections, len(all.Servers), all.Slowest.Round(time.Millisecond), all.Failed)
	for _, f := range all.Failures {
		t.Error(f)
	}
	if all.Failed > len(all.Failures) {
		t.Errorf("and %d more", all.Failed-len(all.Failures))
	}
	if want := 10 * (rolls + 1); len(all.Servers) < want {
		t.Errorf("%d Pods answered; there were %d", len(all.Servers), want)
	}
}

// loadReport is what test/e2e/load tells.
type loadReport struct {
	Requests, Connections, Failed int
	Failures                      []string
	Slowest                       time.Duration
	Servers                       []string
}

// reports asks all processes of clients, and sums up.
func (m *machine) reports(clients []string, path string) (all loadReport) {
	m.t.Helper()
	for _, c := range clients {
		status, body, _, err := m.get("http://"+c+path, "")
		if err == nil && status != 200 {
			err = errors.New(body)
		}
		var r loadReport
		if err == nil {
			err = json.Unmarshal([]byte(body), &r)
		}
		if err != nil {
			m.t.Fatalf("the report of %s: %v", c, err)
		}
		all.Requests, all.Connections, all.Failed = all.Requests+r.Requests, all.Connections+r.Connections, all.Failed+r.Failed
		all.Failures, all.Slowest = append(all.Failures, r.Failures...), max(all.Slowest, r.Slowest)
		all.Servers = append(all.Servers, r.Servers...)
	}
	slices.Sort(all.Servers)
	all.Servers = slices.Compact(all.Servers)
	return all
}
