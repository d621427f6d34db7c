package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"

	"fairway.dev/fairway/internal/kube"
)

// badLine is a TCP proxy whose connections break, and that leads to one server after the other.
type badLine struct {
	net.Listener

	mu    sync.Mutex
	to    string
	down  bool
	conns map[net.Conn]net.Conn
}

func newBadLine(t *testing.T, to string) *badLine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &badLine{Listener: l, to: to, conns: make(map[net.Conn]net.Conn)}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { b.join(near) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		b.set(true)
		open.Wait()
	})
	return b
}

func (b *badLine) join(near net.Conn) {
	defer func() { _ = near.Close() }()
	b.mu.Lock()
	to := b.to
	b.mu.Unlock()
	far, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	b.mu.Lock()
	if b.down {
		b.mu.Unlock()
		return
	}
	b.conns[near] = far
	b.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_, _ = near.Close(), far.Close()
		})
	}
	both.Wait()
	b.mu.Lock()
	delete(b.conns, near)
	b.mu.Unlock()
}

// lead makes connections from now on go elsewhere.
func (b *badLine) lead(to string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.to = to
}

// set cuts all connections, and lets new ones through unless down.
func (b *badLine) set(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
	for near, far := range b.conns {
		_, _ = near.Close(), far.Close()
	}
}

// seen is what somebody who only hears of changes knows: the version of each object.
type seen struct {
	mu       sync.Mutex
	versions map[string]string
}

func (s *seen) put(name, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions[name] = version
}

func (s *seen) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.versions, name)
}

func (s *seen) all() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.versions)
}

// Replace, Put and Delete implement kube.Receiver.
func (s *seen) Replace(items []kube.Item[string], _ kube.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.versions)
	for _, item := range items {
		s.versions[item.Name.Name] = item.Row
	}
}
func (s *seen) Put(name types.NamespacedName, version string) { s.put(name.Name, version) }
func (s *seen) Delete(name types.NamespacedName)              { s.remove(name.Name) }

// observe starts client-go's informer and our own watch on the Services of the namespace "default", through that configuration: what each
// knows has a name. The second result is the newest version that the informer has heard of.
func observe(t *testing.T, config *restclient.Config) (knows map[string]func() map[string]string, last func() string) {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace("default"))
	informer := factory.Core().V1().Services().Informer()
	events := &seen{versions: map[string]string{}}
	changed := func(obj any) {
		svc := obj.(*corev1.Service)
		events.put(svc.Name, svc.ResourceVersion)
	}
	if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: changed, UpdateFunc: func(_, obj any) { changed(obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			events.remove(obj.(*corev1.Service).Name)
		},
	}); err != nil {
		t.Fatal(err)
	}
	light, err := kube.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	ours := &seen{versions: map[string]string{}}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	factory.Start(ctx.Done())
	watching.Go(func() {
		kube.Watch(ctx, slog.New(slog.DiscardHandler), "services",
			light.ListWatch(corev1.SchemeGroupVersion.WithResource("services"), kube.Selection{Fields: "metadata.namespace=default"}),
			func(svc *corev1.Service) (string, bool) { return svc.ResourceVersion, true }, ours)
	})
	t.Cleanup(func() {
		cancel()
		factory.Shutdown()
		watching.Wait()
	})
	return map[string]func() map[string]string{
		"informer's cache": func() map[string]string {
			all := make(map[string]string)
			for _, obj := range informer.GetStore().List() {
				svc := obj.(*corev1.Service)
				all[svc.Name] = svc.ResourceVersion
			}
			return all
		},
		"informer's events": events.all,
		"kube.Watch":        ours.all,
	}, informer.LastSyncResourceVersion
}

// forgotten checks that the server refuses a watch from that version: whoever knows no more has to begin anew.
func (r *running) forgotten(t *testing.T, version string) {
	t.Helper()
	w, err := r.client.CoreV1().Services("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
	if err == nil {
		event := <-w.ResultChan()
		w.Stop()
		err = apierrors.FromObject(event.Object)
	}
	if status := apierrors.APIStatus(nil); !errors.As(err, &status) || status.Status().Code != 410 || !apierrors.IsResourceExpired(err) {
		t.Errorf("a watch from revision %s, which is compacted: %v; want 410 Expired", version, err)
	}
}

// churn creates, updates and removes Services at random, among few names so that they come and go.
func churn(t *testing.T, r *running, writes int) {
	t.Helper()
	api := r.client.CoreV1().Services("default")
	for range writes {
		name := fmt.Sprint("s", rand.IntN(25))
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Selector: map[string]string{"app": strconv.Itoa(rand.Int())}}}
		var err error
		switch rand.IntN(3) {
		case 0:
			err = api.Delete(t.Context(), name, metav1.DeleteOptions{})
		case 1:
			_, err = api.Update(t.Context(), svc, metav1.UpdateOptions{})
		}
		if err == nil || apierrors.IsNotFound(err) {
			if _, err = api.Create(t.Context(), svc, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
				err = nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if rand.IntN(3) == 0 {
			_ = api.Delete(t.Context(), name, metav1.DeleteOptions{})
		}
	}
}

// compactNow throws all old revisions away.
func (r *running) compactNow(t *testing.T) {
	t.Helper()
	etcd := r.database.running.Server
	if _, err := etcd.Compact(t.Context(), &pb.CompactionRequest{Revision: etcd.KV().Rev(), Physical: true}); err != nil {
		t.Fatal(err)
	}
}

// settleLimit is longer than client-go's reflector may wait between two attempts: it doubles its pause with every failure, up to 30 seconds and
// as much again by chance.
const settleLimit = 3 * time.Minute

// Whatever happens between a client and the server, or to the server and its history, whoever watches knows in the end what there is, and
// nothing that is gone.
func TestNoEventIsLost(t *testing.T) {
	t.Parallel()
	config := dualStack(shortDir(t))
	r := startFor(t, config)
	line := newBadLine(t, r.Addresses()[0].String())
	admin, err := clientcmd.BuildConfigFromFlags("", r.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	admin.Host, admin.QPS = "https://"+line.Addr().String(), -1
	observers, last := observe(t, admin)
	settled := func(what string) {
		t.Helper()
		within(t, settleLimit, func() error {
			// Asked each time: the server itself writes default/kubernetes when it finds it changed, so that what is right may change once more.
			list, err := r.client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			want := make(map[string]string)
			for _, svc := range list.Items {
				want[svc.Name] = svc.ResourceVersion
			}
			var errs []error
			for who, knows := range observers {
				if diff := cmp.Diff(want, knows()); diff != "" {
					errs = append(errs, fmt.Errorf("after %s, %s differs (-API +it):\n%s", what, who, diff))
				}
			}
			return errors.Join(errs...)
		})
	}
	first, err := r.client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	churn(t, r, 30)
	settled("the first writes")

	// Connections that break while things happen.
	stop := make(chan struct{})
	var cutting sync.WaitGroup
	cutting.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(20+rand.IntN(200)) * time.Millisecond):
				line.set(false)
			}
		}
	})
	churn(t, r, 200)
	close(stop)
	cutting.Wait()
	settled("cut connections")

	// A line that is down while more happens than the server remembers.
	line.set(true)
	churn(t, r, 100)
	r.compactNow(t)
	line.set(false)
	settled("a compaction during an outage")

	// A server that is started again, once with and once without anybody there to see it.
	for _, down := range []bool{false, true} {
		line.set(down)
		knew := last()
		churn(t, r, 30)
		if down {
			r.compactNow(t)
		}
		r.stopNow(t)
		r = startFor(t, config)
		if down {
			r.forgotten(t, knew) // so that they meet "too old resource version"
		}
		churn(t, r, 30)
		line.lead(r.Addresses()[0].String())
		line.set(false)
		settled(fmt.Sprintf("a restart, with the line down: %v", down))
	}

	// What is no longer there is said to be.
	r.forgotten(t, first.ResourceVersion)
}
