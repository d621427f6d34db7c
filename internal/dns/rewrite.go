package dns

import (
	"fairway.dev/fairway/internal/dns/config"
	"fairway.dev/fairway/internal/dns/wire"
)

// rewrites are the names that are answered with what others have.
type rewrites struct {
	exact    map[string][]byte
	suffixes []rewrite // in the order of the configuration
}

// rewrite is one change of a suffix, or of a whole name.
type rewrite struct {
	from, to []byte
	exact    bool
}

func newRewrites(list []config.Rewrite) (r rewrites) {
	for _, w := range list {
		if w.Match == "suffix" {
			r.suffixes = append(r.suffixes, rewrite{from: w.From, to: w.To})
			continue
		}
		if r.exact == nil {
			r.exact = map[string][]byte{}
		}
		r.exact[string(w.From)] = w.To
	}
	return r
}

// find gives what is to be done with a name in lower case. A suffix is not the name itself: only what is below it.
func (r *rewrites) find(name []byte) (rewrite, bool) {
	if to, ok := r.exact[string(name)]; ok {
		return rewrite{name, to, true}, true
	}
	for _, w := range r.suffixes {
		if len(name) > len(w.from) && isBelow(name, w.from) && len(name)-len(w.from)+len(w.to) <= wire.MaxName {
			return w, true
		}
	}
	return rewrite{}, false
}

// apply gives the name that is looked up instead.
func (w rewrite) apply(name []byte) []byte {
	return append(append([]byte(nil), name[:len(name)-len(w.from)]...), w.to...)
}

// back gives the name that a client knows for one in the answer: asked is how the client wrote the question.
func (w rewrite) back(name, asked []byte) []byte {
	low := make([]byte, len(name))
	for i, c := range name {
		low[i] = wire.Lower(c)
	}
	if w.exact {
		if string(low) == string(w.to) {
			return asked
		}
		return name
	}
	if len(low) <= len(w.to) || !isBelow(low, w.to) || len(name)-len(w.to)+len(w.from) > wire.MaxName {
		return name
	}
	return append(append([]byte(nil), name[:len(name)-len(w.to)]...), asked[len(asked)-len(w.from):]...)
}
