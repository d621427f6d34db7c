package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Reason says in one word what an answer, or its absence, comes from. Words are only ever added.
type Reason string

// The reasons.
const (
	Found            Reason = "Found"
	NoRecordsOfType  Reason = "NoRecordsOfType"
	NotOfTheCluster  Reason = "NotOfTheCluster"
	NotSynced        Reason = "NotSynced"
	NotInForce       Reason = "NotInForce" // the Service is there, and the kernel does not have it yet
	NoSuchName       Reason = "NoSuchName"
	NoSuchNamespace  Reason = "NoSuchNamespace"
	NoSuchService    Reason = "NoSuchService"
	NoSuchPort       Reason = "NoSuchPort"
	NoSuchEndpoint   Reason = "NoSuchEndpoint"
	EndpointNotReady Reason = "EndpointNotReady"
	NoReadyEndpoints Reason = "NoReadyEndpoints"
	NoClusterIP      Reason = "NoClusterIP"
	BadExternalName  Reason = "BadExternalName"
	NoNamesBelow     Reason = "NoNamesBelow" // an ExternalName Service has none
	NoPodNames       Reason = "NoPodNames"   // they are switched off
)

// Explanation says for people what stands behind the answer to one question.
type Explanation struct {
	Reason Reason `json:"reason"`
	// Object is the object of the API that answers, or would: "Service default/imaging".
	Object string `json:"object,omitempty"`
	// Message is one or more sentences.
	Message string `json:"message"`
	// Endpoints are those that the name means, ready or not.
	Endpoints []ExplainedEndpoint `json:"endpoints,omitempty"`
	// Suggestions are names that exist and may have been meant.
	Suggestions []string `json:"suggestions,omitempty"`
}

// ExplainedEndpoint is one endpoint and where it comes from.
type ExplainedEndpoint struct {
	Address  string `json:"address"`
	Hostname string `json:"hostname,omitempty"`
	// State is ready, not ready, or terminating.
	State string `json:"state"`
	// Slice is the EndpointSlice, and Target what stands behind the address: "Pod imaging-5d9-abcde".
	Slice  string `json:"slice"`
	Target string `json:"target,omitempty"`
}

// Kernel is what is known about the consumer that must have a Service in force before it is answered.
type Kernel struct {
	Revision store.Revision
	// Error is what it failed with last, and Failed what it says of single objects, as in the store's status table.
	Error  error
	Failed map[string]error
}

// explainer is one explanation in the making.
type explainer struct {
	z      *Zone
	snap   *store.Snapshot
	kernel Kernel
	typ    wire.Type
	// outcome, code and records are how the zone answers now.
	outcome Outcome
	code    wire.Rcode
	records int
	Explanation
}

// Explain says why a name, given with dots, is answered as it is: it asks the zone and looks for the reason in the snapshot, which should be the newest.
// It costs what the Service's endpoints weigh, and the number of Services where a name does not exist; it is for people.
func (z *Zone) Explain(snap *store.Snapshot, kernel Kernel, name string, t wire.Type) Explanation {
	x := &explainer{z: z, snap: snap, kernel: kernel, typ: t}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	encoded, err := wire.EncodeName(nil, name)
	if err != nil {
		return Explanation{Reason: NoSuchName, Message: err.Error() + "."}
	}
	var q wire.Query
	var r wire.Reply
	if _, ok := q.Parse(wire.AppendQuery(nil, 0, encoded, t)); !ok {
		return Explanation{Reason: NoSuchName, Message: "This is no question."}
	}
	r.Start(&q, nil, wire.MaxMessage)
	x.outcome, _ = z.Answer(&q, &r)
	x.code, x.records = r.Rcode, r.Count(wire.Answer)

	domain := strings.ToLower(strings.TrimSuffix(z.Domain(), "."))
	relative, below := strings.CutSuffix(name, "."+domain)
	switch {
	case name == domain:
		x.say(Found, "This is the cluster's domain itself.")
	case below:
		x.name(strings.Split(relative, "."))
	case strings.HasSuffix(name, ".in-addr.arpa") || strings.HasSuffix(name, ".ip6.arpa"):
		x.reverse(name)
	default:
		x.say(NotOfTheCluster, "This is not a name of the cluster, whose domain is %s.", domain)
		x.suggestOutside(name, domain)
	}
	if x.code == wire.ServerFailure && x.Reason != NotInForce && x.records == 0 {
		x.say(NotSynced, "Not everything that exists is known yet, so the name cannot be denied: whoever asks is told to try again. 'fairway status' says what is waited for.")
	}
	return x.Explanation
}

func (x *explainer) say(r Reason, format string, args ...any) {
	x.Reason, x.Message = r, fmt.Sprintf(format, args...)
}

func (x *explainer) add(format string, args ...any) { x.Message += " " + fmt.Sprintf(format, args...) }

// name explains a name below the domain, given by its labels without those of the domain.
func (x *explainer) name(l []string) {
	n := len(l)
	switch top := l[n-1]; {
	case top == "svc" && n == 1, top == "pod" && n == 1, top == "dns" && n == 1:
		x.say(NoRecordsOfType, "Names are below this one; it has no records itself.")
	case top == "svc" && n == 2:
		x.namespace(l[0])
	case top == "svc" && n >= 3:
		x.service(model.Name{Namespace: l[n-2], Name: l[n-3]}, l[:n-3])
	case top == "pod":
		x.pod(l)
	case top == "dns-version" && n == 1:
		x.found("This is the version of the Kubernetes DNS specification that the names follow.")
	case top == "dns" && n == 2 && l[0] == "ns":
		x.found("These are the addresses of the cluster's DNS Service.")
	default:
		x.say(NoSuchName, "Names of Services are SERVICE.NAMESPACE.svc.%s; the one asked for has no svc at its place.", strings.TrimSuffix(x.z.Domain(), "."))
		if n >= 2 {
			x.suggest(model.Name{Namespace: l[n-1], Name: l[n-2]}, false)
		}
		if n == 1 {
			x.suggestService(l[0], "")
		}
	}
}

// found is for names that exist, with or without records of the type.
func (x *explainer) found(format string, args ...any) {
	x.say(Found, format, args...)
	if x.records == 0 {
		x.Reason = NoRecordsOfType
		x.add("It has no records of this type.")
	}
}

func (x *explainer) namespace(name string) {
	x.Object = "Namespace " + name
	if x.hasNamespace(name) {
		x.say(NoRecordsOfType, "The namespace is there; names of Services are below it, and it has no records itself.")
		return
	}
	x.noNamespace(name)
}

func (x *explainer) hasNamespace(name string) bool {
	if x.snap.Namespaces.Get(model.Name{Name: name}) != nil {
		return true
	}
	for s := range x.snap.Services.All() {
		if s.Name.Namespace == name {
			return true
		}
	}
	return false
}

func (x *explainer) noNamespace(name string) {
	x.say(NoSuchNamespace, "There is no namespace %s.", name)
	x.Object = ""
}

// service explains a Service's name, or with labels in front one below it.
func (x *explainer) service(n model.Name, front []string) {
	row := x.snap.Services.Get(n)
	if row == nil {
		if x.hasNamespace(n.Namespace) {
			x.say(NoSuchService, "There is no Service %s in the namespace %s.", n.Name, n.Namespace)
		} else {
			x.noNamespace(n.Namespace)
		}
		if x.records > 0 {
			x.say(Found, "The Service %s has just been deleted.", n)
		} else {
			x.suggest(n, true)
		}
		return
	}
	x.Object = "Service " + n.String()
	switch {
	case row.Type == model.ExternalName:
		x.externalName(row, front)
	case !row.Headless && len(row.ClusterIPs) == 0:
		x.say(NoClusterIP, "The Service %s has no cluster IP.", n)
	case !row.Headless && x.withheld(row):
		x.notInForce(row)
	case len(front) == 0:
		x.whole(row)
	case len(front) == 1 && !strings.HasPrefix(front[0], "_"):
		x.endpoint(row, front[0])
	default:
		x.port(row, front)
	}
}

// withheld tells whether the zone does not have the Service's own name although the Service has addresses.
func (x *explainer) withheld(row *model.Service) bool {
	key := wire.AppendLabel(wire.AppendLabel(nil, row.Name.Name), row.Name.Namespace)
	svc, there := x.z.services.get(key)
	if !there {
		return true
	}
	return !slices.ContainsFunc(svc.set.Load().cluster, func(a netip.Addr) bool { return slices.Contains(row.ClusterIPs, a) })
}

func (x *explainer) notInForce(row *model.Service) {
	x.say(NotInForce, "The Service %s is there, with cluster IP %s, and the kernel does not have it yet: a name is answered when its addresses work.", row.Name, addresses(row.ClusterIPs))
	x.add("The kernel is at revision %d of %d.", x.kernel.Revision, x.snap.Revision)
	if x.kernel.Error != nil {
		x.add("It fails with: %v.", x.kernel.Error)
	}
	if err := x.kernel.Failed["service "+row.Name.String()]; err != nil {
		x.add("Of this Service it says: %v.", err)
	}
}

func (x *explainer) externalName(row *model.Service, front []string) {
	switch {
	case isAddress(row.ExternalName):
		x.say(BadExternalName, "The Service %s has the externalName %s: an address is no name to point to, so the Service has no name; write an EndpointSlice for it instead.", row.Name, row.ExternalName)
	case len(front) > 0:
		x.say(NoNamesBelow, "The Service %s stands for %s (type ExternalName); it has no names below it.", row.Name, row.ExternalName)
	default:
		x.say(Found, "The Service %s stands for %s (type ExternalName).", row.Name, row.ExternalName)
		if x.records == 0 {
			x.Reason = NoRecordsOfType
			x.add("There are no records of this type, or the aliases end in nothing.")
		}
	}
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(strings.TrimSuffix(s, "."))
	return err == nil
}

func addresses(list []netip.Addr) string {
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}
