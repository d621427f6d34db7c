package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// serve runs the kubelet API until ctx ends. Who may use it is decided by the TLS configuration, by client certificates.
func (n *Node) serve(ctx context.Context) error {
	if n.KubeletTLS == nil {
		return fmt.Errorf("node %s: kubelet API: no TLS configuration given", n.Name)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", n.KubeletListen.String())
	if err != nil {
		return fmt.Errorf("node %s: kubelet API: listen: %w", n.Name, err)
	}
	config := n.KubeletTLS.Clone()
	config.NextProtos = []string{"http/1.1"} // streams are upgraded connections, which HTTP/2 does not have
	open := newConnections(listener)
	server := &http.Server{
		Handler:           open.counted(n.kubeletAPI()),
		TLSConfig:         config,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       connContext,
		ErrorLog:          slog.NewLogLogger(n.Logger.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		server.Close()
		open.close()
	}()
	err = server.ServeTLS(open, "", "")
	if ctx.Err() == nil {
		return fmt.Errorf("node %s: kubelet API: %w", n.Name, err)
	}
	<-ended
	return nil
}

// kubeletAPI is the part of the kubelet's API that the API server's Pod sub-resources need.
func (n *Node) kubeletAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	mux.HandleFunc("GET /pods", n.servePods)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", n.serveLogs)
	// A path element {uid} is in use by clients that know it; the names are enough here.
	for _, path := range []string{"{namespace}/{pod}/{container}", "{namespace}/{pod}/{uid}/{container}"} {
		mux.HandleFunc("/exec/"+path, n.serveExec)
		mux.HandleFunc("/attach/"+path, n.serveAttach)
	}
	mux.HandleFunc("/portForward/{namespace}/{pod}", n.servePortForward)
	mux.HandleFunc("/portForward/{namespace}/{pod}/{uid}", n.servePortForward)
	return mux
}

func (n *Node) servePods(w http.ResponseWriter, r *http.Request) {
	list := corev1.PodList{Items: []corev1.Pod{}}
	list.APIVersion, list.Kind = "v1", "PodList"
	for _, one := range n.allWorkers() {
		one.ask(r.Context(), func() { list.Items = append(list.Items, *one.described()) })
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(list) // the client may be gone
}

// ask has f called by the worker's goroutine and waits for that; false if the worker has ended or ctx has.
func (w *worker) ask(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case w.events <- func() { f(); close(done) }:
	case <-w.done:
		return false
	case <-ctx.Done():
		return false
	}
	select {
	case <-done:
		return true
	case <-w.done:
		return false
	}
}

// target is what a request is about.
type target struct {
	pod       *corev1.Pod
	container *container // a copy
	handle    *handle    // nil if none was started
	netns     string     // empty: the machine's
}

// find looks a request's Pod and container up, and answers the request itself if they are not here.
func (n *Node) find(w http.ResponseWriter, r *http.Request) (target, bool) {
	namespace, name, wanted := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	var t target
	worker := n.worker(namespace, name)
	found := worker != nil && worker.ask(r.Context(), func() {
		t.pod, t.netns = worker.described(), worker.sandbox.Path
		if c := worker.state.container(wanted); c != nil {
			one := *c
			t.container, t.handle = &one, worker.handles[wanted]
		}
	})
	if !found {
		http.Error(w, fmt.Sprintf("pod %q not found in namespace %q on node %s", name, namespace, n.Name), http.StatusNotFound)
		return t, false
	}
	if wanted != "" && t.container == nil {
		http.Error(w, fmt.Sprintf("container %q not found in pod %q", wanted, name), http.StatusNotFound)
		return t, false
	}
	return t, true
}

// findRunning is find for what needs a container that runs.
func (n *Node) findRunning(w http.ResponseWriter, r *http.Request) (target, bool) {
	t, found := n.find(w, r)
	if found && (t.handle == nil || t.container.phase != phaseRunning) {
		http.Error(w, fmt.Sprintf("container %q in pod %q is not running", t.container.spec.Name, t.pod.Name), http.StatusBadRequest)
		return t, false
	}
	return t, found
}

func (n *Node) serveExec(w http.ResponseWriter, r *http.Request) {
	t, found := n.findRunning(w, r)
	if !found {
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err == nil && len(r.URL.Query()["command"]) == 0 {
		err = errors.New("no command given")
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeExec(w, r, &streams{r.Context(), t}, t.pod.Name, string(t.pod.UID), t.container.spec.Name,
		r.URL.Query()["command"], options, streaming.DefaultConfig.StreamIdleTimeout,
		streaming.DefaultConfig.StreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

func (n *Node) serveAttach(w http.ResponseWriter, r *http.Request) {
	t, found := n.findRunning(w, r)
	if !found {
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeAttach(w, r, &streams{r.Context(), t}, t.pod.Name, string(t.pod.UID), t.container.spec.Name,
		options, streaming.DefaultConfig.StreamIdleTimeout, streaming.DefaultConfig.StreamCreationTimeout,
		remotecommand.SupportedStreamingProtocols)
}

func (n *Node) servePortForward(w http.ResponseWriter, r *http.Request) {
	t, found := n.find(w, r)
	if !found {
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, &streams{r.Context(), t}, t.pod.Name, string(t.pod.UID), options,
		streaming.DefaultConfig.StreamIdleTimeout, streaming.DefaultConfig.StreamCreationTimeout, portforward.SupportedProtocols)
}
