package apiserver

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/apiserver/pki"
)

// Who may do what, seen from outside.
func TestAccess(t *testing.T) {
	t.Parallel()
	client := func(leaf *pki.Leaf, authority *pki.Authority, token string) *http.Client {
		config := &restclient.Config{Host: shared.url(), BearerToken: token, TLSClientConfig: restclient.TLSClientConfig{CAData: shared.authority.CertPEM()}}
		if leaf != nil {
			pair, err := authority.Leaf(*leaf)
			if err != nil {
				t.Fatal(err)
			}
			config.CertData, config.KeyData = pair.CertPEM, pair.KeyPEM
		}
		c, err := restclient.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	foreign, err := pki.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []struct {
		name              string
		client            *http.Client
		api, names, ready int // of what needs a right, of the names of kinds, of its health
	}{
		{"nobody", client(nil, nil, ""), 403, 403, 200},
		{"a wrong token", client(nil, nil, "nonsense"), 401, 401, 401},
		{"a component", client(nil, nil, shared.ClientConfig("component").BearerToken), 200, 200, 200},
		{"an administrator", client(&pki.Leaf{Name: "test-admin", CommonName: "a", Groups: []string{"system:masters"}}, shared.authority, ""), 200, 200, 200},
		{"a user without groups", client(&pki.Leaf{Name: "test-user", CommonName: "u"}, shared.authority, ""), 403, 200, 200},
		{"an administrator of another authority", client(&pki.Leaf{Name: "test-admin", CommonName: "a", Groups: []string{"system:masters"}}, foreign, ""), 401, 401, 401},
		{"the API as kubelet client", client(&pki.Leaf{Name: "kubelet-client", CommonName: kubeletClientName}, shared.authority, ""), 403, 200, 200},
	} {
		for path, want := range map[string]int{"/api/v1/namespaces": who.api, "/apis": who.names, "/metrics": who.api, "/readyz": who.ready, "/version": who.ready} {
			eventually(t, func() error { // in its first moments a server has no roles yet
				response, err := who.client.Get(shared.url() + path)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", who.name, path, err)
				}
				body, _ := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if response.StatusCode != want {
					return fmt.Errorf("%s: %s: got %d, want %d: %.200s", who.name, path, response.StatusCode, want, body)
				}
				return nil
			})
		}
	}
}

// The serving certificate covers every name and address of the server.
func TestServingNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"localhost", "127.0.0.1", "::1", "kubernetes", "kubernetes.default.svc.cluster.local", "10.96.0.1", "192.0.2.1"} {
		conn, err := tls.Dial("tcp", shared.Addresses()[0].String(), &tls.Config{RootCAs: shared.authority.Pool(), ServerName: name, MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
}

// `kubectl logs` goes through the API to the node's kubelet API, which lets in the API alone.
func TestLogsThroughKubelet(t *testing.T) {
	t.Parallel()
	serving, err := shared.KubeletServing(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	kubelet := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "log of "+r.URL.Path)
	}))
	kubelet.TLS = serving
	kubelet.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who are not let in
	kubelet.StartTLS()
	defer kubelet.Close()
	address := kubelet.Listener.Addr().(*net.TCPAddr)

	core := shared.client.CoreV1()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "log-node-"}}
	if node, err = core.Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address.IP.String()}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(address.Port)
	if _, err = core.Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	ns := shared.namespace(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: corev1.PodSpec{NodeName: node.Name, Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
	if _, err := core.Pods(ns).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := core.Pods(ns).GetLogs("p", &corev1.PodLogOptions{}).DoRaw(t.Context())
	if want := "log of /containerLogs/" + ns + "/p/c"; err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}

	for _, who := range []struct {
		name  string
		certs []tls.Certificate
	}{{"nobody", nil}, {"the administrator", []tls.Certificate{certificate(t, shared.admin)}}} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: shared.authority.Pool(), Certificates: who.certs, MinVersion: tls.VersionTLS12}}}
		if response, err := client.Get("https://" + address.String() + "/containerLogs/a/b/c"); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s can read logs from the kubelet API: %s", who.name, response.Status)
		}
		client.CloseIdleConnections()
	}
}

func certificate(t *testing.T, pair pki.Pair) tls.Certificate {
	t.Helper()
	c, err := pair.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What a component writes carries its name.
func TestComponentName(t *testing.T) {
	t.Parallel()
	client, err := kubernetes.NewForConfig(shared.ClientConfig("system:node:n1", "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.AuthenticationV1().RESTClient().Post().Resource("selfsubjectreviews").
		Body([]byte(`{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`)).
		SetHeader("Content-Type", "application/json").SetHeader("Accept", "application/json").DoRaw(t.Context())
	for _, want := range []string{`"system:node:n1"`, `"system:nodes"`, `"system:authenticated"`} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("who am I: %s, %v; want %s", out, err, want)
		}
	}
}
