package apiserver

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// lifeVariable makes the test binary live through a life of Services and be killed after a write. Its value is DIRECTORY,NUMBER.
const lifeVariable = "FAIRWAY_API_TEST_LIFE"

// lifeConfig has 14 IPv4 addresses, 15 IPv6 addresses and 16 node ports.
func lifeConfig(dir string) Config {
	config := dualStack(dir)
	config.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/28"), netip.MustParsePrefix("fd00:96::/124")}
	config.NodePorts = utilnet.PortRange{Base: 30000, Size: 16}
	return config
}

// life is a server and what it has acknowledged about its Services: what they hold, or "gone".
type life struct {
	*running
	told map[string]string
	note func(line string) // is told of everything before it is tried, and when it is acknowledged
}

// hear applies one line of note.
func (l *life) hear(line string) {
	name, state, acknowledged := strings.Cut(line, " ")
	if delete(l.told, name); acknowledged {
		l.told[name] = state
	}
}

func (l *life) tell(line string) {
	l.hear(line)
	if l.note != nil {
		l.note(line)
	}
}

func holds(svc *corev1.Service) string {
	held := slices.Clone(svc.Spec.ClusterIPs)
	for _, port := range svc.Spec.Ports {
		held = append(held, fmt.Sprint(port.NodePort))
	}
	return strings.Join(append(held, fmt.Sprint(svc.Spec.HealthCheckNodePort)), ",")
}

// live does everything that allocates or frees. What fails is left out; the errors are returned.
func (l *life) live(ctx context.Context) error {
	services, addresses, cidrs := l.client.CoreV1().Services("default"), l.client.NetworkingV1().IPAddresses(), l.client.NetworkingV1().ServiceCIDRs()
	var errs []error
	step := func(name string, do func() (*corev1.Service, error)) {
		l.tell(name)
		svc, err := do()
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		case svc == nil:
			l.tell(name + " gone")
		default:
			l.tell(name + " " + holds(svc))
		}
	}
	create := func(name, spec string) {
		step(name, func() (*corev1.Service, error) {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if err := parse(spec, &svc.Spec); err != nil {
				return nil, err
			}
			return services.Create(ctx, svc, metav1.CreateOptions{})
		})
	}
	patch := func(name, patch string) {
		step(name, func() (*corev1.Service, error) {
			return services.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		})
	}
	remove := func(name string) {
		step(name, func() (*corev1.Service, error) { return nil, services.Delete(ctx, name, metav1.DeleteOptions{}) })
	}
	other := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}

	_, err := addresses.Create(ctx, &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: "10.96.0.10"},
		Spec:       networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Group: "example.test", Resource: "gateways", Name: "g"}},
	}, metav1.CreateOptions{})
	other("reserve an address", err)
	create("a", `{type: NodePort, ports: [{port: 80}]}`)
	patch("a", `{"spec":{"type":"LoadBalancer","externalTrafficPolicy":"Local","ipFamilyPolicy":"RequireDualStack"}}`)
	patch("a", `{"spec":{"type":"ExternalName","externalName":"example.test","ports":null}}`)
	patch("a", `{"spec":{"type":"NodePort","externalName":null,"ipFamilyPolicy":"PreferDualStack","ports":[{"name":"a","port":80},{"name":"b","port":81}]}}`)
	create("b", `{ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`)
	address, _, _ := strings.Cut(l.told["b"], ",")
	_, err = cidrs.Create(ctx, &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "second"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.97.0.0/29"}}}, metav1.CreateOptions{})
	other("make a ServiceCIDR", err)
	create("c", `{clusterIP: 10.97.0.2, ports: [{port: 80}]}`)
	other("remove the object of an address", addresses.Delete(ctx, cmp.Or(address, "no address"), metav1.DeleteOptions{}))
	other("delete a ServiceCIDR", cidrs.Delete(ctx, "second", metav1.DeleteOptions{}))
	patch("b", `{"spec":{"ipFamilyPolicy":"SingleStack"}}`)
	patch("b", `{"metadata":{"finalizers":["example.test/held"]}}`)
	remove("b")
	patch("b", `{"metadata":{"finalizers":null}}`)
	l.tell("b") // that was its end
	remove("c")
	remove("a")
	other("give up a reserved address", addresses.Delete(ctx, "10.96.0.10", metav1.DeleteOptions{}))
	return errors.Join(errs...)
}

// check waits until everything is consistent, removes it all, and sees whether everything can be allocated.
func (l *life) check(ctx context.Context) error {
	if err := l.soon(ctx, l.consistent); err != nil {
		return err
	}
	if err := l.soon(ctx, l.clear); err != nil {
		return err
	}
	clear(l.told)
	if err := l.soon(ctx, l.fill); err != nil {
		return err
	}
	return l.soon(ctx, l.clear)
}

// soon tries until it works.
func (l *life) soon(ctx context.Context, what func(context.Context) error) error {
	deadline := time.Now().Add(patience)
	for {
		err := what(ctx)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		l.services.Recheck() // what was lost shows only after ten seconds
		time.Sleep(10 * time.Millisecond)
	}
}

// consistent tells what is wrong between acknowledgements, Services and IPAddress objects.
func (l *life) consistent(ctx context.Context) error {
	services, err := l.client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	objects, err := l.client.NetworkingV1().IPAddresses().List(ctx, metav1.ListOptions{LabelSelector: "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io"})
	if err != nil {
		return err
	}
	var errs []error
	stored, owner, missing := map[string]string{}, map[string]string{}, map[string]string{}
	for _, svc := range services.Items {
		stored[svc.Name] = holds(&svc)
		for _, held := range strings.Split(holds(&svc), ",") {
			if held == "0" || held == "None" || held == "" {
				continue
			}
			if other, taken := owner[held]; taken {
				errs = append(errs, fmt.Errorf("%s belongs to %s and to %s", held, other, svc.Name))
			}
			owner[held] = svc.Name
			if _, err := netip.ParseAddr(held); err == nil {
				missing[held] = svc.Name
			}
		}
	}
	for name, want := range l.told {
		if is, there := stored[name]; want == "gone" && there || want != "gone" && is != want {
			errs = append(errs, fmt.Errorf("service %s was acknowledged to hold %s, and holds %q", name, want, is))
		}
	}
	for _, object := range objects.Items {
		if parent := object.Spec.ParentRef; parent == nil || missing[object.Name] != parent.Name {
			errs = append(errs, fmt.Errorf("ipaddress %s has parent %v, and belongs to %q", object.Name, parent, missing[object.Name]))
		}
		delete(missing, object.Name)
	}
	for ip, name := range missing {
		errs = append(errs, fmt.Errorf("address %s of service %s has no object", ip, name))
	}
	return errors.Join(errs...)
}

// clear removes everything but default/kubernetes and the default ServiceCIDR, and returns an error until it is gone.
func (l *life) clear(ctx context.Context) error {
	var errs []error
	gone := func(err error) {
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	services, err := l.client.CoreV1().Services("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, svc := range services.Items {
		if svc.Name == "kubernetes" {
			continue
		}
		if len(svc.Finalizers) > 0 {
			_, err := l.client.CoreV1().Services("default").Patch(ctx, svc.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			gone(err)
		}
		gone(l.client.CoreV1().Services("default").Delete(ctx, svc.Name, metav1.DeleteOptions{}))
	}
	gone(l.client.NetworkingV1().IPAddresses().Delete(ctx, "10.96.0.10", metav1.DeleteOptions{}))
	gone(l.client.NetworkingV1().ServiceCIDRs().Delete(ctx, "second", metav1.DeleteOptions{}))
	objects, err := l.client.NetworkingV1().IPAddresses().List(ctx, metav1.ListOptions{})
	gone(err)
	if err == nil && len(objects.Items) != 1 {
		errs = append(errs, fmt.Errorf("%d IPAddress objects are left, want that of default/kubernetes", len(objects.Items)))
	}
	cidrs, err := l.client.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	gone(err)
	if err == nil && len(cidrs.Items) != 1 {
		errs = append(errs, fmt.Errorf("%d ServiceCIDRs are left, want one", len(cidrs.Items)))
	}
	return errors.Join(errs...)
}

// fill takes every address and every node port that there is.
func (l *life) fill(ctx context.Context) error {
	have, err := l.client.CoreV1().Services("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := len(have.Items) - 1; i < 15; i++ { // without default/kubernetes
		spec := `{type: NodePort, ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}`
		switch i {
		case 13: // one IPv4 address is that of default/kubernetes
			spec = `{type: NodePort, ipFamilies: [IPv6], ports: [{name: a, port: 80}, {name: b, port: 81}]}`
		case 14:
			spec = `{type: NodePort, ipFamilies: [IPv6], ports: [{port: 80}]}`
		}
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("fill", i)}}
		if err := parse(spec, &svc.Spec); err != nil {
			return err
		}
		if _, err := l.client.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("not everything can be allocated: %w", err)
		}
	}
	return nil
}

// Requests to etcd are lost on their way there, answers on their way back, and others write first: at every write of a life in turn.
func TestFaultAtEveryWrite(t *testing.T) {
	t.Parallel()
	for what, name := range map[fault]string{lostRequest: "request lost", lostAnswer: "answer lost", conflict: "conflict"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := New(lifeConfig(shortDir(t)))
			if err != nil {
				t.Fatal(err)
			}
			f := &faultInjector{}
			s.database.faults = f.between
			l := &life{running: run(t, s), told: map[string]string{}}
			n := 1
			for ; ; n++ {
				f.arm(n, what)
				err := l.live(t.Context())
				hit := f.disarm()
				if err != nil && (what == conflict || !hit) {
					t.Errorf("write %d: %v", n, err)
				}
				if err := l.check(t.Context()); err != nil {
					t.Fatalf("write %d: %v", n, err)
				}
				if !hit {
					break
				}
			}
			if n < 15 {
				t.Errorf("a life had only %d writes", n)
			}
		})
	}
}

// A server is killed after every write of a life in turn, before anybody hears that it is stored, and starts again on the same data.
func TestKillAtEveryWrite(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	for n := 1; ; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s,%d", lifeVariable, dir, n))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && ctx.Err() == nil {
			cancel()
			continue
		}
		cancel()
		if err != nil {
			t.Fatalf("start %d, after a kill at write %d: %v\n%s", n, n-1, err, out)
		}
		if n < 15 {
			t.Errorf("a life had only %d writes", n)
		}
		return
	}
}

// runLife checks what the life before has left, then lives until it is killed. It ends with 0 if it is not.
func runLife() {
	dir, number, _ := strings.Cut(os.Getenv(lifeVariable), ",")
	n, _ := strconv.Atoi(number)
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	s, err := New(lifeConfig(dir))
	fail(err)
	f := &faultInjector{kill: func() {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}}
	s.database.faults = f.between
	r, err := startServer(s)
	fail(err)
	l := &life{running: r, told: map[string]string{}}
	told, err := os.OpenFile(filepath.Join(dir, "told"), os.O_RDWR|os.O_CREATE, 0o600)
	fail(err)
	for lines := bufio.NewScanner(told); lines.Scan(); {
		l.hear(lines.Text())
	}
	fail(l.check(context.Background()))
	fail(told.Truncate(0))
	_, err = told.Seek(0, 0)
	fail(err)
	l.note = func(line string) {
		_, err := fmt.Fprintln(told, line)
		fail(err)
	}
	f.arm(n, killed)
	fail(l.live(context.Background()))
	f.disarm()
	fail(l.check(context.Background()))
	os.Exit(0)
}
