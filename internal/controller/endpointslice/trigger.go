package endpointslice

import "time"

// triggered gives the oldest event that the slices do not tell of yet, or zero if there is none: a Pod whose readiness changed, and the first time the
// Service's creation, whatever the Pods say. The slices that are then written say so in the annotation endpoints.kubernetes.io/last-change-trigger-time,
// from which proxies and DNS tell how long a change took to arrive.
func triggered(s *service, first bool, members []member) (oldest time.Time) {
	if first {
		return s.created
	}
	for _, m := range members {
		if m.readyAt.After(m.told) && (oldest.IsZero() || m.readyAt.Before(oldest)) {
			oldest = m.readyAt
		}
	}
	return oldest
}
