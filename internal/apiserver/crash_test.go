package apiserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// childVariable makes the test binary run as a server that writes Services until it is killed. Its value is the directory.
const childVariable = "FAIRWAY_API_TEST_CHILD"

// runChild serves, writes in several ways at once, and prints one line for everything that was acknowledged:
//
//	service NAME HELD   a Service, with its addresses and node port
//	gone NAME           a ConfigMap that was created and deleted
//	counter NAME N      an object that counts: a ConfigMap by updates, a Secret by patches
func runChild() {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	r, err := start(dualStack(os.Getenv(childVariable)))
	if err != nil {
		fail(err)
	}
	acknowledged := make(chan string)
	write := func(one func(ctx context.Context, client kubernetes.Interface, i int) (string, error)) {
		client, err := kubernetes.NewForConfig(r.ClientConfig("writer"))
		if err != nil {
			fail(err)
		}
		go func() {
			for i := 0; ; i++ {
				line, err := one(context.Background(), client, i)
				if err != nil {
					fail(err)
				}
				acknowledged <- line
			}
		}()
	}
	for writer := range 3 {
		write(func(ctx context.Context, client kubernetes.Interface, i int) (string, error) {
			return writeService(ctx, client, fmt.Sprintf("w%d-%d-%d", os.Getpid(), writer, i))
		})
	}
	write(func(ctx context.Context, client kubernetes.Interface, i int) (string, error) {
		name := fmt.Sprintf("g%d-%d", os.Getpid(), i)
		if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, configMap(name), metav1.CreateOptions{}); err != nil {
			return "", err
		}
		return "gone " + name, client.CoreV1().ConfigMaps("default").Delete(ctx, name, metav1.DeleteOptions{})
	})
	write(func(ctx context.Context, client kubernetes.Interface, i int) (string, error) {
		cm := configMap(fmt.Sprint("updated-", os.Getpid()))
		cm.Labels = map[string]string{"count": fmt.Sprint(i)}
		var err error
		if i == 0 {
			_, err = client.CoreV1().ConfigMaps("default").Create(ctx, cm, metav1.CreateOptions{})
		} else {
			_, err = client.CoreV1().ConfigMaps("default").Update(ctx, cm, metav1.UpdateOptions{})
		}
		return fmt.Sprintf("counter %s %d", cm.Name, i), err
	})
	write(func(ctx context.Context, client kubernetes.Interface, i int) (string, error) {
		name := fmt.Sprint("patched-", os.Getpid())
		var err error
		if i == 0 {
			_, err = client.CoreV1().Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"count": "0"}}}, metav1.CreateOptions{})
		} else {
			_, err = client.CoreV1().Secrets("default").Patch(ctx, name, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"count":"%d"}}}`, i), metav1.PatchOptions{})
		}
		return fmt.Sprintf("counter %s %d", name, i), err
	})
	for line := range acknowledged {
		fmt.Println(line)
	}
}

// writeService creates a Service that stays, after one that frees again what the next may take.
func writeService(ctx context.Context, client kubernetes.Interface, name string) (string, error) {
	api := client.CoreV1().Services("default")
	if _, err := api.Create(ctx, numbered(name+"-freed"), metav1.CreateOptions{}); err != nil {
		return "", err
	}
	if err := api.Delete(ctx, name+"-freed", metav1.DeleteOptions{}); err != nil {
		return "", err
	}
	svc, err := api.Create(ctx, numbered(name), metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("service %s %s %d", svc.Name, strings.Join(svc.Spec.ClusterIPs, ","), svc.Spec.Ports[0].NodePort), nil
}

func numbered(name string) *corev1.Service {
	dual := corev1.IPFamilyPolicyRequireDualStack
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, IPFamilyPolicy: &dual, Ports: []corev1.ServicePort{{Port: 80}}},
	}
}

// A server is killed at random moments while it creates, updates, patches and deletes, four times over on the same data. Everything that it had
// acknowledged is there, and nothing was given out twice, by the same process or a later one.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	services, gone, counters := map[string]string{}, map[string]bool{}, map[string]int{}
	for range 4 {
		for _, line := range killAfter(t, dir, 20+rand.IntN(150)) {
			what, rest, _ := strings.Cut(line, " ")
			name, held, _ := strings.Cut(rest, " ")
			switch what {
			case "service":
				services[name] = held
			case "gone":
				gone[name] = true
			case "counter":
				counters[name], _ = strconv.Atoi(held)
			}
		}
	}
	if len(services) == 0 || len(gone) == 0 || len(counters) == 0 {
		t.Errorf("acknowledged were %d Services, %d deletions, %d counters", len(services), len(gone), len(counters))
	}

	r := startFor(t, dualStack(dir))
	list, err := r.client.CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stored := make(map[string]string)
	owner := make(map[string]string)
	own := func(what, name string) {
		if first, taken := owner[what]; taken {
			t.Errorf("%s belongs to %s and to %s", what, first, name)
		}
		owner[what] = name
	}
	for _, svc := range list.Items {
		for _, ip := range svc.Spec.ClusterIPs {
			own(ip, svc.Name)
		}
		if port := svc.Spec.Ports[0].NodePort; port != 0 {
			own(fmt.Sprint("node port ", port), svc.Name)
			stored[svc.Name] = fmt.Sprint(strings.Join(svc.Spec.ClusterIPs, ","), " ", port)
		}
	}
	for name, held := range services {
		if stored[name] != held {
			t.Errorf("service %s was acknowledged with %q, and has now %q", name, held, stored[name])
		}
	}
	checkCounters(t, r, gone, counters)
	// And the next ones do not meet them either.
	for i := range 200 {
		svc, err := r.client.CoreV1().Services("default").Create(t.Context(), numbered(fmt.Sprintf("after-%d", i)), metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, ip := range svc.Spec.ClusterIPs {
			own(ip, svc.Name)
		}
		own(fmt.Sprint("node port ", svc.Spec.Ports[0].NodePort), svc.Name)
	}
}

// checkCounters finds each object at the count that was acknowledged last, or at the one that was on its way, and none that is gone.
func checkCounters(t *testing.T, r *running, gone map[string]bool, counters map[string]int) {
	t.Helper()
	maps, err := r.client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := r.client.CoreV1().Secrets("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]int)
	read := func(object metav1.ObjectMeta) {
		if gone[object.Name] {
			t.Errorf("%s was deleted, and is there again", object.Name)
		}
		if n, err := strconv.Atoi(object.Labels["count"]); err == nil {
			counts[object.Name] = n
		}
	}
	for _, cm := range maps.Items {
		read(cm.ObjectMeta)
	}
	for _, secret := range secrets.Items {
		read(secret.ObjectMeta)
	}
	for name, want := range counters {
		if have, found := counts[name]; !found || have != want && have != want+1 {
			t.Errorf("%s was acknowledged at %d, and is at %d (found: %v)", name, want, have, found)
		}
	}
}

// killAfter starts a child on dir, kills it once it has acknowledged that many writes, and returns all that it had
// acknowledged by then.
func killAfter(t *testing.T, dir string, writes int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	whole := bufio.NewReader(out)
	for {
		line, err := whole.ReadString('\n')
		if err != nil { // what was cut off was not acknowledged to us
			if err != io.EOF {
				t.Errorf("read from child: %v", err)
			}
			break
		}
		if lines = append(lines, strings.TrimSuffix(line, "\n")); len(lines) == writes {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	if len(lines) < writes {
		t.Fatalf("the child acknowledged %d writes and ended by itself", len(lines))
	}
	return lines
}

// A server that is stopped in good order and started again has the same data, the same authority and frees nothing.
func TestRestart(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	config := dualStack(dir)
	first := startFor(t, config)
	before, err := first.client.CoreV1().Services("default").Create(t.Context(), numbered("kept"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config.Listen = first.Addresses() // the port is free again at once
	kubeconfig, err := os.ReadFile(first.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	first.stopNow(t)

	second := startFor(t, config)
	if err := os.WriteFile(second.kubeconfig, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := second.client.CoreV1().Services("default").Get(t.Context(), "kept", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the restart changed the Service (-before +after):\n%s", diff)
	}
	for _, wish := range []func(*corev1.Service){
		func(svc *corev1.Service) { svc.Spec.ClusterIP, svc.Spec.ClusterIPs = before.Spec.ClusterIP, nil },
		func(svc *corev1.Service) { svc.Spec.Ports[0].NodePort = before.Spec.Ports[0].NodePort },
	} {
		svc := numbered("thief")
		wish(svc)
		if got, err := second.client.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); err == nil {
			t.Errorf("what %v holds was given to %v", before.Spec, got.Spec)
		}
	}
	if out, err := second.kubectl(t, "", "get", "service", "kept"); err != nil || !strings.Contains(out, before.Spec.ClusterIP) {
		t.Errorf("the kubeconfig of the first run does not work with the second: %v\n%s", err, out)
	}
}
