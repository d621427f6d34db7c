package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/dns/wire"
	"fairway.dev/fairway/internal/model"
)

// gather takes in the endpoints of a Service that a test lets through, and counts them by state.
func (x *explainer) gather(n model.Name, want func(*model.Endpoint) bool) (ready, others int) {
	for sl := range x.snap.Slices(n) {
		for i := range sl.Endpoints {
			e := &sl.Endpoints[i]
			if !want(e) {
				continue
			}
			state := "not ready"
			switch {
			case e.Ready:
				state = "ready"
				ready++
			case e.Terminating:
				state = "terminating"
				others++
			default:
				others++
			}
			x.Endpoints = append(x.Endpoints, ExplainedEndpoint{
				Address: e.Addr.String(), Hostname: e.Hostname, State: state, Slice: sl.Name.String(), Target: e.Target,
			})
		}
	}
	return ready, others
}

func every(*model.Endpoint) bool { return true }

// whole explains the Service's own name.
func (x *explainer) whole(row *model.Service) {
	ready, others := x.gather(row.Name, every)
	count := fmt.Sprintf("%d of %d endpoints ready", ready, ready+others)
	if !row.Headless {
		x.Endpoints = nil // they do not answer, the address does
		x.say(Found, "The Service %s answers with its cluster IP: %s; %s.", row.Name, addresses(row.ClusterIPs), count)
		if ready == 0 {
			x.add("Until one is, connections to it are refused.")
		}
		x.family(row.ClusterIPs)
		return
	}
	switch {
	case ready > 0:
		x.say(Found, "The Service %s is headless, and answers with the addresses of its ready endpoints; %s.", row.Name, count)
		x.records0()
	case others > 0:
		x.say(NoReadyEndpoints, "The Service %s is headless, and none of its %d endpoints is ready: the name comes with the first that is.", row.Name, others)
		x.add("publishNotReadyAddresses in the Service answers with them before that.")
	default:
		x.say(NoReadyEndpoints, "The Service %s is headless and has no endpoints: no Pod matches its selector, or none has an address yet.", row.Name)
	}
}

// family says why there is no address of the family that was asked for.
func (x *explainer) family(have []netip.Addr) {
	v6 := x.typ == wire.TypeAAAA
	if (v6 || x.typ == wire.TypeA) && !slices.ContainsFunc(have, func(a netip.Addr) bool { return a.Is6() == v6 }) {
		x.Reason = NoRecordsOfType
		x.add("It has no %s address.", map[bool]string{false: "IPv4", true: "IPv6"}[v6])
		return
	}
	x.records0()
}

func (x *explainer) records0() {
	if x.records == 0 {
		x.Reason = NoRecordsOfType
		x.add("There are no records of this type.")
	}
}

// endpoint explains one label below a Service: a host name, or an address with dashes.
func (x *explainer) endpoint(row *model.Service, label string) {
	a, isAddr := parseLabel([]byte(label))
	ready, others := x.gather(row.Name, func(e *model.Endpoint) bool {
		return strings.EqualFold(e.Hostname, label) || isAddr && e.Hostname == "" && e.Addr == a
	})
	switch {
	case ready > 0:
		x.say(Found, "%s is the name of an endpoint of the Service %s.", label, row.Name)
		x.records0()
	case others > 0:
		x.say(EndpointNotReady, "%s is an endpoint of the Service %s, and not ready: the name comes when it is.", label, row.Name)
	default:
		x.say(NoSuchEndpoint, "The Service %s has no endpoint of the name %s.", row.Name, label)
		var hosts []string
		for sl := range x.snap.Slices(row.Name) {
			for i := range sl.Endpoints {
				if h := sl.Endpoints[i].Hostname; h != "" && sl.Endpoints[i].Ready {
					hosts = append(hosts, strings.ToLower(h))
				}
			}
		}
		if len(hosts) == 0 {
			x.add("No endpoint of it has a host name: a Pod has one here if its hostname and its subdomain, which is the Service's name, are set.")
		}
		for _, h := range nearest(label, hosts) {
			x.Suggestions = append(x.Suggestions, h+"."+x.serviceName(row.Name))
		}
	}
}

// port explains _PORT._PROTOCOL in front of a Service, or what is neither.
func (x *explainer) port(row *model.Service, front []string) {
	var have []string
	seen := func(name string, p model.Protocol) {
		if name != "" {
			have = append(have, "_"+name+"._"+strings.ToLower(p.String()))
		}
	}
	for _, p := range row.Ports {
		seen(p.Name, p.Protocol)
	}
	if row.Headless {
		have = nil
		for sl := range x.snap.Slices(row.Name) {
			for _, p := range sl.Ports {
				seen(p.Name, p.Protocol)
			}
		}
	}
	slices.Sort(have)
	have = slices.Compact(have)
	asked := strings.Join(front, ".")
	switch {
	case x.code == wire.NoError && (slices.Contains(have, asked) || len(front) == 2):
		x.say(Found, "%s is a port of the Service %s.", asked, row.Name)
		x.records0()
		if x.typ != wire.TypeSRV {
			x.add("Its number is in the SRV record.")
		}
	case x.code == wire.NoError:
		x.say(NoRecordsOfType, "Names of ports are below this one; it has no records itself.")
	default:
		x.say(NoSuchPort, "The Service %s has no port of that name.", row.Name)
		if len(have) == 0 {
			x.add("None of its ports has a name.")
		}
		for _, p := range have {
			x.Suggestions = append(x.Suggestions, p+"."+x.serviceName(row.Name))
		}
	}
}

// pod explains names below pod.
func (x *explainer) pod(l []string) {
	n := len(l)
	space := l[n-2]
	switch {
	case !x.hasNamespace(space):
		x.noNamespace(space)
	case n == 2:
		x.say(NoRecordsOfType, "The namespace is there; names of Pods are below it, and it has no records itself.")
	case x.z.cfg.Pods == PodsDisabled:
		x.say(NoPodNames, "Names of Pods are switched off (cluster.pods in the DNS configuration).")
	case x.records > 0:
		x.say(Found, "The name spells a Pod's address.")
	case x.code == wire.NoError:
		x.say(NoRecordsOfType, "The name spells an address of the other family.")
	default:
		x.say(NoSuchName, "Names of Pods spell the address with dashes, such as 10-244-0-7.%s.pod.%s.", space, strings.TrimSuffix(x.z.Domain(), "."))
		if _, ok := parseLabel([]byte(l[0])); ok {
			x.say(NoSuchName, "No Pod of the namespace %s has that address.", space)
		}
	}
}

// reverse explains a name of an address.
func (x *explainer) reverse(name string) {
	encoded, err := wire.EncodeName(nil, name)
	if err != nil {
		return
	}
	var q wire.Query
	if _, ok := q.Parse(wire.AppendQuery(nil, 0, encoded, wire.TypePTR)); !ok {
		return
	}
	v, ok := parseReverse(q.Lower(), q.Labels())
	a := v.prefix.Addr()
	switch {
	case ok && v.whole && v.prefix.Bits() == a.BitLen():
	case ok && x.ours():
		x.say(NoRecordsOfType, "This name spells no whole address of the cluster's ranges.")
		return
	default:
		x.say(NotOfTheCluster, "This name spells no whole address.")
		return
	}
	for row := range x.snap.Services.All() {
		if slices.Contains(row.ClusterIPs, a) {
			x.Object = "Service " + row.Name.String()
			if x.typ == wire.TypePTR && x.records == 0 {
				x.notInForce(row)
				return
			}
			x.found("%s is the cluster IP of the Service %s.", a, row.Name)
			return
		}
	}
	for row := range x.snap.Services.All() {
		x.gather(row.Name, func(e *model.Endpoint) bool { return e.Addr == a })
	}
	switch {
	case x.records > 0:
		x.say(Found, "%s is the address of an endpoint.", a)
	case len(x.Endpoints) > 0:
		x.say(EndpointNotReady, "%s is the address of an endpoint that is not ready.", a)
	default:
		x.say(NotOfTheCluster, "%s is neither the cluster IP of a Service nor the address of an endpoint.", a)
		if x.ours() {
			x.Reason = NoSuchName
			x.add("It is in the cluster's ranges, so nobody else is asked.")
		}
	}
}

// ours tells whether the zone answered by itself.
func (x *explainer) ours() bool { return x.outcome != NotOurs }
