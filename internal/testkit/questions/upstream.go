package questions

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	miekg "github.com/miekg/dns"
)

// Serve runs a resolver on a free port of 127.0.0.1, UDP and TCP, until the test ends.
func Serve(t testing.TB, h miekg.HandlerFunc) netip.AddrPort {
	t.Helper()
	pc, l := BothSockets(t, "127.0.0.1")
	for _, s := range []*miekg.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		started, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return pc.LocalAddr().(*net.UDPAddr).AddrPort()
}

// BothSockets listens at a port that is free for UDP and TCP.
func BothSockets(t testing.TB, address string) (net.PacketConn, net.Listener) {
	t.Helper()
	for try := 0; ; try++ {
		pc, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		pc.Close()
		if try == 20 {
			t.Fatal(err)
		}
	}
}

// Upstream answers as a resolver that knows the names of the table that are not the cluster's.
func Upstream(w miekg.ResponseWriter, q *miekg.Msg) {
	m := new(miekg.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	asked := q.Question[0]
	add := func(rrs ...string) {
		for _, s := range rrs {
			rr, err := miekg.NewRR(s)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
	}
	switch n := strings.ToLower(asked.Name); {
	case asked.Qtype == miekg.TypePTR:
		add(asked.Name + " 5 IN PTR upstream.test.")
	case n == "example.com.":
		add(asked.Name + " 5 IN A 5.6.7.8")
	case n == "ext.interwebs.test.":
		if asked.Qtype == miekg.TypeA {
			add("ext.interwebs.test. 5 IN A 1.2.3.4")
		}
	case n == "alias.interwebs.test.":
		add("alias.interwebs.test. 5 IN CNAME ext.interwebs.test.", "ext.interwebs.test. 5 IN A 1.2.3.4")
	case n == "broken.interwebs.test.":
		m.Rcode = miekg.RcodeServerFailure
	default:
		m.Rcode = miekg.RcodeNameError
	}
	m.Compress = true
	_ = w.WriteMsg(m)
}
