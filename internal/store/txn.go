package store

import (
	"github.com/cilium/statedb/part"

	"fairway.dev/fairway/internal/model"
)

// Txn is the write side, valid only inside Update. A put replaces the row of the same name; a delete of an absent row does
// nothing.
type Txn struct {
	services     *part.Txn[*model.Service]
	slices       *part.Txn[*model.EndpointSlice]
	owner        *part.Txn[*model.Name]
	nodes        *part.Txn[*model.Node]
	namespaces   *part.Txn[*model.Namespace]
	ingresses    *part.Txn[*model.Ingress]
	classes      *part.Txn[*model.IngressClass]
	certificates *part.Txn[*model.Certificate]
	secrets      *part.Txn[*model.Secret]
	configMaps   *part.Txn[*model.ConfigMap]
	serviceCIDRs *part.Txn[*model.ServiceCIDR]
	pods         *part.Txn[*model.Pod]
	delta        Delta
}

func newTxn(s *Snapshot) *Txn {
	return &Txn{
		services: s.Services.tree.Txn(), slices: s.slices.tree.Txn(), owner: s.owner.tree.Txn(),
		nodes: s.Nodes.tree.Txn(), namespaces: s.Namespaces.tree.Txn(), ingresses: s.Ingresses.tree.Txn(),
		classes: s.Classes.tree.Txn(), certificates: s.Certificates.tree.Txn(),
		secrets: s.Secrets.tree.Txn(), configMaps: s.ConfigMaps.tree.Txn(),
		serviceCIDRs: s.ServiceCIDRs.tree.Txn(), pods: s.Pods.tree.Txn(),
	}
}

func (t *Txn) commit(old *Snapshot) *Snapshot {
	return &Snapshot{
		Revision: old.Revision + 1, Synced: old.Synced,
		Services: commit(t.services), slices: commit(t.slices), owner: commit(t.owner),
		Nodes: commit(t.nodes), Namespaces: commit(t.namespaces), Ingresses: commit(t.ingresses),
		Classes: commit(t.classes), Certificates: commit(t.certificates),
		Secrets: commit(t.secrets), ConfigMaps: commit(t.configMaps),
		ServiceCIDRs: commit(t.serviceCIDRs), Pods: commit(t.pods),
	}
}

func commit[R any](t *part.Txn[*R]) Table[R] {
	tree := t.Commit()
	return Table[R]{&tree}
}

// PutService adds or replaces a Service.
func (t *Txn) PutService(s *model.Service) { put(t.services, s.Name, s, &t.delta.Services, s.Name) }

// DeleteService removes a Service; its slices stay until they are deleted themselves.
func (t *Txn) DeleteService(n model.Name) { remove(t.services, n, &t.delta.Services, n) }

// PutSlice adds or replaces an EndpointSlice, also when it has moved to another Service.
func (t *Txn) PutSlice(s *model.EndpointSlice) {
	k := key(s.Name)
	if old, had := t.owner.Get(k); had && *old != s.Service {
		t.slices.Delete(sliceKey(*old, s.Name))
		mark(&t.delta.Services, *old)
	}
	t.owner.Insert(k, &s.Service)
	t.slices.Insert(sliceKey(s.Service, s.Name), s)
	mark(&t.delta.Services, s.Service)
}

// DeleteSlice removes the EndpointSlice of that name.
func (t *Txn) DeleteSlice(n model.Name) {
	if svc, had := t.owner.Delete(key(n)); had {
		t.slices.Delete(sliceKey(*svc, n))
		mark(&t.delta.Services, *svc)
	}
}

// PutNode adds or replaces a Node.
func (t *Txn) PutNode(n *model.Node) {
	put(t.nodes, model.Name{Name: n.Name}, n, &t.delta.Nodes, n.Name)
}

// DeleteNode removes a Node.
func (t *Txn) DeleteNode(name string) {
	remove(t.nodes, model.Name{Name: name}, &t.delta.Nodes, name)
}

// PutNamespace adds or replaces a Namespace.
func (t *Txn) PutNamespace(n *model.Namespace) {
	put(t.namespaces, model.Name{Name: n.Name}, n, &t.delta.Namespaces, n.Name)
}

// DeleteNamespace removes a Namespace.
func (t *Txn) DeleteNamespace(name string) {
	remove(t.namespaces, model.Name{Name: name}, &t.delta.Namespaces, name)
}

// PutIngress adds or replaces an Ingress.
func (t *Txn) PutIngress(i *model.Ingress) { put(t.ingresses, i.Name, i, &t.delta.Ingresses, i.Name) }

// DeleteIngress removes an Ingress.
func (t *Txn) DeleteIngress(n model.Name) { remove(t.ingresses, n, &t.delta.Ingresses, n) }

// PutClass adds or replaces an IngressClass.
func (t *Txn) PutClass(c *model.IngressClass) {
	put(t.classes, model.Name{Name: c.Name}, c, &t.delta.Classes, c.Name)
}

// DeleteClass removes an IngressClass.
func (t *Txn) DeleteClass(name string) {
	remove(t.classes, model.Name{Name: name}, &t.delta.Classes, name)
}

// PutCertificate adds or replaces a Certificate.
func (t *Txn) PutCertificate(c *model.Certificate) {
	put(t.certificates, c.Name, c, &t.delta.Certificates, c.Name)
}

// DeleteCertificate removes a Certificate.
func (t *Txn) DeleteCertificate(n model.Name) {
	remove(t.certificates, n, &t.delta.Certificates, n)
}

// PutSecret adds or replaces a Secret that an Ingress names.
func (t *Txn) PutSecret(s *model.Secret) { put(t.secrets, s.Name, s, &t.delta.Secrets, s.Name) }

// DeleteSecret removes a Secret.
func (t *Txn) DeleteSecret(n model.Name) { remove(t.secrets, n, &t.delta.Secrets, n) }

// PutConfigMap adds or replaces a ConfigMap that an Ingress or IngressClass names.
func (t *Txn) PutConfigMap(c *model.ConfigMap) {
	put(t.configMaps, c.Name, c, &t.delta.ConfigMaps, c.Name)
}

// DeleteConfigMap removes a ConfigMap.
func (t *Txn) DeleteConfigMap(n model.Name) { remove(t.configMaps, n, &t.delta.ConfigMaps, n) }

// PutServiceCIDR adds or replaces a ServiceCIDR.
func (t *Txn) PutServiceCIDR(c *model.ServiceCIDR) {
	put(t.serviceCIDRs, model.Name{Name: c.Name}, c, &t.delta.ServiceCIDRs, c.Name)
}

// DeleteServiceCIDR removes a ServiceCIDR.
func (t *Txn) DeleteServiceCIDR(name string) {
	remove(t.serviceCIDRs, model.Name{Name: name}, &t.delta.ServiceCIDRs, name)
}

// PutPod adds or replaces a Pod.
func (t *Txn) PutPod(p *model.Pod) { put(t.pods, p.Name, p, &t.delta.Pods, p.Name) }

// DeletePod removes a Pod.
func (t *Txn) DeletePod(n model.Name) { remove(t.pods, n, &t.delta.Pods, n) }

// put files a row and names it in the delta, under the key that the delta has for its kind.
func put[R any, K comparable](t *part.Txn[*R], name model.Name, row *R, changed *map[K]struct{}, k K) {
	t.Insert(key(name), row)
	mark(changed, k)
}

func remove[R any, K comparable](t *part.Txn[*R], name model.Name, changed *map[K]struct{}, k K) {
	if _, had := t.Delete(key(name)); had {
		mark(changed, k)
	}
}
