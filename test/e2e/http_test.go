package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"fairway.dev/fairway/internal/testkit"
)

// get asks an address from the machine's namespace.
func (m *machine) get(url, host string) (status int, body string, header http.Header, err error) {
	return get(m.ns, url, host)
}

// get asks an address from a namespace, with a Host header of its own and a connection of its own.
func get(ns *testkit.NetNS, url, host string) (status int, body string, header http.Header, err error) {
	client := client(ns, host)
	defer client.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", nil, err
	}
	if host != "" {
		req.Host = host
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header, err
}

func client(ns *testkit.NetNS, serverName string) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if _, err := netip.ParseAddrPort(addr); err != nil {
				return nil, fmt.Errorf("dial %s: the test must name an address: %w", addr, err)
			}
			return ns.Dial(ctx, network, addr)
		},
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: serverName}, // the tests look at the certificate themselves
		DisableKeepAlives: true,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
