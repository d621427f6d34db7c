package compile

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// TestIncrementalBuildsAreFreshBuilds makes random edits and compares each table that was made from the one before with one that was made from
// nothing.
func TestIncrementalBuildsAreFreshBuilds(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(6, 6))
	st := store.New()
	hosts := []string{"a.com", "b.com", "www.a.com", "*.a.com", "", "c.com"}
	paths := []string{"/", "/x", "/x/", "/x/y", "/z"}
	classes := []string{"", "nginx", "broken"}
	annotations := []string{"rewrite-target=/t", "use-regex=true", "server-alias=alias.com", "from-to-www-redirect=true", "canary=true", "auth-type=basic", "auth-secret=users",
		"whitelist-source-range=10.0.0.0/8", "configuration-snippet=x", "default-backend=fallback", "auth-url=http://auth.default.svc/x", "proxy-body-size=1m"}
	cert := certificate(t, "cert", "a.com")
	var prev *Table
	for round := range 400 {
		if _, err := st.Update(func(x *store.Txn) error {
			if round == 0 {
				for _, row := range nginxClass() {
					switch r := row.(type) {
					case *model.IngressClass:
						x.PutClass(r)
					case *model.ConfigMap:
						x.PutConfigMap(r)
					}
				}
			}
			switch n := rnd.IntN(20); n {
			case 0:
				x.PutSecret(&model.Secret{Name: name("users"), Data: map[string][]byte{"auth": fmt.Appendf(nil, "u:{SHA}%d", rnd.IntN(3))}})
			case 1:
				x.DeleteSecret(name("users"))
			case 2:
				x.PutClass(&model.IngressClass{Name: "broken", Controller: Controller, Default: rnd.IntN(2) == 0})
			case 3:
				x.DeleteClass("broken")
			case 4:
				x.PutCertificate(cert)
			case 5:
				x.DeleteCertificate(cert.Name)
			case 6, 7, 8:
				x.DeleteIngress(name(fmt.Sprint("i", rnd.IntN(12))))
			default:
				i := ing(fmt.Sprint("i", rnd.IntN(12)))
				i.Created = time.Unix(int64(rnd.IntN(5)), 0)
				i.Class = classes[rnd.IntN(len(classes))]
				for range rnd.IntN(3) {
					r := rule(hosts[rnd.IntN(len(hosts))])
					for range rnd.IntN(3) {
						typ := []model.PathType{model.PathExact, model.PathPrefix, model.PathImplementationSpecific}[rnd.IntN(3)]
						p := model.IngressPath{Path: paths[rnd.IntN(len(paths))], Type: typ, Backend: to(fmt.Sprint("s", rnd.IntN(6)))}
						r.Paths = append(r.Paths, p)
					}
					i.Rules = append(i.Rules, r)
				}
				if rnd.IntN(3) == 0 {
					withDefault(i, fmt.Sprint("d", rnd.IntN(3)))
				}
				for range rnd.IntN(3) {
					k, v, _ := strings.Cut(annotations[rnd.IntN(len(annotations))], "=")
					i.Annotations[nginxDomain+k] = v
				}
				if rnd.IntN(3) == 0 {
					i.TLS = []model.IngressTLS{{Hosts: []string{"a.com"}, Secret: "cert"}}
				}
				x.PutIngress(i)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		snap := st.Snapshot()
		next, fresh := Build(snap, standalone, prev), Build(snap, standalone, nil)
		compareTables(t, round, next, fresh)
		if t.Failed() {
			return
		}
		prev = next
	}
}

func compareTables(t *testing.T, round int, a, b *Table) {
	t.Helper()
	lines := func(tab *Table) (out []string) {
		for _, f := range tab.Findings {
			out = append(out, f.String())
		}
		slices.Sort(out)
		return out
	}
	if x, y := lines(a), lines(b); !slices.Equal(x, y) {
		t.Errorf("round %d: findings %q, from nothing %q", round, x, y)
	}
	for _, h := range []string{"a.com", "b.com", "c.com", "www.a.com", "x.a.com", "alias.com", "www.b.com", "www.c.com", "other.org"} {
		if a.Secure(h) != b.Secure(h) || (a.Certificate(h) == nil) != (b.Certificate(h) == nil) {
			t.Errorf("round %d: TLS of %s differs", round, h)
		}
		for _, p := range []string{"/", "/x", "/X", "/x/", "/xy", "/x/y", "/x/y/z", "/z", "/q"} {
			x, mx := a.Find(h, p)
			y, my := b.Find(h, p)
			if mx != my || !sameRoute(a, b, x, y) {
				t.Errorf("round %d: %s%s → %+v, from nothing %+v", round, h, p, x, y)
			}
		}
	}
	users := func(tab *Table) map[Ref][]model.Name {
		m := map[Ref][]model.Name{}
		for _, be := range tab.Backends {
			if be.Ref != (Ref{}) {
				m[be.Ref] = be.Ingresses
			}
		}
		return m
	}
	if x, y := users(a), users(b); !reflect.DeepEqual(x, y) {
		t.Errorf("round %d: backends %v, from nothing %v", round, x, y)
	}
}

func sameRoute(ta, tb *Table, a, b *Route) bool {
	if a == nil || b == nil {
		return a == b
	}
	ref := func(t *Table, i int) Ref {
		if i < 0 {
			return Ref{}
		}
		return t.Backends[i].Ref
	}
	if a.Ingress != b.Ingress || a.Path != b.Path || a.Host != b.Host || a.Refused != b.Refused || a.WWW != b.WWW || ref(ta, a.Backend) != ref(tb, b.Backend) ||
		!reflect.DeepEqual(a.Policy, b.Policy) || (a.Aux == nil) != (b.Aux == nil) || (a.Canary == nil) != (b.Canary == nil) {
		return false
	}
	if a.Aux != nil && (ref(ta, a.Aux.Auth) != ref(tb, b.Aux.Auth) || ref(ta, a.Aux.Errors) != ref(tb, b.Aux.Errors)) {
		return false
	}
	return a.Canary == nil || a.Canary.Ingress == b.Canary.Ingress && ref(ta, a.Canary.Backend) == ref(tb, b.Canary.Backend)
}

// TestOneChangeTouchesOneHost: with many Ingresses, changing one compiles that one alone; all other hosts are the same objects.
func TestOneChangeTouchesOneHost(t *testing.T) {
	t.Parallel()
	snap, st := manyStore(t, 500)
	before := Build(snap, standalone, nil)
	changed := ing("ing-7", rule("host-7.example.com", prefix("/new")))
	changed.Created = time.Unix(7, 0)
	if _, err := st.Update(func(x *store.Txn) error { x.PutIngress(changed); return nil }); err != nil {
		t.Fatal(err)
	}
	after := Build(st.Snapshot(), standalone, before)
	for n, h := range after.exact {
		if same := before.exact[n] == h; same != (n != "host-7.example.com") {
			t.Errorf("host %s assembled anew: %v", n, !same)
		}
	}
	if got := where(t, after, "host-7.example.com", "/new"); got != "prefix /new" {
		t.Errorf("the change is not in force: %s", got)
	}
}

func manyStore(t testing.TB, n int) (*store.Snapshot, *store.Store) {
	st := store.New()
	if _, err := st.Update(func(x *store.Txn) error {
		for i, r := range many(n) {
			row := r.(*model.Ingress)
			row.Created = time.Unix(int64(i), 0)
			x.PutIngress(row)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return st.Snapshot(), st
}

// BenchmarkChangeOneOf5000 is the cost of changing one Ingress among 5,000; cpu-ms/op is processor time, which a busy machine does not stretch. The
// budget is 50 ms.
func BenchmarkChangeOneOf5000(b *testing.B) {
	snap, st := manyStore(b, 5000)
	tab := Build(snap, standalone, nil)
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b.ReportAllocs()
	n, start := 0, cpu()
	for b.Loop() {
		row := ing("ing-7", rule("host-7.example.com", prefix(fmt.Sprint("/", n))))
		row.Created = time.Unix(7, 0)
		if _, err := st.Update(func(x *store.Txn) error { x.PutIngress(row); return nil }); err != nil {
			b.Fatal(err)
		}
		tab = Build(st.Snapshot(), standalone, tab)
		n++
	}
	b.ReportMetric(float64((cpu()-start).Microseconds())/1000/float64(n), "cpu-ms/op")
}
