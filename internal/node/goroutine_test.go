package node_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Not parallel: it looks at all goroutines of the process.
func TestRunLeavesNoGoroutine(t *testing.T) {
	m := newMachine(t)
	base, config := withAPI(m)
	m.run("web", "serve=:8080", withReadiness)
	m.run("crash", "exit=1", nil)
	m.run("wait", "", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "127.0.0.1:1/absent:v1" })
	m.until("web", "ready", ready)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		// Its end comes from the node's, as an error or as the end of the text.
		client, err := clientFor(config)
		if err != nil {
			return
		}
		answer, err := client.Get(base + "/containerLogs/default/web/main?follow=true")
		if err == nil {
			_, _ = answer.Body.Read(make([]byte, 8))
			answer.Body.Close()
		}
	}()
	<-followed
	m.halt()
	var left []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		stacks := make([]byte, 4<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		left = nil
		for _, one := range strings.Split(string(stacks), "\n\n") {
			if strings.Contains(one, "fairway.dev/fairway/internal/node.") || strings.Contains(one, "fairway.dev/fairway/internal/node/") {
				if !strings.Contains(one, "node_test.") && !strings.Contains(one, "testing.tRunner") {
					left = append(left, one)
				}
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(left, "\n\n"))
}
