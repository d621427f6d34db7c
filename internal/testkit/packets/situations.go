package packets

import (
	"fmt"
	"strings"

	"fairway.dev/fairway/internal/model"
)

// situation is a set of endpoints and what must be made of it.
//
// Endpoints are Pods, separated by spaces; slices by "; ". After a Pod's name: ":" and its condition, if it is not simply ready; "@" and the
// zones, "%" and the nodes that it is hinted for.
type situation struct {
	name, endpoints string
	// What policy Cluster and policy Local give on node n1 in zone z1 and n2 in z2, and policy Cluster on n4, which has no zone. (There
	// are no Pods on n4: policy Local gives none there.)
	z1, z2 sets
	n4     string
}

// sets are the Pods of both policies.
type sets struct{ cluster, local string }

var situations = []situation{
	{"no endpoints", "", sets{}, sets{}, ""},
	{"one on n1", "a1", sets{"a1", "a1"}, sets{"a1", ""}, "a1"},
	{"one on n2", "b1", sets{"b1", ""}, sets{"b1", "b1"}, "b1"},
	{"on three nodes", "a1 a2 b1 c1", sets{"a1 a2 b1 c1", "a1 a2"}, sets{"a1 a2 b1 c1", "b1"}, "a1 a2 b1 c1"},
	{"eight", "a1 a2 a3 a4 b1 b2 c1 c2", sets{"a1 a2 a3 a4 b1 b2 c1 c2", "a1 a2 a3 a4"}, sets{"a1 a2 a3 a4 b1 b2 c1 c2", "b1 b2"}, "a1 a2 a3 a4 b1 b2 c1 c2"},
	{"of unknown node", "a1:lost b1", sets{"a1 b1", ""}, sets{"a1 b1", "b1"}, "a1 b1"},

	{"unready", "a1:unready b1:unready", sets{}, sets{}, ""},
	{"serving but not ready, and not terminating", "a1:serving b1:serving", sets{}, sets{}, ""},
	{"unready ones beside a ready one", "a1:unready b1 c1:serving", sets{"b1", ""}, sets{"b1", "b1"}, "b1"},

	{"terminating only, all serving", "a1:leaving b1:leaving", sets{"a1 b1", "a1"}, sets{"a1 b1", "b1"}, "a1 b1"},
	{"terminating only, one serving", "a1:gone b1:leaving", sets{"b1", ""}, sets{"b1", "b1"}, "b1"},
	{"terminating only, none serving", "a1:gone b1:gone", sets{}, sets{}, ""},
	{"n1 terminating, n2 ready", "a1:leaving b1", sets{"b1", "a1"}, sets{"b1", "b1"}, "b1"},
	{"n1 ready, n2 terminating", "a1 b1:leaving", sets{"a1", "a1"}, sets{"a1", "b1"}, "a1"},
	{"ready beside terminating on one node", "a1 a2:leaving", sets{"a1", "a1"}, sets{"a1", ""}, "a1"},
	{"ready although terminating", "a1:published b1:published", sets{"a1 b1", "a1"}, sets{"a1 b1", "b1"}, "a1 b1"},

	{"hints for each zone", "a1@z1 b1@z2 c1@z3", sets{"a1", "a1"}, sets{"b1", "b1"}, "a1 b1 c1"},
	{"hints against the nodes' zones", "a1@z2 b1@z1 c1@z3", sets{"b1", "a1"}, sets{"a1", "b1"}, "a1 b1 c1"},
	{"hints for two zones", "a1@z1,z2 b1@z2,z3 c1@z3", sets{"a1", "a1"}, sets{"a1 b1", "b1"}, "a1 b1 c1"},
	{"one without a zone hint", "a1@z1 b1@z2 c1", sets{"a1 b1 c1", "a1"}, sets{"a1 b1 c1", "b1"}, "a1 b1 c1"},
	{"an unready one without a zone hint", "a1@z1 b1@z2 c1:unready", sets{"a1", "a1"}, sets{"b1", "b1"}, "a1 b1"},
	{"no hint for z1", "a1@z2 b1@z2 c1@z3", sets{"a1 b1 c1", "a1"}, sets{"a1 b1", "b1"}, "a1 b1 c1"},
	{"hints of terminating ones", "a1:leaving@z2 b1:leaving@z1", sets{"a1 b1", "a1"}, sets{"a1 b1", "b1"}, "a1 b1"},
	{"the hinted one terminates", "a1:leaving@z1 b1@z2 c1@z3", sets{"b1 c1", "a1"}, sets{"b1", "b1"}, "b1 c1"},
	{"hints for each node", "a1%n1 b1%n2 c1%n3", sets{"a1", "a1"}, sets{"b1", "b1"}, "a1 b1 c1"},
	{"one without a node hint", "a1%n1 b1%n2 c1", sets{"a1 b1 c1", "a1"}, sets{"a1 b1 c1", "b1"}, "a1 b1 c1"},
	{"node hints before zone hints", "a1@z1%n2 b1@z2%n1", sets{"b1", "a1"}, sets{"a1", "b1"}, "a1 b1"},
	{"node hints for others, zone hints for us", "a1@z1%n2 b1@z2%n3 c1@z3%n3", sets{"a1", "a1"}, sets{"a1", "b1"}, "a1 b1 c1"},
	{"hints for a node without a zone", "a1@z1%n4 b1@z2%n1", sets{"b1", "a1"}, sets{"b1", "b1"}, "a1"},

	{"one Pod in two slices, ready in one", "a1:gone b1; a1", sets{"a1 b1", "a1"}, sets{"a1 b1", "b1"}, "a1 b1"},
	{"one Pod in two slices, ready in the other", "a1; a1:leaving b1:gone", sets{"a1", "a1"}, sets{"a1", ""}, "a1"},
}

// endpoint is one word of a situation.
type endpoint struct {
	pod          string
	condition    string
	zones, nodes []string
}

func lists(endpoints string) (out [][]endpoint) {
	for _, list := range strings.Split(endpoints, "; ") {
		var es []endpoint
		for _, w := range strings.Fields(list) {
			w, nodes, _ := strings.Cut(w, "%")
			w, zones, _ := strings.Cut(w, "@")
			pod, condition, _ := strings.Cut(w, ":")
			e := endpoint{pod: pod, condition: condition}
			if nodes != "" {
				e.nodes = strings.Split(nodes, ",")
			}
			if zones != "" {
				e.zones = strings.Split(zones, ",")
			}
			es = append(es, e)
		}
		if len(es) > 0 {
			out = append(out, es)
		}
	}
	return out
}

// at gives the row.
func (e endpoint) at(f Family) model.Endpoint {
	row := model.Endpoint{
		Addr: podAddr(f, e.pod), Node: nodeOf(e.pod), Zone: "z" + nodeOf(e.pod)[1:], Target: "Pod " + e.pod, ForZones: e.zones, ForNodes: e.nodes,
	}
	switch e.condition {
	case "":
		row.Ready, row.Serving = true, true
	case "lost":
		row.Ready, row.Serving, row.Node, row.Zone = true, true, "", ""
	case "unready":
	case "serving":
		row.Serving = true
	case "leaving":
		row.Serving, row.Terminating = true, true
	case "gone":
		row.Terminating = true
	case "published": // publishNotReadyAddresses
		row.Ready, row.Serving, row.Terminating = true, true, true
	default:
		panic(fmt.Sprintf("packets: endpoint condition %q", e.condition))
	}
	return row
}
