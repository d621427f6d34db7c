package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// TestRestarts kills the agent and starts it again, over and over, while clients hold connections and open new ones: none is cut, no datagram is
// lost, and not one element of the rules is deleted. In between the API is away, and it changes while the agent is. Then what is left is cleaned up.
//
// FAIRWAY_RESTARTS says how often, otherwise than twenty times.
func TestRestarts(t *testing.T) {
	t.Parallel()
	b := newSecond(t)
	b.start()
	b.withWeb()
	b.apply(bothManifest)
	b.apply(nodeB)
	b.must("kubectl", "patch", "node", "b", "--subresource=status", "--type=merge", "-p", addressesOfB)
	given := []string{"--kubeconfig", b.kubeconfig(), "--pod-cidr", pods4 + "," + pods6}
	b.agent(given...)
	b.untilReady()

	// Whoever starts a second one, or takes the rules away, is told who has them.
	running := fmt.Sprintf("(pid %d)", b.p.cmd.Process.Pid)
	for _, args := range [][]string{
		append([]string{"agent", "--service-cidr", services4, "--health-listen", "off"}, given...), {"cleanup"}, {"cleanup", "--dry-run"}, {"agent", "--cleanup"},
	} {
		out, err := b.onB(args...)
		if err == nil || !strings.Contains(out, running) {
			t.Errorf("fairway %s beside the agent %s: %v\n%s", args[0], running, err, out)
		}
	}

	deleted := b.watchDeletions()
	l := b.startLoad()
	l.more("at first")
	for n := range times(t, "FAIRWAY_RESTARTS", 20) {
		sig := syscall.SIGKILL
		if n%4 == 3 {
			sig = syscall.SIGTERM
		}
		b.stop(sig)
		if n == 0 {
			l.more("without the agent")
		}
		b.agent(given...)
		b.untilReady()
		if t.Failed() {
			break
		}
	}
	l.more("after the restarts")

	// The API is away when the agent starts: everything stays as it is, and the status says so.
	b.stop(syscall.SIGKILL)
	b.end(syscall.SIGTERM)
	b.agent(given...)
	b.until("the agent says that it waits for the API", func() error {
		status, body, err := b.healthy("/readyz?verbose")
		if err == nil && (status != 503 || !strings.Contains(body, "[-]source services: no first list yet")) {
			err = fmt.Errorf("status %d\n%s", status, body)
		}
		return err
	})
	if _, err := b.lookup("udp", wireB4+":10053", "web.default.svc.cluster.local."); err == nil {
		t.Error("DNS answers what it cannot know yet")
	}
	l.more("without the API")
	if out := deleted(); out != "" {
		t.Errorf("restarts deleted\n%s", out)
	}

	// It comes back, and has changed; what watches deletions sees these.
	b.start()
	b.untilReady()
	b.must("kubectl", "delete", "svc", "empty")
	b.until("a Service that went is gone from the kernel", func() error {
		if out := deleted(); !strings.Contains(out, "services") {
			return fmt.Errorf("deleted: %q", out)
		}
		return nil
	})
	l.more("with the API")
	l.end()

	// A graceful stop leaves the rules; cleanup takes them, and twice is fine.
	b.stop(syscall.SIGTERM)
	rules := func() string { return strings.TrimSpace(b.ns.Run("nft", "list", "tables")) }
	if now := rules(); !strings.Contains(now, "table ip fairway") || !strings.Contains(now, "table ip6 fairway") {
		t.Errorf("after a graceful stop there are\n%s", now)
	}
	type cleaned struct {
		DryRun        bool
		Removed, Kept []string
	}
	for i, args := range [][]string{{"--dry-run"}, {}, {}} {
		out, err := b.onB(append([]string{"cleanup", "-o", "json"}, args...)...)
		var c cleaned
		if err := errors.Join(err, json.Unmarshal([]byte(out), &c)); err != nil {
			t.Fatalf("fairway cleanup %v: %v\n%s", args, err, out)
		}
		if want := []string{"table ip fairway", "table ip6 fairway"}[:[]int{2, 2, 0}[i]]; fmt.Sprint(c.Removed) != fmt.Sprint(want) || c.DryRun != (i == 0) {
			t.Errorf("fairway cleanup %v: %+v, want %v", args, c, want)
		}
		if now := rules(); (now != "") != (i == 0) {
			t.Errorf("after fairway cleanup %v there are %q", args, now)
		}
	}
}

// onB runs the binary on the second machine, where no instance is.
func (b *second) onB(args ...string) (string, error) {
	cmd := b.ns.Command(binary(b.t), args...)
	cmd.Env = append(cmd.Environ(), "FAIRWAY_RUN_DIR="+b.dir+"/none", "FAIRWAY_DATA_DIR="+b.dir+"/nothing")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// watchDeletions listens to what the kernel tells of every change of nftables, and gives what has been deleted so far: elements, sets, chains and
// tables. Rules are replaced at each start, in one transaction.
func (b *second) watchDeletions() (deleted func() string) {
	b.t.Helper()
	var c *netlink.Conn
	var err error
	b.ns.Do(func() { c, err = netlink.Dial(unix.NETLINK_NETFILTER, nil) })
	if err != nil {
		b.t.Fatal(err)
	}
	const group = 7 // NFNLGRP_NFTABLES
	if err := errors.Join(c.SetReadBuffer(8<<20), c.JoinGroup(group)); err != nil {
		b.t.Fatal(err)
	}
	out := &buffer{}
	var listening sync.WaitGroup
	listening.Go(func() {
		kinds := map[netlink.HeaderType]string{
			unix.NFT_MSG_DELSETELEM: "elements of", unix.NFT_MSG_DELSET: "set", unix.NFT_MSG_DELCHAIN: "chain", unix.NFT_MSG_DELTABLE: "table",
		}
		for {
			messages, err := c.Receive()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err != nil {
				fmt.Fprintln(out, err)
				return
			}
			for _, m := range messages {
				kind, is := kinds[m.Header.Type&0xff]
				if !is || len(m.Data) < 4 {
					continue
				}
				ad, err := netlink.NewAttributeDecoder(m.Data[4:])
				if err != nil {
					continue
				}
				var names []string
				for ad.Next() { // the first two attributes of all four are the table's name, and the object's own
					if t := ad.Type(); t == 1 || t == 2 && kind != "table" && kind != "chain" || t == 3 && kind == "chain" {
						names = append(names, ad.String())
					}
				}
				fmt.Fprintln(out, kind, names)
			}
		}
	})
	b.t.Cleanup(func() {
		_ = c.SetReadDeadline(time.Unix(1, 0))
		listening.Wait()
		_ = c.Close()
	})
	return out.String
}
