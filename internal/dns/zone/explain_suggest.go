package zone

import (
	"slices"
	"strings"

	"fairway.dev/fairway/internal/model"
)

// maxSuggestions is how many names are offered: more would be a list to search.
const maxSuggestions = 5

func (x *explainer) serviceName(n model.Name) string {
	return n.Name + "." + n.Namespace + ".svc." + strings.TrimSuffix(x.z.Domain(), ".")
}

// suggest offers Services that may have been meant by a name that does not exist: the same name elsewhere, the two words the other way round, and names
// that differ by a slip of the hand.
func (x *explainer) suggest(n model.Name, slips bool) {
	var exact, near []string
	for row := range x.snap.Services.All() {
		name, space := row.Name.Name, row.Name.Namespace
		switch {
		case row.Name == n, name == n.Name, name == n.Namespace && space == n.Name:
			exact = append(exact, x.serviceName(row.Name))
		case slips && isClose(name, n.Name) && (space == n.Namespace || isClose(space, n.Namespace)):
			near = append(near, x.serviceName(row.Name))
		}
	}
	x.offer(append(exact, near...))
}

// suggestService offers Services of that name, wherever they are.
func (x *explainer) suggestService(name, space string) {
	var out []string
	for row := range x.snap.Services.All() {
		if row.Name.Name == name && (space == "" || row.Name.Namespace == space) {
			out = append(out, x.serviceName(row.Name))
		}
	}
	x.offer(out)
}

// suggestOutside is for names that do not end in the cluster's domain, as people write them: imaging, imaging.default, imaging.default.svc, imaging.default.svc.cluster.lokal.
func (x *explainer) suggestOutside(name, domain string) {
	l := strings.Split(name, ".")
	switch n := len(l); {
	case n == 1:
		x.suggestService(l[0], "")
	case n == 2:
		x.suggestService(l[0], l[1])
	case l[2] == "svc":
		x.suggestService(l[0], l[1])
	}
	if len(x.Suggestions) > 0 {
		x.add("It is asked of other servers. A Pod's search path, which --namespace and --pod walk, may make it one.")
	}
}

func (x *explainer) offer(names []string) {
	for _, n := range names {
		if len(x.Suggestions) < maxSuggestions && !slices.Contains(x.Suggestions, n) {
			x.Suggestions = append(x.Suggestions, n)
		}
	}
}

// nearest gives those of the words that are close to one, or if there are none, the first few.
func nearest(word string, among []string) []string {
	slices.Sort(among)
	among = slices.Compact(among)
	var out []string
	for _, w := range among {
		if isClose(w, word) {
			out = append(out, w)
		}
	}
	if len(out) == 0 {
		out = among
	}
	return out[:min(len(out), maxSuggestions)]
}

// isClose tells whether two words differ by at most two letters that are wrong, missing, too many or the wrong way round; short words by one.
func isClose(a, b string) bool {
	limit := 2
	if min(len(a), len(b)) < 4 {
		limit = 1
	}
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return false
	}
	return distance(a, b) <= limit
}

// distance is the Damerau-Levenshtein distance, with letters changed at most once.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
