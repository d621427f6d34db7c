package healthport

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"fairway.dev/fairway/internal/model"
)

// port is the health check node port of one Service. It belongs to the goroutine of Run, but for ready.
type port struct {
	service model.Name
	number  uint16
	addrs   []netip.Addr
	ready   atomic.Pointer[[]netip.Addr] // sorted
	healthy func() bool
	servers []*http.Server // one for each address, or none at all
	err     error          // why there are none
}

// open listens at all addresses, or at none.
func (p *port) open(ctx context.Context) error {
	if len(p.servers) > 0 {
		return nil
	}
	for _, a := range p.addrs {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", netip.AddrPortFrom(a, p.number).String())
		if err != nil {
			p.close()
			return err
		}
		// The port is open to the outside: nobody may hold it with slow or idle connections.
		srv := &http.Server{
			Handler: p.answerIn(a.Is6()), ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
			MaxHeaderBytes: 8 << 10,
		}
		p.servers = append(p.servers, srv)
		go func() { _ = srv.Serve(l) }() // ends with Close
	}
	return nil
}

func (p *port) close() {
	for _, s := range p.servers {
		_ = s.Close()
	}
	p.servers = nil
}

// keepOnly takes off backends that are not among these.
func (p *port) keepOnly(ready []netip.Addr) {
	left := slices.DeleteFunc(slices.Clone(*p.ready.Load()), func(a netip.Addr) bool {
		_, found := slices.BinarySearchFunc(ready, a, netip.Addr.Compare)
		return !found
	})
	p.ready.Store(&left)
}

// answer is the body, in kube-proxy's form.
type answer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// answerIn answers on an address of one family.
func (p *port) answerIn(ipv6 bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		var a answer
		a.Service.Namespace, a.Service.Name = p.service.Namespace, p.service.Name
		for _, b := range *p.ready.Load() {
			if b.Is6() == ipv6 {
				a.LocalEndpoints++
			}
		}
		a.ServiceProxyHealthy = p.healthy()
		body, _ := json.MarshalIndent(a, "", "\t") // strings, a number and a bool: nothing that could fail
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(a.LocalEndpoints))
		if a.LocalEndpoints == 0 || !a.ServiceProxyHealthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(body)
	}
}
