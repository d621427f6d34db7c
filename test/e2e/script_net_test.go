package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

// clusterDNS is where `fairway up` puts the cluster's DNS.
const clusterDNS = "10.96.0.10"

// cmdSysctl is `sysctl KEY=VALUE`: the machine is one that has this setting, which is nothing that Fairway has left.
func (s *scenario) cmdSysctl(args []string, o *output) error {
	err := s.run(s.ns.Command("sysctl", append([]string{"-w"}, args...)...), o)
	s.before = s.footprint()
	return err
}

// cmdDig is `dig ARGS...`: dig, asking the cluster's DNS unless an argument names another server.
func (s *scenario) cmdDig(args []string, o *output) error {
	named := slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "@") })
	if !named {
		args = append([]string{"@" + clusterDNS}, args...)
	}
	return s.run(s.ns.Command("dig", append([]string{"+time=5", "+tries=1"}, args...)...), o)
}

// cmdGet is `get [-within DURATION] URL [HOST]`: the body on stdout; status, headers and the server's certificate on stderr. A status from 400 on is a
// failure, as is no answer.
func (s *scenario) cmdGet(args []string, o *output) error {
	within := 5 * time.Second
	if len(args) > 1 && args[0] == "-within" {
		d, err := time.ParseDuration(args[1])
		if err != nil {
			return err
		}
		within, args = d, args[2:]
	}
	if len(args) < 1 || len(args) > 2 {
		return errors.New("usage: get [-within DURATION] URL [HOST]")
	}
	req, err := http.NewRequest(http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	if len(args) == 2 {
		req.Host = args[1]
	}
	c := client(s.ns, req.URL.Hostname())
	if req.Host != "" {
		c = client(s.ns, req.Host)
	}
	c.Timeout = within
	defer c.CloseIdleConnections()
	resp, err := c.Do(req)
	if err != nil {
		fmt.Fprintln(&o.err, err)
		return err
	}
	defer resp.Body.Close()
	fmt.Fprintln(&o.err, "status", resp.Status)
	if resp.TLS != nil {
		leaf := resp.TLS.PeerCertificates[0]
		fmt.Fprintf(&o.err, "certificate %s for %s\n", leaf.Subject.CommonName, strings.Join(leaf.DNSNames, ","))
	}
	_ = resp.Header.Write(&o.err)
	if _, err := io.Copy(&o.out, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return errors.New("status " + resp.Status)
	}
	return nil
}

// cmdWebSocket is `websocket URL TEXT`: a connection is upgraded to a WebSocket and a message goes out on it; what comes back is on stdout.
func (s *scenario) cmdWebSocket(args []string, o *output) error {
	if len(args) != 2 {
		return errors.New("usage: websocket URL TEXT")
	}
	config, err := websocket.NewConfig(args[0], "http://localhost")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := s.ns.Dial(ctx, "tcp", config.Location.Host)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, err := websocket.NewClient(config, conn)
	if err != nil {
		fmt.Fprintln(&o.err, err)
		return err
	}
	if err := websocket.Message.Send(c, args[1]); err != nil {
		return err
	}
	var answer string
	if err := websocket.Message.Receive(c, &answer); err != nil {
		return err
	}
	fmt.Fprintln(&o.out, answer)
	return nil
}

// cmdUDP is `udp ADDRESS TEXT`: a datagram, and on stdout the one that comes back.
func (s *scenario) cmdUDP(args []string, o *output) error {
	if len(args) != 2 {
		return errors.New("usage: udp ADDRESS TEXT")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := s.ns.Dial(ctx, "udp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := c.Write([]byte(args[1])); err != nil {
		fmt.Fprintln(&o.err, err)
		return err
	}
	answer := make([]byte, 2048)
	n, err := c.Read(answer)
	o.out.Write(answer[:n])
	if err != nil {
		fmt.Fprintln(&o.err, err)
	}
	return err
}

// cmdListen is `listen ADDRESS`: the TCP port is taken, from here to the end of the script.
func (s *scenario) cmdListen(args []string, _ *output) error {
	if len(args) != 1 {
		return errors.New("usage: listen ADDRESS")
	}
	l, err := s.ns.Listen("tcp", args[0])
	if err == nil {
		s.t.Cleanup(func() { l.Close() })
	}
	return err
}

// cmdKernel is `kernel`: every element that Fairway's tables hold for Services, one on each line, sorted. What is the same whatever
// Services there are (which numbers lead to which chain) and what times out by itself is left out.
func (s *scenario) cmdKernel(_ []string, o *output) error {
	type set struct {
		Family, Name string
		Flags        any
		Elem         []json.RawMessage
	}
	var lines []string
	for _, family := range []string{"ip", "ip6"} {
		var table output
		if err := s.run(s.ns.Command("nft", "-j", "list", "table", family, "fairway-"+s.name), &table); err != nil {
			return fmt.Errorf("%w: %s", err, &table.err)
		}
		var listing struct {
			Nftables []struct{ Map, Set *set }
		}
		if err := json.Unmarshal(table.out.Bytes(), &listing); err != nil {
			return err
		}
		for _, item := range listing.Nftables {
			one := item.Map
			if one == nil {
				one = item.Set
			}
			if one == nil || strings.Contains(one.Name, "pick") || one.Name == "masquerades" || strings.Contains(fmt.Sprint(one.Flags), "timeout") {
				continue
			}
			for _, e := range one.Elem {
				var flat bytes.Buffer
				if err := json.Compact(&flat, e); err != nil {
					return err
				}
				lines = append(lines, fmt.Sprintf("%s %s %s", one.Family, one.Name, &flat))
			}
		}
	}
	slices.Sort(lines)
	for _, l := range lines {
		fmt.Fprintln(&o.out, l)
	}
	return nil
}

// cmdCert is `cert FILE SUBJECT NAME...`: FILE.crt and FILE.key, a certificate of its own for these names.
func (s *scenario) cmdCert(args []string, _ *output) error {
	if len(args) < 3 {
		return errors.New("usage: cert FILE SUBJECT NAME...")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: args[1]}, DNSNames: args[2:],
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	path := filepath.Join(s.cwd, args[0])
	if err := os.WriteFile(path+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
