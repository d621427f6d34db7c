package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"

	"fairway.dev/fairway/bench/figures"
)

const (
	namespace = "default"
	lists     = 10
	changes   = 500
)

// load measures creates with none and with many Services present, then reads and the watch among them.
func (b *bench) load(ctx context.Context, s subject, m measured) error {
	var clients []kubernetes.Interface // each with connections of its own, as the many clients of a cluster have
	for range b.clients {
		config, err := clientConfig(s)
		if err != nil {
			return err
		}
		config.Dial = (&net.Dialer{}).DialContext // of its own, so connections are not shared
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		clients = append(clients, client)
	}
	create := func(prefix string, count int) (perSecond, cpuMs float64, err error) {
		bodies, err := services(prefix, count)
		if err != nil {
			return 0, 0, err
		}
		before, began := cpuSeconds(s.pids()), time.Now()
		err = spread(ctx, clients, count, func(ctx context.Context, client kubernetes.Interface, i int) error {
			return client.CoreV1().RESTClient().Post().Namespace(namespace).Resource("services").
				SetHeader("Content-Type", runtime.ContentTypeProtobuf).Body(bodies[i]).Do(ctx).Error()
		})
		took := time.Since(began).Seconds()
		return float64(count) / took, (cpuSeconds(s.pids()) - before) / float64(count) * 1000, err
	}
	var err error
	first := min(b.creates, b.present)
	if m["api-creates-0-present"], _, err = create("fill", first); err != nil {
		return err
	}
	if _, _, err = create("more", b.present-first); err != nil {
		return err
	}
	if m["api-creates-full"], m["api-create-cpu-full"], err = create("bench", b.creates); err != nil {
		return err
	}
	fmt.Printf("%s: creates per second: %.0f with none present, %.0f with %d; %.3f ms of CPU each\n",
		s.name(), m["api-creates-0-present"], m["api-creates-full"], b.present, m["api-create-cpu-full"])
	if err := b.reads(ctx, s, clients, first, m); err != nil {
		return err
	}
	if err := watchLatency(ctx, clients[0], first, m); err != nil {
		return err
	}
	m["api-memory-full"] = memoryMiB(s.pids())
	fmt.Printf("%s: change to watcher p50 %.2f ms, p99 %.2f ms; memory with %d Services %.0f MiB\n",
		s.name(), m["api-watch-p50"], m["api-watch-p99"], b.present+b.creates, m["api-memory-full"])
	return nil
}

// spread does something count times, by all clients at once.
func spread(ctx context.Context, clients []kubernetes.Interface, count int, do func(context.Context, kubernetes.Interface, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for k, client := range clients {
		g.Go(func() error {
			for i := k; i < count; i += len(clients) {
				if err := do(ctx, client, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// services are the bodies of requests that create Services. They are made before the clock starts, and answers are not decoded: the processors
// are shared with the server, and it is the server that is measured.
func services(prefix string, count int) ([][]byte, error) {
	bodies := make([][]byte, count)
	for i := range bodies {
		name := fmt.Sprintf("%s-%05d", prefix, i)
		var err error
		bodies[i], err = runtime.Encode(protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), &corev1.Service{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		})
		if err != nil {
			return nil, fmt.Errorf("service %s: encode: %w", name, err)
		}
	}
	return bodies, nil
}

func (b *bench) reads(ctx context.Context, s subject, clients []kubernetes.Interface, known int, m measured) error {
	before, began := cpuSeconds(s.pids()), time.Now()
	if err := spread(ctx, clients, b.creates, func(ctx context.Context, client kubernetes.Interface, _ int) error {
		return client.CoreV1().RESTClient().Get().Namespace(namespace).Resource("services").Name(fmt.Sprintf("fill-%05d", rand.IntN(known))).Do(ctx).Error()
	}); err != nil {
		return err
	}
	m["api-gets-full"] = float64(b.creates) / time.Since(began).Seconds()
	m["api-get-cpu-full"] = (cpuSeconds(s.pids()) - before) / float64(b.creates) * 1000
	var ms []float64
	for range lists {
		began := time.Now()
		if err := clients[0].CoreV1().RESTClient().Get().Namespace(namespace).Resource("services").Do(ctx).Error(); err != nil {
			return err
		}
		ms = append(ms, time.Since(began).Seconds()*1000)
	}
	m["api-list-full"] = figures.Median(ms)
	fmt.Printf("%s: gets per second %.0f, %.3f ms of CPU each; list of %d Services %.0f ms\n",
		s.name(), m["api-gets-full"], m["api-get-cpu-full"], b.present+b.creates, m["api-list-full"])
	return nil
}

// watchLatency measures from a change being sent to a watcher having it, one change after the other.
func watchLatency(ctx context.Context, client kubernetes.Interface, known int, m measured) error {
	watch, err := client.CoreV1().Services(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: "0", LabelSelector: "bench=watched"})
	if err != nil {
		return err
	}
	defer watch.Stop()
	var ms []float64
	for i := range changes {
		name := fmt.Sprintf("fill-%05d", i%known)
		patch := fmt.Sprintf(`{"metadata":{"labels":{"bench":"watched"},"annotations":{"bench":"%d"}}}`, i)
		began := time.Now()
		if _, err := client.CoreV1().Services(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return err
		}
		for seen := false; !seen; {
			select {
			case event, ok := <-watch.ResultChan():
				if !ok {
					return fmt.Errorf("the watch ended")
				}
				svc, _ := event.Object.(*corev1.Service)
				seen = svc != nil && svc.Name == name && svc.Annotations["bench"] == fmt.Sprint(i)
			case <-time.After(time.Minute):
				return fmt.Errorf("service %s: the watcher has not seen its change after a minute", name)
			}
		}
		ms = append(ms, time.Since(began).Seconds()*1000)
	}
	m["api-watch-p50"], m["api-watch-p99"] = figures.Percentile(ms, 50), figures.Percentile(ms, 99)
	return nil
}
