package packets

import (
	"fmt"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/plan"
)

// policies are a Service's two traffic policies.
type policies struct{ internal, external model.TrafficPolicy }

func (p policies) String() string { return string(p.internal) + "-" + string(p.external) }

// who is a kind of client, as a node sees it.
type who int

const (
	self     who = iota // the node itself
	pod                 // any Pod of the cluster
	stranger            // another node, or a machine outside
)

func (c Client) kind(node string) who {
	switch {
	case string(c) == node:
		return self
	case c.isPod():
		return pod
	}
	return stranger
}

// gets says what a client gets: the set of policy Local (else Cluster), with its own source (else the node's).
//
// A ClusterIP follows the internal policy, whoever asks; Pods keep their address, since only for them it is sure that answers come back
// through this node. The other addresses follow the external policy. With Cluster everybody is masqueraded; with Local clients from
// outside get this node's Pods and are not, while the node and Pods, being inside, get all as with Cluster: Pods with their own
// address, the node with one to which all Pods can answer.
func gets(kind plan.Scope, p policies, c who) (local, kept bool) {
	switch {
	case kind == plan.ClusterIP:
		return p.internal == model.PolicyLocal, c == pod
	case p.external == model.PolicyCluster:
		return false, false
	}
	return c == stranger, c != self
}

// want is what becomes of a packet that gets one of the two sets: refused if no node has a backend, dropped if only others do.
func (s sets) want(f Family, local, kept bool) Outcome {
	set := s.cluster
	if local {
		set = s.local
	}
	switch {
	case set != "":
		return Outcome{Verdict: Forward, Backends: backends(f, strings.Fields(set), Target), Kept: kept}
	case local && s.cluster != "":
		return Outcome{Verdict: Drop}
	}
	return Outcome{Verdict: Reject}
}

var kinds = []plan.Scope{plan.ClusterIP, plan.NodePort, plan.ExternalIP, plan.LoadBalancerIP}

// ZoneCanary is a Service with one backend hinted for each zone: what it has tells which zone a node takes itself to be in.
var ZoneCanary = fmt.Sprintf("s%02d-cluster-cluster", slices.IndexFunc(situations, func(s situation) bool { return s.name == "hints for each zone" }))

// matrix adds every situation under all four pairs of policies, at every kind of address, from every kind of client. The three protocols
// take turns, so that each occurs with each situation, policy, kind and client.
func (b *builder) matrix(z1, z2, n4 *View) {
	clients := []Client{"n1", "a9", "b9", "n2", "outside"} // for z1: the node, a Pod here, a Pod there, another node, outside
	for i := range situations {
		s := &situations[i]
		for j, p := range []policies{
			{model.PolicyCluster, model.PolicyCluster}, {model.PolicyLocal, model.PolicyLocal},
			{model.PolicyCluster, model.PolicyLocal}, {model.PolicyLocal, model.PolicyCluster},
		} {
			svc := b.service(fmt.Sprintf("s%02d-%s", i, strings.ToLower(p.String())), func(svc *model.Service) {
				svc.InternalPolicy, svc.ExternalPolicy = p.internal, p.external
			})
			b.slices(svc, s.endpoints, nil)
			for _, v := range []struct {
				*View
				sets
				clients []Client
			}{{z1, s.z1, clients}, {z2, s.z2, []Client{"b9", "outside"}}, {n4, sets{s.n4, ""}, []Client{"n4", "outside"}}} {
				for k, kind := range kinds {
					for l, c := range v.clients {
						for _, f := range Families {
							protocol := Protocols[(i+j+k+l)%len(Protocols)]
							local, kept := gets(kind, p, c.kind(v.Node))
							v.Packets = append(v.Packets, Packet{
								Name: fmt.Sprintf("%s/%s/%s/%s %s from %s", s.name, p, kind, f, protocol, c),
								From: c, To: svc.key(f, kind, protocol, v.Node), Want: v.want(f, local, kept),
							})
						}
					}
				}
			}
		}
	}
}
