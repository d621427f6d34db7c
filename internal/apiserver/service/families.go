package service

import (
	"fmt"
	"net/netip"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/validation"
)

// settleFamilies fills in spec.ipFamilyPolicy and spec.ipFamilies of a Service that is created (old is nil) or updated, or
// says why the combination cannot be had here. The rules are those of KEP-563:
//
//   - no policy given: that of the old object, RequireDualStack for a headless Service without selector, else SingleStack;
//   - no families given: those of the given cluster IPs, else the default family;
//   - dual-stack policy and one family: the other one is added if it is configured (or if nothing is to be allocated);
//   - RequireDualStack fails on a single-stack server; going back to one family needs policy SingleStack;
//   - a PreferDualStack Service that does not change these fields is left alone, whatever the server's families are now.
func (a *Allocators) settleFamilies(svc, old *api.Service) error {
	if svc.Spec.Type == api.ServiceTypeExternalName || keepsPreference(svc, old) {
		return nil
	}
	headlessWithoutSelector := isHeadless(svc) && len(svc.Spec.Selector) == 0
	if svc.Spec.IPFamilyPolicy == nil {
		svc.Spec.IPFamilyPolicy = defaultPolicy(old, headlessWithoutSelector)
	}
	invalid := func(errs field.ErrorList) error {
		if len(errs) == 0 {
			return nil
		}
		return apierrors.NewInvalid(api.Kind("Service"), svc.Name, errs)
	}
	// Upstream's own look at how the fields fit together; what follows may rely on well-formed ones.
	if errs := validation.ValidateServiceClusterIPsRelatedFields(svc, old); len(errs) > 0 {
		return invalid(errs)
	}
	errs := checkReduction(svc, old)
	errs = append(errs, checkSingleStack(svc)...)
	errs = append(errs, a.inferFamilies(svc)...)
	if len(errs) > 0 {
		return invalid(errs)
	}
	if !headlessWithoutSelector {
		if errs := a.checkConfigured(svc); len(errs) > 0 {
			return invalid(errs)
		}
	}
	if len(svc.Spec.IPFamilies) == 0 {
		svc.Spec.IPFamilies = []api.IPFamily{a.families[0]}
	}
	// Nothing is allocated for a headless Service without selector: its owner writes endpoints of any family.
	if !isSingleStack(svc) && len(svc.Spec.IPFamilies) == 1 && (headlessWithoutSelector || len(a.families) == 2) {
		svc.Spec.IPFamilies = append(slices.Clone(svc.Spec.IPFamilies), otherFamily(svc.Spec.IPFamilies[0]))
	}
	return nil
}

// keepsPreference tells whether this is an update of a PreferDualStack Service that leaves its addresses and families alone.
func keepsPreference(svc, old *api.Service) bool {
	return old != nil && old.Spec.Type == svc.Spec.Type &&
		isPolicy(svc, api.IPFamilyPolicyPreferDualStack) &&
		(old.Spec.IPFamilyPolicy == nil || isPolicy(old, api.IPFamilyPolicyPreferDualStack)) &&
		slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs) &&
		slices.Equal(svc.Spec.IPFamilies, old.Spec.IPFamilies)
}

func defaultPolicy(old *api.Service, headlessWithoutSelector bool) *api.IPFamilyPolicy {
	policy := api.IPFamilyPolicySingleStack
	switch {
	case old != nil && old.Spec.IPFamilyPolicy != nil:
		policy = *old.Spec.IPFamilyPolicy
	case headlessWithoutSelector:
		policy = api.IPFamilyPolicyRequireDualStack
	}
	return &policy
}

// checkReduction cuts a Service whose policy became SingleStack down to its first address and family, and refuses to do so
// without that policy.
func checkReduction(svc, old *api.Service) (errs field.ErrorList) {
	if old == nil {
		return nil
	}
	if isSingleStack(svc) {
		if len(svc.Spec.ClusterIPs) > 1 && slices.Equal(svc.Spec.ClusterIPs, old.Spec.ClusterIPs) {
			svc.Spec.ClusterIPs = slices.Clone(svc.Spec.ClusterIPs[:1])
		}
		if len(svc.Spec.IPFamilies) > 1 && slices.Equal(svc.Spec.IPFamilies, old.Spec.IPFamilies) {
			svc.Spec.IPFamilies = slices.Clone(svc.Spec.IPFamilies[:1])
		}
		return nil
	}
	for _, given := range []struct {
		what     string
		now, was int
	}{
		{"cluster IP", len(svc.Spec.ClusterIPs), len(old.Spec.ClusterIPs)},
		{"IP family", len(svc.Spec.IPFamilies), len(old.Spec.IPFamilies)},
	} {
		if given.now > 0 && given.now < given.was {
			errs = append(errs, wrongPolicy(svc, fmt.Sprintf("must be SingleStack to give up the second %s", given.what)))
		}
	}
	return errs
}

func checkSingleStack(svc *api.Service) (errs field.ErrorList) {
	if !isSingleStack(svc) {
		return nil
	}
	if len(svc.Spec.ClusterIPs) == 2 {
		errs = append(errs, wrongPolicy(svc, "must be RequireDualStack or PreferDualStack when two cluster IPs are given"))
	}
	if len(svc.Spec.IPFamilies) == 2 {
		errs = append(errs, wrongPolicy(svc, "must be RequireDualStack or PreferDualStack when two IP families are given"))
	}
	return errs
}

// inferFamilies adds the families of cluster IPs that were given without one.
func (a *Allocators) inferFamilies(svc *api.Service) (errs field.ErrorList) {
	for i := len(svc.Spec.IPFamilies); i < len(svc.Spec.ClusterIPs); i++ {
		addr, err := netip.ParseAddr(svc.Spec.ClusterIPs[i])
		if err != nil { // "None"
			break
		}
		family := familyOf(addr)
		if !a.has(family) {
			errs = append(errs, field.Invalid(field.NewPath("spec", "clusterIPs").Index(i), svc.Spec.ClusterIPs,
				fmt.Sprintf("%s is not configured on this cluster", family)))
			continue
		}
		svc.Spec.IPFamilies = append(slices.Clone(svc.Spec.IPFamilies), family)
	}
	return errs
}

// checkConfigured refuses families that have no service CIDR.
func (a *Allocators) checkConfigured(svc *api.Service) (errs field.ErrorList) {
	if isPolicy(svc, api.IPFamilyPolicyRequireDualStack) && len(a.families) < 2 {
		errs = append(errs, wrongPolicy(svc, "this cluster is not configured for dual-stack services"))
	}
	for i, family := range svc.Spec.IPFamilies {
		if !a.has(family) {
			errs = append(errs, field.Invalid(field.NewPath("spec", "ipFamilies").Index(i), family, "not configured on this cluster"))
		}
	}
	return errs
}

func wrongPolicy(svc *api.Service, detail string) *field.Error {
	return field.Invalid(field.NewPath("spec", "ipFamilyPolicy"), *svc.Spec.IPFamilyPolicy, detail)
}

func isPolicy(svc *api.Service, policy api.IPFamilyPolicy) bool {
	return svc.Spec.IPFamilyPolicy != nil && *svc.Spec.IPFamilyPolicy == policy
}

func isSingleStack(svc *api.Service) bool { return isPolicy(svc, api.IPFamilyPolicySingleStack) }

func otherFamily(family api.IPFamily) api.IPFamily {
	if family == api.IPv4Protocol {
		return api.IPv6Protocol
	}
	return api.IPv4Protocol
}
