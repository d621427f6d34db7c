package testkit

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestNamespaceIsEmptyAndApart(t *testing.T) {
	t.Parallel()
	n := NewNetNS(t)
	host, err := os.Readlink("/proc/thread-self/ns/net") // self is one thread that may be inside one
	if err != nil {
		t.Fatal(err)
	}
	n.Do(func() {
		if in, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || in == host {
			t.Errorf("Do runs in %s, the host's namespace (%v)", in, err)
		}
	})
	if back, err := os.Readlink("/proc/thread-self/ns/net"); err != nil || back != host {
		t.Errorf("after Do the thread is in %s, want %s (%v)", back, host, err)
	}
	if out := n.Run("ip", "-o", "link"); strings.Count(out, "\n") != 1 || !strings.Contains(out, "LOOPBACK,UP") {
		t.Errorf("links of a fresh namespace: %s", out)
	}
	if out := n.Run("ip", "route") + n.Run("ip", "-6", "route", "show", "default"); out != "" {
		t.Errorf("routes of a fresh namespace: %s", out)
	}
}

func TestWireCarriesBothFamilies(t *testing.T) {
	t.Parallel()
	a, b := NewNetNS(t), NewNetNS(t)
	Join(a, "toB", b, "toA")
	a.AddAddr("toB", "10.1.0.1/24")
	b.AddAddr("toA", "10.1.0.2/24")
	a.AddAddr("toB", "fd01::1/64")
	b.AddAddr("toA", "fd01::2/64")
	for _, addr := range []string{"10.1.0.2:80", "[fd01::2]:80"} {
		l, err := b.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go serveGreeting(l)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		c, err := a.Dial(ctx, "tcp", addr)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if string(got) != "hello" || err != nil {
			t.Errorf("%s answered %q, %v", addr, got, err)
		}
		_ = c.Close()
		_ = l.Close()
	}
}

func serveGreeting(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte("hello"))
		_ = c.Close()
	}
}
