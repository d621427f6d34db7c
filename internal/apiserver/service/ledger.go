package service

import "k8s.io/apimachinery/pkg/types"

// holder is who holds an address or a node port: a Service, or for an address also an IPAddress object that somebody made.
type holder struct {
	uid     types.UID
	service types.NamespacedName // empty for an IPAddress object
}

// byObject is the holder of an address for which there is an IPAddress object and no Service.
var byObject = holder{uid: "IPAddress"}

// holding is the use of an address or a port by one holder.
type holding struct {
	holder
	// pending says that the write is still under way.
	pending bool
	// suspect says that a repair under way may find that nobody owns it.
	suspect bool
}

// ledger says who holds what. It is not safe for use by several goroutines.
type ledger[K comparable] struct {
	holdings map[K]holding
	// mark is told of whatever becomes used or free.
	mark func(k K, used bool)
	// freed is what has become free since a repair began, nil if there is none.
	freed map[freed[K]]bool
}

// freed is the end of the use of an address or a port by one holder.
type freed[K comparable] struct {
	k     K
	owner types.UID
}

func newLedger[K comparable](mark func(K, bool)) ledger[K] {
	return ledger[K]{holdings: make(map[K]holding), mark: mark}
}

// hold gives k to a holder, and reports whether it was free.
func (l *ledger[K]) hold(k K, h holder, pending bool) bool {
	if _, taken := l.holdings[k]; taken {
		return false
	}
	l.holdings[k] = holding{holder: h, pending: pending}
	l.mark(k, true)
	return true
}

// adopt is hold for what was read from what is stored, and reports whether k is that holder's or nobody's now. If the holder has given k up since the
// repair began, it was read before that, and k stays free.
func (l *ledger[K]) adopt(k K, h holder) (ok bool) {
	if l.freed[freed[K]{k, h.uid}] && l.holdings[k].uid != h.uid {
		return true
	}
	return l.hold(k, h, false) || l.holdings[k].uid == h.uid
}

// free ends the use of k by that holder. The generic store may report the same deletion twice; the second time, it may be
// another Service's already, and stays so.
func (l *ledger[K]) free(k K, owner types.UID) bool {
	if h, ok := l.holdings[k]; !ok || h.uid != owner {
		return false
	}
	delete(l.holdings, k)
	l.mark(k, false)
	if l.freed != nil {
		l.freed[freed[K]{k, owner}] = true
	}
	return true
}

// settle says that the write by which that holder took k is over.
func (l *ledger[K]) settle(k K, owner types.UID) {
	if h, ok := l.holdings[k]; ok && h.uid == owner {
		h.pending = false
		l.holdings[k] = h
	}
}

// suspectAll begins a repair: whatever is held and not pending is suspect until it changes hands or is cleared.
func (l *ledger[K]) suspectAll() {
	l.freed = make(map[freed[K]]bool)
	for k, h := range l.holdings {
		h.suspect = !h.pending
		l.holdings[k] = h
	}
}

// clear ends the suspicion against that holder of k.
func (l *ledger[K]) clear(k K, owner types.UID) {
	if h, ok := l.holdings[k]; ok && h.uid == owner {
		h.suspect = false
		l.holdings[k] = h
	}
}

// freeSuspects frees what is still suspect, and reports how many that were.
func (l *ledger[K]) freeSuspects() (freed int) {
	for k, h := range l.holdings {
		if h.suspect {
			l.free(k, h.uid)
			freed++
		}
	}
	return freed
}

// endRepair says that nothing will be adopted any more that was read after suspectAll.
func (l *ledger[K]) endRepair() { l.freed = nil }
