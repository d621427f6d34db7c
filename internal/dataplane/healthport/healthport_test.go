package healthport_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairway.dev/fairway/internal/dataplane/healthport"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
	"fairway.dev/fairway/internal/testkit"
)

const node4, node6 = "192.0.2.1", "2001:db8::1"

// lab is a node with both families in a namespace of its own.
type lab struct {
	t       *testing.T
	ns      *testkit.NetNS
	store   *store.Store
	healthy atomic.Bool
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t, ns: testkit.NewNetNS(t), store: store.New()}
	l.healthy.Store(true)
	l.ns.AddLink("node")
	l.ns.AddAddr("node", node4+"/32")
	l.ns.AddAddr("node", node6+"/128")
	l.put(func(tx *store.Txn) {
		tx.PutNode(&model.Node{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr(node4), netip.MustParseAddr(node6)}})
	})
	return l
}

func (l *lab) start(after string) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := healthport.New(l.store, healthport.Config{Node: "n1", After: after, Healthy: l.healthy.Load})
	go l.ns.Do(func() { done <- s.Run(ctx) })
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			l.t.Errorf("Run: %v", err)
		}
		if _, _, err := l.get(node4, 31000); err == nil {
			l.t.Error("a port is open after the end")
		}
	})
}

func (l *lab) put(f func(*store.Txn)) store.Revision {
	rev, _ := l.store.Update(func(tx *store.Txn) error { f(tx); return nil })
	return rev
}

func (l *lab) get(addr string, port int) (status int, body string, err error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: l.ns.Dial, DisableKeepAlives: true}}
	r, err := client.Get(fmt.Sprintf("http://%s/", net.JoinHostPort(addr, fmt.Sprint(port))))
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	var v struct {
		Service             struct{ Namespace, Name string }
		LocalEndpoints      int
		ServiceProxyHealthy bool
	}
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	weight := r.Header.Get("X-Load-Balancing-Endpoint-Weight")
	return r.StatusCode, fmt.Sprintf("%s/%s %d %v weight %s", v.Service.Namespace, v.Service.Name, v.LocalEndpoints, v.ServiceProxyHealthy, weight), err
}

func (l *lab) until(what string, ok func() error) {
	l.t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	l.t.Fatalf("%s: %v", what, err)
}

// says waits until the port answers so; status 0 is a port that is closed.
func (l *lab) says(addr string, port, status int, body string) {
	l.t.Helper()
	l.until(fmt.Sprintf("%s port %d", addr, port), func() error {
		s, b, err := l.get(addr, port)
		if status == 0 {
			if err == nil {
				return fmt.Errorf("it answers %d %s", s, b)
			}
			return nil
		}
		if err == nil && (s != status || b != body) {
			err = fmt.Errorf("it answers %d %q; want %d %q", s, b, status, body)
		}
		return err
	})
}

func service(name string, port uint16) *model.Service {
	return &model.Service{
		Name: model.Name{Namespace: "shop", Name: name}, Type: model.LoadBalancer, ExternalPolicy: model.PolicyLocal, HealthCheckNodePort: port,
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd00:96::1")},
		Ports:      []model.Port{{Name: "a", Protocol: model.TCP, Port: 80}, {Name: "b", Protocol: model.TCP, Port: 81}},
	}
}

func slice(svc string, eps ...model.Endpoint) *model.EndpointSlice {
	s := &model.EndpointSlice{
		Name: model.Name{Namespace: "shop", Name: svc + "-1"}, Service: model.Name{Namespace: "shop", Name: svc}, Endpoints: eps,
		Ports: []model.EndpointPort{{Name: "a", Protocol: model.TCP, Port: 8080}, {Name: "b", Protocol: model.TCP, Port: 8081}},
	}
	if len(eps) > 0 {
		s.IPv6 = eps[0].Addr.Is6()
		if s.IPv6 {
			s.Name.Name = svc + "-6"
		}
	}
	return s
}

func ep(addr, node string, ready, terminating bool) model.Endpoint {
	return model.Endpoint{Addr: netip.MustParseAddr(addr), Node: node, Ready: ready, Serving: true, Terminating: terminating}
}

// TestAnswers holds what a load balancer is told, whichever of Service and endpoints comes first.
func TestAnswers(t *testing.T) {
	t.Parallel()
	web := slice("web", ep("10.1.0.1", "n1", true, false), ep("10.1.0.2", "n1", true, false), ep("10.1.0.3", "n2", true, false), ep("10.1.0.4", "n1", false, true))
	web6 := slice("web", ep("fd01::1", "n1", true, false))
	for _, order := range []string{"Service first", "endpoints first", "together", "before the start"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			svc := func(tx *store.Txn) { tx.PutService(service("web", 31000)) }
			eps := func(tx *store.Txn) { tx.PutSlice(web); tx.PutSlice(web6) }
			if order == "before the start" {
				l.put(svc)
				l.put(eps)
			}
			l.start("")
			switch order {
			case "Service first":
				l.put(svc)
				l.says(node4, 31000, 503, "shop/web 0 true weight 0")
				l.put(eps)
			case "endpoints first":
				l.put(eps)
				l.put(svc)
			case "together":
				l.put(func(tx *store.Txn) { svc(tx); eps(tx) })
			}
			l.says(node4, 31000, 200, "shop/web 2 true weight 2")
			l.says(node6, 31000, 200, "shop/web 1 true weight 1") // each family for itself
			l.healthy.Store(false)
			l.says(node4, 31000, 503, "shop/web 2 false weight 2")
			l.healthy.Store(true)
			l.put(func(tx *store.Txn) {
				tx.PutSlice(slice("web", ep("10.1.0.1", "n1", false, true), ep("10.1.0.3", "n2", true, false)))
			})
			l.says(node4, 31000, 503, "shop/web 0 true weight 0")
			l.says(node6, 31000, 200, "shop/web 1 true weight 1")
			l.put(func(tx *store.Txn) { tx.PutService(service("web", 31001)) }) // made anew with another port
			l.says(node4, 31000, 0, "")
			l.says(node4, 31001, 503, "shop/web 0 true weight 0")
			l.put(func(tx *store.Txn) {
				s := service("web", 31001)
				s.ExternalPolicy = model.PolicyCluster
				tx.PutService(s)
			})
			l.says(node4, 31001, 0, "")
			l.put(svc)
			l.says(node4, 31000, 503, "shop/web 0 true weight 0")
			l.put(func(tx *store.Txn) { // the port passes to another Service in one step
				tx.DeleteService(model.Name{Namespace: "shop", Name: "web"})
				tx.PutService(service("other", 31000))
			})
			l.says(node4, 31000, 503, "shop/other 0 true weight 0")
			l.put(func(tx *store.Txn) { tx.DeleteService(model.Name{Namespace: "shop", Name: "other"}) })
			l.says(node4, 31000, 0, "")
		})
	}
}

// TestTaken finds a port taken: the Service is named, others work, and it opens as soon as the port is free.
func TestTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	other, err := l.ns.Listen("tcp", net.JoinHostPort(node6, "31000"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	l.start("")
	l.put(func(tx *store.Txn) { tx.PutService(service("web", 31000)); tx.PutService(service("fine", 31002)) })
	l.says(node4, 31002, 503, "shop/fine 0 true weight 0")
	failed := func() map[string]error { return l.store.Statuses()[0].Failed }
	l.until("the failure is named", func() error {
		err := failed()["service shop/web"]
		if err == nil || !strings.Contains(err.Error(), "31000") || len(failed()) != 1 {
			return fmt.Errorf("failed: %v", failed())
		}
		return nil
	})
	if _, _, err := l.get(node4, 31000); err == nil {
		t.Error("half of the addresses answer")
	}
	_ = other.Close()
	l.says(node4, 31000, 503, "shop/web 0 true weight 0")
	l.says(node6, 31000, 503, "shop/web 0 true weight 0")
	l.until("nothing is named any more", func() error {
		if len(failed()) > 0 {
			return fmt.Errorf("failed: %v", failed())
		}
		return nil
	})
}

// TestOrder counts a backend only when the kernel has it, and takes one off at once.
func TestOrder(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	kernel := l.store.Follow("kernel")
	kernel.Report(l.store.Snapshot().Revision, nil, nil)
	l.start("kernel")
	rev := l.put(func(tx *store.Txn) {
		tx.PutService(service("web", 31000))
		tx.PutSlice(slice("web", ep("10.1.0.1", "n1", true, false)))
	})
	kernel.Report(rev, nil, nil)
	l.says(node4, 31000, 200, "shop/web 1 true weight 1")
	l.put(func(tx *store.Txn) { tx.PutSlice(slice("web", ep("10.1.0.1", "n1", false, true))) })
	l.says(node4, 31000, 503, "shop/web 0 true weight 0") // though the kernel never reports this revision
}
