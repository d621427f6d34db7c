package node_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/utils/exec"
)

// withAPI restarts the node with its kubelet API on loopback.
func withAPI(m *machine) (base string, client *rest.Config) {
	m.Helper()
	m.halt()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		m.Fatal(err)
	}
	m.config.KubeletTLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}
	m.config.KubeletListen = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(20000+instances.Add(1)))
	m.start()
	base, client = "https://"+m.config.KubeletListen.String(), &rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
	awaitAPI(m, base, client)
	return base, client
}

// awaitAPI waits until the kubelet API answers, which it does a moment after Pods are seen.
func awaitAPI(m *machine, base string, config *rest.Config) {
	m.Helper()
	client, err := clientFor(config)
	if err != nil {
		m.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		answer, err := client.Get(base + "/healthz")
		if err == nil {
			answer.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			m.Fatalf("the kubelet API does not answer: %v", err)
		}
	}
}

func clientFor(config *rest.Config) (*http.Client, error) {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: transport, Timeout: patience}, nil
}

func fetch(t *testing.T, config *rest.Config, url string) (int, string) {
	t.Helper()
	client, err := clientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

func TestKubeletAPILogs(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	base, config := withAPI(m)
	m.run("talk", "say=one complain=two say=three", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever })
	m.run("web", "say=hello serve=:8080", nil)
	m.run("pull", "", func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "absent:v1", corev1.PullNever
	})
	m.until("talk", "at its end", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	m.until("pull", "waiting", func(p *corev1.Pod) bool { return len(p.Status.ContainerStatuses) > 0 })
	for _, test := range []struct {
		path string
		code int
		want string
	}{
		{"talk/main?stream=Stdout", 200, "one\nthree\n"},
		{"talk/main?stream=Stdout&tailLines=1", 200, "three\n"},
		{"talk/main?stream=Stderr&follow=true", 200, "two\n"},
		{"talk/main?tailLines=-1", 400, "tailLines"},
		{"talk/main?previous=true", 400, "previous terminated container"},
		{"talk/other", 404, "other"},
		{"absent/main", 404, "absent"},
		{"pull/main", 400, "waiting to start: ErrImageNeverPull"},
	} {
		code, body := fetch(t, config, base+"/containerLogs/default/"+test.path)
		if code != test.code || !strings.Contains(body, test.want) || code == 200 && body != test.want {
			t.Errorf("%s: %d %q, want %d %q", test.path, code, body, test.code, test.want)
		}
	}
	// A follower sees the last line of a container that is stopped, and then the end.
	pod := m.until("web", "ready", ready)
	client, err := clientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	following, err := client.Get(base + "/containerLogs/default/web/main?follow=true") // returns when the answer has begun
	if err != nil {
		t.Fatal(err)
	}
	defer following.Body.Close()
	waitForLog(m, pod, "serving\n")
	m.markDeleted("web", 30)
	if got, err := io.ReadAll(following.Body); err != nil || string(got) != "hello\nserving\nterminated\n" {
		t.Errorf("followed %q, %v", got, err)
	}
}

func waitForLog(m *machine, pod *corev1.Pod, line string) {
	m.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(m.log(pod, "main", 0), line); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.Fatalf("%q was never logged", line)
		}
	}
}

func TestKubeletAPIExec(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	base, config := withAPI(m)
	m.run("web", "serve=:8080", nil)
	m.until("web", "ready", ready)
	run := func(tty bool, in string, args ...string) (string, error) {
		query := url.Values{"command": append([]string{"/app"}, args...), "output": {"1"}}
		if in != "" {
			query.Set("input", "1")
		}
		if tty {
			query.Set("tty", "1")
		}
		target, err := url.Parse(base + "/exec/default/web/main?" + query.Encode())
		if err != nil {
			t.Fatal(err)
		}
		executor, err := remotecommand.NewSPDYExecutor(config, http.MethodPost, target)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		options := remotecommand.StreamOptions{Stdout: &out, Tty: tty}
		if in != "" {
			options.Stdin = strings.NewReader(in)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err = executor.StreamWithContext(ctx, options)
		return out.String(), err
	}
	if out, err := run(false, "", "hostname"); out != "web\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := run(false, "typed", "echo"); out != "typed" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := run(true, "", "hostname"); strings.TrimRight(out, "\r\n") != "web" || !strings.HasSuffix(out, "\r\n") || err != nil {
		t.Errorf("on a terminal: %q, %v", out, err)
	}
	var exit utilexec.ExitError
	if _, err := run(false, "", "exit=5"); !errors.As(err, &exit) || exit.ExitStatus() != 5 {
		t.Errorf("exit code 5 came as %v", err)
	}
}

func TestKubeletAPIPortForwardReachesLoopbackOfThePod(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	base, config := withAPI(m)
	pod := m.run("web", "serve=127.0.0.1:8080", nil)
	m.until("web", "ready", ready)
	waitForLog(m, pod, "serving\n")
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(base + "/portForward/default/web")
	if err != nil {
		t.Fatal(err)
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, target)
	stop, up := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.New(dialer, []string{"0:8080"}, stop, up, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-up:
	case err := <-ended:
		t.Fatal(err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, fmt.Sprintf("http://127.0.0.1:%d/", ports[0].Local)); got != "web\n" {
		t.Errorf("through the forwarded port: %q", got)
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
