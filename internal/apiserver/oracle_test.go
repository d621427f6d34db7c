package apiserver

import (
	"context"
	cryptorand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/wait"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/registry/core/service/ipallocator"
	"k8s.io/kubernetes/pkg/registry/core/service/portallocator"
	upstreamstorage "k8s.io/kubernetes/pkg/registry/core/service/storage"

	"fairway.dev/fairway/internal/apiserver/service"
)

// serviceStorage is what both storages of Services can do.
type serviceStorage interface {
	rest.Creater
	rest.Updater
	rest.GracefulDeleter
}

// Upstream's storage of Services and ours live through the same random histories, and agree on every outcome: what is
// refused and for which field, which defaults are filled in, what is allocated, kept, shared and wiped. Only the numbers that
// were picked may differ.
func TestServiceStorageAgreesWithUpstream(t *testing.T) {
	t.Parallel()
	for _, families := range []string{"4", "6", "46", "64"} {
		for seed := range uint64(12) {
			t.Run(fmt.Sprintf("families=%s,seed=%d", families, seed), func(t *testing.T) {
				t.Parallel()
				compareHistories(t, families, seed)
			})
		}
	}
}

func compareHistories(t *testing.T, families string, seed uint64) {
	defer func() {
		if p := recover(); p != nil {
			stack := string(debug.Stack())
			if !strings.Contains(stack, "registry/core/service/storage.(*Allocators)") {
				panic(p)
			}
			// Upstream looks up a family that is not configured when a headless Service without selector stops being headless.
			t.Skip("upstream panicked; there is nothing to compare with from here on")
		}
	}()
	random := rand.New(rand.NewPCG(seed, uint64(len(families)+int(families[0]))))
	prefix := "/oracle/" + cryptorand.Text()
	upstream, ours := upstreamServices(t, prefix+"/upstream", families), ourServices(t, prefix+"/ours", families)
	ctx := genericapirequest.WithNamespace(t.Context(), metav1.NamespaceDefault)
	ctx = genericapirequest.WithRequestInfo(ctx, &genericapirequest.RequestInfo{IsResourceRequest: true, APIVersion: "v1", Resource: "services"})
	stored := make(map[string][2]*api.Service) // by name: upstream's and ours
	accepted := 0

	for step := range 60 {
		name := fmt.Sprint("s", random.IntN(4))
		have, exists := stored[name]
		var did string
		var got [2]*api.Service
		var errs [2]error
		switch {
		case exists && random.IntN(8) == 0:
			did = "delete " + name
			for i, storage := range []serviceStorage{upstream, ours} {
				_, _, errs[i] = storage.Delete(ctx, name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
			}
			delete(stored, name)
		case exists:
			base, mutate := random.IntN(3), mutation(random)
			for i, storage := range []serviceStorage{upstream, ours} {
				// The client changes what it has read, or puts a new manifest.
				v1svc := &corev1.Service{}
				if base > 0 {
					if err := legacyscheme.Scheme.Convert(have[i].DeepCopy(), v1svc, nil); err != nil {
						t.Fatal(err)
					}
				}
				v1svc.Name, v1svc.Namespace = name, metav1.NamespaceDefault
				mutate(v1svc)
				svc := internal(t, v1svc)
				did = fmt.Sprintf("update %s (from what is stored: %v) to %+v", name, base > 0, v1svc.Spec)
				obj, _, err := storage.Update(ctx, name, rest.DefaultUpdatedObjectInfo(svc), rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
				if errs[i] = err; err == nil {
					got[i] = obj.(*api.Service)
				}
			}
		default:
			mutate := mutation(random)
			for i, storage := range []serviceStorage{upstream, ours} {
				v1svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault}}
				mutate(v1svc)
				did = fmt.Sprintf("create %s as %+v", name, v1svc.Spec)
				obj, err := storage.Create(ctx, internal(t, v1svc), rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
				if errs[i] = err; err == nil {
					got[i] = obj.(*api.Service)
				}
			}
		}
		if !sameOutcome(errs[0], errs[1]) {
			t.Fatalf("step %d: %s\nhave     %+v\nupstream %v\nours     %v", step, did, specOf(have[0]), errs[0], errs[1])
		}
		if got[0] == nil {
			continue
		}
		accepted++
		catchUp(ctx, t, upstream, got[0])
		if diff := cmp.Diff(normal(got[0]), normal(got[1]), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("step %d: %s\n-upstream +ours\n%s", step, did, diff)
		}
		stored[name] = got
	}
	if accepted < 10 { // a history of refusals compares little
		t.Errorf("only %d writes were accepted", accepted)
	}
}

// catchUp returns when the cache of that storage knows of a write. An update that starts from an outdated cache is tried
// twice, and upstream then loses what the first try allocated.
func catchUp(ctx context.Context, t *testing.T, storage serviceStorage, written *api.Service) {
	t.Helper()
	err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := storage.(rest.Lister).List(ctx, &metainternalversion.ListOptions{ResourceVersion: written.ResourceVersion})
		if apierrors.IsTooManyRequests(err) { // there is no cache yet
			return false, nil
		}
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func specOf(svc *api.Service) any {
	if svc == nil {
		return nil
	}
	return svc.Spec
}

// internal is what the server's decoder makes of an object.
func internal(t *testing.T, svc *corev1.Service) *api.Service {
	t.Helper()
	svc = svc.DeepCopy()
	legacyscheme.Scheme.Default(svc)
	out := &api.Service{}
	if err := legacyscheme.Scheme.Convert(svc, out, nil); err != nil {
		t.Fatal(err)
	}
	return out
}

// sameOutcome compares two errors by reason and fields. Both may name several fields; at least one must be the same, because
// upstream tries to allocate in some cases that are refused anyway, and complains about the result too.
func sameOutcome(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	fieldsA, fieldsB := faults(a), faults(b)
	return apierrors.ReasonForError(a) == apierrors.ReasonForError(b) &&
		(len(fieldsA) == 0 && len(fieldsB) == 0 || slices.ContainsFunc(fieldsA, func(field string) bool { return slices.Contains(fieldsB, field) }))
}

func faults(err error) (fields []string) {
	if status, ok := err.(apierrors.APIStatus); ok && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			field, _, _ := strings.Cut(cause.Field, "[") // upstream names spec.clusterIPs where ours names the element
			fields = append(fields, field)
		}
	}
	return fields
}

// What a manifest may choose lies in the static bands, where no pick comes from.
const (
	chosenAddresses4 = "10.96.0.%d"
	chosenAddresses6 = "fd00:96::%d"
	chosenPorts      = 30000
	chosen           = 12
)

// normal is a spec with every picked number replaced by what kind of number it is.
func normal(svc *api.Service) api.ServiceSpec {
	spec := *svc.Spec.DeepCopy()
	address := func(ip string) string {
		addr, err := netip.ParseAddr(ip)
		if err != nil {
			return ip
		}
		for n := range chosen {
			if ip == fmt.Sprintf(chosenAddresses4, n) || ip == fmt.Sprintf(chosenAddresses6, n) {
				return ip
			}
		}
		return map[bool]string{true: "an IPv4 address", false: "an IPv6 address"}[addr.Is4()]
	}
	port := func(p int32) int32 {
		if p >= chosenPorts+chosen {
			return -1
		}
		return p
	}
	spec.ClusterIP = address(spec.ClusterIP)
	for i := range spec.ClusterIPs {
		spec.ClusterIPs[i] = address(spec.ClusterIPs[i])
	}
	for i := range spec.Ports {
		spec.Ports[i].NodePort = port(spec.Ports[i].NodePort)
	}
	spec.HealthCheckNodePort = port(spec.HealthCheckNodePort)
	return spec
}

// mutation is one to four random changes to a Service, the same whatever it is applied to.
func mutation(random *rand.Rand) func(*corev1.Service) {
	var changes []func(*corev1.Service)
	add := func(change func(*corev1.Service)) { changes = append(changes, change) }
	ports := []corev1.ServicePort{{Name: "a", Port: 80}}
	if random.IntN(2) == 0 {
		ports = append(ports, corev1.ServicePort{Name: "b", Port: 80 + int32(random.IntN(2)), Protocol: corev1.ProtocolUDP})
	}
	for i := range ports {
		if random.IntN(3) == 0 {
			ports[i].NodePort = chosenPorts + int32(random.IntN(chosen))
		}
	}
	keepPorts := random.IntN(2) == 0
	add(func(svc *corev1.Service) {
		if len(svc.Spec.Ports) == 0 || !keepPorts {
			svc.Spec.Ports = slices.Clone(ports)
		}
	})
	for range 1 + random.IntN(3) {
		address4, address6 := fmt.Sprintf(chosenAddresses4, 1+random.IntN(chosen-1)), fmt.Sprintf(chosenAddresses6, 1+random.IntN(chosen-1))
		policy := []corev1.IPFamilyPolicy{corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack}[random.IntN(3)]
		allocate, local := random.IntN(2) == 0, random.IntN(2) == 0
		kind := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeExternalName}[random.IntN(4)]
		selector := random.IntN(2) == 0
		list := [][]string{nil, {address4}, {address6}, {address4, address6}, {address6, address4}, {corev1.ClusterIPNone}}[random.IntN(6)]
		families := [][]corev1.IPFamily{nil, {corev1.IPv4Protocol}, {corev1.IPv6Protocol}, {corev1.IPv4Protocol, corev1.IPv6Protocol}, {corev1.IPv6Protocol, corev1.IPv4Protocol}}[random.IntN(5)]
		add([]func(*corev1.Service){
			func(svc *corev1.Service) { // a change of type, done the way that works
				svc.Spec.Type = kind
				svc.Spec.ExternalName = ""
				if kind == corev1.ServiceTypeExternalName {
					svc.Spec.ExternalName = "example.test"
				}
			},
			func(svc *corev1.Service) { svc.Spec.IPFamilyPolicy = &policy },
			func(svc *corev1.Service) { svc.Spec.IPFamilies = families },
			func(svc *corev1.Service) { // a client that knows only the old field
				svc.Spec.ClusterIP = ""
				if len(list) > 0 {
					svc.Spec.ClusterIP = list[0]
				}
			},
			func(svc *corev1.Service) { // and one that knows both
				svc.Spec.ClusterIP, svc.Spec.ClusterIPs = "", list
				if len(list) > 0 {
					svc.Spec.ClusterIP = list[0]
				}
			},
			func(svc *corev1.Service) { // only the second address
				if len(list) > 1 && len(svc.Spec.ClusterIPs) > 0 {
					svc.Spec.ClusterIPs = append(svc.Spec.ClusterIPs[:1:1], list[1])
				} else if len(svc.Spec.ClusterIPs) > 1 {
					svc.Spec.ClusterIPs = svc.Spec.ClusterIPs[:1:1]
				}
			},
			func(svc *corev1.Service) {
				svc.Spec.Selector = nil
				if selector {
					svc.Spec.Selector = map[string]string{"a": "b"}
				}
			},
			func(svc *corev1.Service) {
				if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
					svc.Spec.AllocateLoadBalancerNodePorts = &allocate
				}
			},
			func(svc *corev1.Service) {
				if svc.Spec.Type == corev1.ServiceTypeLoadBalancer || svc.Spec.Type == corev1.ServiceTypeNodePort {
					svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
					if local {
						svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
					}
				}
			},
			func(svc *corev1.Service) {
				for i := range svc.Spec.Ports {
					svc.Spec.Ports[i].NodePort = 0
				}
			},
		}[random.IntN(10)])
	}
	return func(svc *corev1.Service) {
		for _, change := range changes {
			change(svc)
		}
		// An update to an ExternalName that still has an address in the old field alone is refused by ours, as a create is;
		// upstream lets it through.
		if svc.Spec.Type == corev1.ServiceTypeExternalName && len(svc.Spec.ClusterIPs) == 0 {
			svc.Spec.ClusterIP = ""
		}
	}
}

func ranges(families string) (prefixes []netip.Prefix) {
	for _, family := range strings.Split(families, "") {
		prefixes = append(prefixes, netip.MustParsePrefix(map[string]string{"4": "10.96.0.0/16", "6": "fd00:96::/112"}[family]))
	}
	return prefixes
}

func layoutAt(prefix string) layout {
	l := newLayout(shared.database.endpoint())
	l.base.Prefix = prefix
	l.options.StorageConfig.Prefix = prefix
	return l
}

func ourServices(t *testing.T, prefix, families string) serviceStorage {
	t.Helper()
	allocators, err := service.NewAllocators(ranges(families), DefaultNodePorts)
	if err != nil {
		t.Fatal(err)
	}
	var all []service.Range
	for _, prefix := range ranges(families) {
		all = append(all, service.Range{Prefix: prefix, Ready: true})
	}
	if err := allocators.SetRanges(all); err != nil {
		t.Fatal(err)
	}
	client := shared.database.client()
	t.Cleanup(func() { _ = client.Close() })
	made := &storages{RESTOptionsGetter: layoutAt(prefix).getter(), database: shared.database}
	t.Cleanup(made.destroy)
	storage, _, err := service.NewStorage(made, allocators, client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(storage.Destroy)
	return storage
}

func upstreamServices(t *testing.T, prefix, families string) serviceStorage {
	t.Helper()
	allocators := make(map[api.IPFamily]ipallocator.Interface)
	var first api.IPFamily
	for _, p := range ranges(families) {
		_, cidr, err := net.ParseCIDR(p.String())
		if err != nil {
			t.Fatal(err)
		}
		allocator, err := ipallocator.NewInMemory(cidr)
		if err != nil {
			t.Fatal(err)
		}
		allocators[allocator.IPFamily()] = allocator
		if first == "" {
			first = allocator.IPFamily()
		}
	}
	nodePorts, err := portallocator.NewInMemory(utilnet.PortRange(DefaultNodePorts))
	if err != nil {
		t.Fatal(err)
	}
	storage, _, _, err := upstreamstorage.NewREST(layoutAt(prefix).getter(), first, allocators, nodePorts, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(storage.Destroy)
	return storage
}
