package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/dns"
	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/node"
)

// dnsSteps is what a running process says of one name: the names that a resolver makes of it, in order, and why each is answered as it is.
type dnsSteps struct {
	Servers []string  `json:"servers"`
	Search  []string  `json:"search,omitempty"`
	NDots   int       `json:"ndots,omitempty"`
	Note    string    `json:"note,omitempty"`
	Steps   []dnsStep `json:"steps"`
}

type dnsStep struct {
	Name string `json:"name"` // with the final dot
	// Why has an explanation for each type that was asked for, in that order.
	Why []dns.Explanation `json:"why"`
}

// explainPath is where a process says why names are answered as they are, beside its status: name, namespace and pod ("namespace/name") are
// parameters, and type, as often as there are types.
const explainPath = "/dns/explain"

// explainDNS serves explainPath.
func (d *dataline) explainDNS(w http.ResponseWriter, q *http.Request) {
	steps, err := d.dnsSteps(q)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(steps)
}

func (d *dataline) dnsSteps(q *http.Request) (*dnsSteps, error) {
	if d.server == nil {
		return nil, errors.New("DNS is not served here: the agent was started without --dns-listen")
	}
	ask := q.URL.Query()
	var types []wire.Type
	for _, t := range ask["type"] {
		n, ok := dnsType(t)
		if !ok {
			return nil, fmt.Errorf("type %q is not known", t)
		}
		types = append(types, wire.Type(n))
	}
	out := &dnsSteps{}
	for _, a := range d.server.Addrs() {
		out.Servers = append(out.Servers, a.String())
	}
	if space, pod := ask.Get("namespace"), ask.Get("pod"); space != "" || pod != "" {
		if err := d.resolver(q.Context(), out, space, pod); err != nil {
			return nil, err
		}
	}
	for _, name := range resolverSteps(ask.Get("name"), out.Search, out.NDots) {
		step := dnsStep{Name: name}
		for _, t := range types {
			step.Why = append(step.Why, d.server.Explain(name, t))
		}
		out.Steps = append(out.Steps, step)
	}
	return out, nil
}

// resolver fills in what the resolv.conf of a Pod says, or that of any Pod of a namespace without a configuration of its own.
func (d *dataline) resolver(ctx context.Context, out *dnsSteps, space, name string) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: space}, Spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}}
	if name != "" {
		space, name, _ := strings.Cut(name, "/")
		client, err := kubernetes.NewForConfig(d.api)
		if err != nil {
			return err
		}
		pod, err = client.CoreV1().Pods(space).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsForbidden(err) {
			return fmt.Errorf("pod %s/%s: this agent may not read Pods, so give --namespace %s instead, or the right to get Pods", space, name, space)
		}
		if err != nil {
			return fmt.Errorf("pod %s/%s: %w", space, name, err)
		}
	} else if d.store.Snapshot().Namespaces.Get(model.Name{Name: space}) == nil {
		return fmt.Errorf("namespace %s: there is none of that name", space)
	}
	var cluster []netip.Addr
	if row := d.store.Snapshot().Services.Get(model.Name{Namespace: dnsNamespace, Name: dnsService}); row != nil {
		cluster = row.ClusterIPs
	}
	servers, search, ndots, err := node.PodResolver(pod, cluster, d.domain)
	if err != nil {
		return err
	}
	out.Search, out.NDots = search, ndots
	ours := func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && slices.Contains(cluster, a) }
	if !slices.ContainsFunc(servers, ours) {
		out.Note = fmt.Sprintf("This Pod does not ask the cluster's DNS but %s (dnsPolicy %s).", strings.Join(servers, ", "), pod.Spec.DNSPolicy)
	}
	return nil
}

// resolverSteps gives the names that a resolver asks for, in order (resolv.conf(5)), each with a final dot.
func resolverSteps(name string, search []string, ndots int) []string {
	if strings.HasSuffix(name, ".") {
		return []string{name}
	}
	var out []string
	asIs := name + "."
	if strings.Count(name, ".") >= ndots {
		out = append(out, asIs)
	}
	for _, domain := range search {
		out = append(out, asIs+strings.TrimSuffix(domain, ".")+".")
	}
	if len(out) == 0 || out[0] != asIs {
		out = append(out, asIs)
	}
	return out
}

// dnsType reads a record type: its name in any case, or TYPE and its number.
func dnsType(s string) (uint16, bool) {
	s = strings.ToUpper(s)
	if n, ok := mdns.StringToType[s]; ok {
		return n, true
	}
	var n uint16
	if _, err := fmt.Sscanf(s, "TYPE%d", &n); err != nil || fmt.Sprintf("TYPE%d", n) != s {
		return 0, false
	}
	return n, true
}
