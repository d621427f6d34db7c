package network_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"fairway.dev/fairway/internal/node/network"
	"fairway.dev/fairway/internal/node/nodetest"
)

// TestAwaitAccepted has a connection stand in the queue of a server that is slow to accept.
func TestAwaitAccepted(t *testing.T) {
	nodetest.Need(t)
	c := config(t, "queue")
	if err := network.Setup(c); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := network.Teardown(c.Instance, c.RunDir); err != nil {
			t.Error(err)
		}
	}()
	s, err := network.CreateSandbox(c, "pod", addresses("10.244.0.2", "fd00:10:244::2"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := network.AwaitAccepted(ctx, s); err != nil {
		t.Fatalf("without any server: %v", err)
	}
	var l net.Listener
	inside(t, s.Path, func() (err error) {
		l, err = net.Listen("tcp", ":8080")
		return err
	})
	defer l.Close()
	if err := network.AwaitAccepted(ctx, s); err != nil {
		t.Fatalf("without a client: %v", err)
	}
	for _, addr := range []string{"10.244.0.2:8080", "[fd00:10:244::2]:8080"} {
		conn, err := net.DialTimeout("tcp", addr, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		brief, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if err := network.AwaitAccepted(brief, s); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: while it is not accepted: %v", addr, err)
		}
		cancel()
		waited := make(chan error, 1)
		go func() { waited <- network.AwaitAccepted(ctx, s) }()
		accepted, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer accepted.Close()
		if err := <-waited; err != nil {
			t.Errorf("%s: once it is accepted: %v", addr, err)
		}
	}
}
