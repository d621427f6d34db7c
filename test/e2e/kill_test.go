package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestKill kills server processes one after another under a storm of new connections. A connection that was open at the killed process may be
// cut; not one may be refused, although the kernel hands out the dead process's address until it is told.
//
// It runs alone: what it proves is bounded in time (the kernel must be told within the second that a client waits before its next SYN), and tests
// beside it would take that time away.
func TestKill(t *testing.T) {
	m := newMachine(t)
	m.start()
	m.withWeb()
	m.must("kubectl", "scale", "deploy/web", "--replicas=3")
	m.must("kubectl", "rollout", "status", "deploy/web", "--timeout=90s")
	url := "http://" + net.JoinHostPort(m.clusterIPs("web")[0], "80") + "/"
	m.answers(url, "")

	var asked, cut atomic.Int64
	var mu sync.Mutex
	var failures []error
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				asked.Add(1)
				status, body, _, err := m.get(url, "")
				switch {
				case err == nil && status == 200:
				case wasCut(err):
					cut.Add(1)
				default:
					mu.Lock()
					failures = append(failures, fmt.Errorf("status %d %s: %w", status, body, err))
					mu.Unlock()
				}
			}
		})
	}
	kills := 0
	for range 2 {
		for _, pod := range strings.Fields(m.must("kubectl", "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}")) {
			pid := m.processOf(pod)
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("kill %s, pid %d: %v", pod, pid, err)
			}
			kills++
			before := asked.Load()
			m.until(pod+" is ready again, and clients went on", func() error {
				ready := m.must("kubectl", "get", "pod", pod, "-o", `jsonpath={.status.containerStatuses[0].restartCount} {.status.conditions[?(@.type=="Ready")].status}`)
				if ready != "1 True" || asked.Load() < before+50 {
					return fmt.Errorf("restarts and Ready: %q; %d requests", ready, asked.Load()-before)
				}
				return nil
			})
		}
		// New Pods restart at once when they are killed for the first time; old ones would be held back.
		m.must("kubectl", "rollout", "restart", "deploy/web")
		m.must("kubectl", "rollout", "status", "deploy/web", "--timeout=90s")
		m.until("the old Pods are gone", func() error {
			if n := len(strings.Fields(m.must("kubectl", "get", "pods", "-l", "app=web", "-o", "name"))); n != 3 {
				return fmt.Errorf("%d Pods", n)
			}
			return nil
		})
	}
	close(stop)
	clients.Wait()
	t.Logf("%d kills and two rolling updates under %d requests: %d cut with the killed processes, %d failed otherwise", kills, asked.Load(), cut.Load(), len(failures))
	for _, err := range failures {
		t.Error(err)
	}
	// Four clients can have four requests open at a killed process, and no more.
	if n := cut.Load(); n > int64(4*kills) {
		t.Errorf("%d requests were cut by %d kills of processes that four clients talk to", n, kills)
	}
}

// wasCut tells whether an error is that of a connection that the server's kernel closed: with RST, or with FIN, which net/http tells
// apart by whether the request had been sent.
func wasCut(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || err != nil && (strings.HasSuffix(err.Error(), "EOF") || strings.Contains(err.Error(), "server closed idle connection"))
}

// processOf finds the process of a Pod's container: the one whose environment has the Pod's name and whose root is not the machine's.
func (m *machine) processOf(pod string) int {
	m.t.Helper()
	found := 0
	m.until("the process of "+pod+" is found", func() error {
		dirs, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, d := range dirs {
			pid, err := strconv.Atoi(d.Name())
			if err != nil {
				continue
			}
			if env, err := os.ReadFile("/proc/" + d.Name() + "/environ"); err == nil && strings.Contains("\x00"+string(env), "\x00POD_NAME="+pod+"\x00") {
				found = pid
				return nil
			}
		}
		return errors.New("no process has its name in its environment")
	})
	return found
}
