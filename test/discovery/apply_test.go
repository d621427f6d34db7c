package discovery_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/testkit/questions"
)

// TestFirstQuestion: whoever asks for a Service the moment after the API has taken it gets its address, and not before the data plane has it;
// a denial is the API's own. The data plane takes its time here, so that every question comes too early.
func TestFirstQuestion(t *testing.T) {
	t.Parallel()
	a := startAPI(t)
	srv, st := serve(t, a.config, dns.Config{AfterConsumer: "nft"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reported atomic.Uint64
	nft := st.Follow("nft")
	defer nft.Close()
	follows := make(chan struct{})
	go func() {
		defer close(follows)
		for {
			snap, _, err := nft.Next(ctx)
			if err != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond): // a slow kernel, no waiting for a state
			}
			reported.Store(uint64(snap.Revision))
			nft.Report(snap.Revision, nil, nil)
		}
	}()
	defer func() { cancel(); <-follows }()
	ask := func(network, name, qtype string) string {
		return questions.Render(t, questions.Exchange(t, srv, network, questions.Message(name, qtype)))
	}
	const denied = "NXDOMAIN aa: ; SOA cluster.local."
	for i := range 25 {
		network := []string{"udp", "tcp"}[i%2]
		ns := "default"
		if i%5 == 4 { // the namespace is as new
			ns = fmt.Sprintf("space-%d", i)
			if _, err := a.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		name := fmt.Sprintf("new-%d", i)
		full := name + "." + ns + ".svc.cluster.local"
		// Now it is denied, for good reasons, and nothing of that may be remembered.
		if got := ask(network, full, "A"); ns == "default" && got != denied {
			t.Fatalf("%s before it exists: %s", full, got)
		}
		before := reported.Load()
		svc, err := a.CoreV1().Services(ns).Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 {
			want := fmt.Sprintf("NOERROR aa: @ SRV 0 100 80 %s. + %s. A %s", full, full, svc.Spec.ClusterIP)
			if got := ask(network, "_http._tcp."+full, "SRV"); got != want {
				t.Fatalf("the first question: %s, want %s", got, want)
			}
		} else if got, want := ask(network, full, "A"), "NOERROR aa: @ A "+svc.Spec.ClusterIP; got != want {
			t.Fatalf("the first question: %s, want %s", got, want)
		}
		if reported.Load() == before {
			t.Fatalf("%s is answered before the data plane has it", full)
		}
		if i%4 == 0 {
			if err := a.CoreV1().Services(ns).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the name's end", func() bool { return ask(network, full, "A") == denied })
		}
	}
	// A headless Service without endpoints is there, and has no name: nobody waits for one.
	_, err := a.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "none"}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := ask("udp", "none.default.svc.cluster.local", "A"); got != denied {
		t.Errorf("a headless Service without endpoints: %s", got)
	}
}
