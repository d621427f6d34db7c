package service

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/client-go/kubernetes"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/networking"
)

const (
	// repairInterval is how often everything is compared with everything although nothing asks for it; upstream has the same.
	repairInterval = 3 * time.Minute
	// doubtDelay is how long after a write with unknown outcome that is done. etcd gives up on a request after five seconds and
	// two election times; whatever it was going to store is stored by then.
	doubtDelay = 10 * time.Second
	// repairRetry is how soon something is looked at again that could not be put right, or whose write was under way.
	repairRetry = time.Second
)

// outcomeKnown tells whether an error says for certain that nothing was written. A request that was cut off, or timed out in
// the database, may have been written all the same.
func outcomeKnown(err error) bool {
	switch apierrors.ReasonForError(err) {
	case "", "Unknown", "InternalError", "Timeout", "ServerTimeout", "ServiceUnavailable", "TooManyRequests":
		return false
	}
	return true
}

// repairs is what is to be looked at, and when.
type repairs struct {
	wake chan struct{}

	mu   sync.Mutex
	all  time.Time
	ones map[netip.Addr]time.Time
}

func newRepairs() repairs {
	return repairs{wake: make(chan struct{}, 1), ones: make(map[netip.Addr]time.Time)}
}

// ask has one address looked at, at that time or earlier.
func (r *repairs) ask(addr netip.Addr, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if due, ok := r.ones[addr]; !ok || at.Before(due) {
		r.ones[addr] = at
	}
	r.poke()
}

// askAll has everything looked at, at that time or earlier.
func (r *repairs) askAll(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all.IsZero() || at.Before(r.all) {
		r.all = at
	}
	r.poke()
}

func (r *repairs) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// due takes out what is due, and says when the next is.
func (r *repairs) due(now time.Time) (all bool, ones []netip.Addr, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.all.IsZero() && !r.all.After(now) {
		all, r.all = true, time.Time{}
	}
	next = r.all
	for addr, at := range r.ones {
		if !at.After(now) {
			ones = append(ones, addr)
			delete(r.ones, addr)
		} else if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return all, ones, next
}

// doubt has everything compared once the outcome of a lost write has shown.
func (s *Storage) doubt() { s.repairs.askAll(time.Now().Add(doubtDelay)) }

// Recheck has everything compared soon, while Run runs.
func (s *Storage) Recheck() { s.repairs.askAll(time.Now()) }

// Run repairs what is to be repaired, and keeps the ServiceCIDRs, until ctx ends. The client is one of this very server.
func (s *Storage) Run(ctx context.Context, client kubernetes.Interface, log *slog.Logger) {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.cidrs.run(ctx, client, log) })

	told := newReporter(client, log)
	s.repairs.askAll(time.Now())
	for {
		all, ones, next := s.repairs.due(time.Now())
		if all {
			s.repairs.askAll(time.Now().Add(repairInterval))
			if err := s.repairAll(ctx, told); err != nil && ctx.Err() == nil {
				log.Error("allocated addresses and ports: repair", "error", err)
				s.repairs.askAll(time.Now().Add(repairRetry))
			}
		}
		for _, addr := range ones {
			if err := s.repairOne(ctx, addr, told); err != nil && ctx.Err() == nil {
				log.Warn("allocated address: repair", "error", err)
				s.repairs.ask(addr, time.Now().Add(repairRetry))
			}
		}
		if all || len(ones) > 0 {
			continue // time has passed
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.repairs.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// repairAll compares the allocators with the stored Services and IPAddress objects. It frees what is marked as used although nothing
// stored holds it, marks what a stored Service holds, reports what two Services hold or what is out of range, and puts every
// IPAddress object right. What other requests take or free meanwhile, or hold while their write is under way, is left alone.
func (s *Storage) repairAll(ctx context.Context, told *reporter) error {
	s.allocators.suspectAll()
	defer s.allocators.endRepair()
	services, objects := &api.ServiceList{}, &networking.IPAddressList{}
	if err := listAll(ctx, s.Store, services); err != nil {
		return fmt.Errorf("services: list: %w", err)
	}
	if err := listAll(ctx, s.objects, objects); err != nil {
		return fmt.Errorf("ipaddresses: list: %w", err)
	}
	if addresses, ports := s.allocators.freeSuspects(services.Items, objects.Items); addresses+ports > 0 {
		told.log.Info("allocated addresses and ports: freed what nobody holds", "addresses", addresses, "nodePorts", ports)
	}
	var troubles []trouble
	for i := range services.Items {
		troubles = append(troubles, s.repairService(ctx, &services.Items[i])...)
	}
	told.troubles(ctx, troubles)

	stored := make(map[netip.Addr]*networking.IPAddress, len(objects.Items))
	wrong := make(map[netip.Addr]bool)
	for i := range objects.Items {
		if addr, ok := addressOf(&objects.Items[i]); ok {
			stored[addr] = &objects.Items[i]
			_, held := s.allocators.holderOfAddress(addr)
			wrong[addr] = managed(&objects.Items[i]) || !held
		}
	}
	for i := range services.Items {
		svc := &services.Items[i]
		for _, addr := range heldAddresses(svc) {
			if h, _ := s.allocators.holderOfAddress(addr); h.uid == svc.UID {
				wrong[addr] = stored[addr] == nil || !belongsTo(stored[addr], svc) || !rightLabels(stored[addr], addr)
			}
		}
	}
	maps.DeleteFunc(wrong, func(_ netip.Addr, is bool) bool { return !is })
	for addr := range wrong {
		if err := s.repairOne(ctx, addr, told); err != nil {
			return err
		}
	}
	return nil
}

// repairService marks what a Service holds that was read a moment ago. If something was not marked, it looks whether the Service is
// still there: its deletion may have been faster.
func (s *Storage) repairService(ctx context.Context, svc *api.Service) []trouble {
	if s.allocators.holdsAll(svc) {
		return nil
	}
	troubles := s.allocators.adopt(svc)
	now := &api.Service{}
	if err := s.read(ctx, s.Store, svc, now); err == nil && now.UID == svc.UID && now.ResourceVersion == svc.ResourceVersion {
		return troubles
	}
	s.repairs.askAll(time.Now().Add(repairRetry)) // it changed under our eyes; what it does not hold any more will be found without owner
	return nil
}

// repairOne puts the IPAddress object of one address right, or the allocators if they do not know of it.
func (s *Storage) repairOne(ctx context.Context, addr netip.Addr, told *reporter) error {
	h, held := s.allocators.observe(addr)
	if held && h.pending {
		s.repairs.ask(addr, time.Now().Add(repairRetry))
		return nil
	}
	object, err := s.readObject(ctx, addr)
	switch {
	case err != nil:
		return err
	case held && h.holder != byObject:
		return s.repairHeld(ctx, addr, h.holder, object, told)
	case object == nil:
		s.allocators.forget(addr)
		return nil
	case !held && !s.allocators.holdObserved(addr): // since it was read, the object may have got a Service, or may be gone
		s.repairs.ask(addr, time.Now().Add(repairRetry))
		return nil
	}
	return s.repairLoose(ctx, addr, object, told)
}

// readObject reads the IPAddress object of an address; it is nil if there is none.
func (s *Storage) readObject(ctx context.Context, addr netip.Addr) (*networking.IPAddress, error) {
	object := &networking.IPAddress{}
	err := s.read(ctx, s.objects, &networking.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: addr.String()}}, object)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ipaddress %s: read: %w", addr, err)
	}
	return object, nil
}

// read reads an object as the database has it, not a cache.
func (s *Storage) read(ctx context.Context, store *genericregistry.Store, like, into runtime.Object) error {
	key, err := keyOf(ctx, store, like)
	if err != nil {
		return err
	}
	err = store.Storage.Storage.Get(ctx, key, storage.GetOptions{}, into)
	if storage.IsNotFound(err) {
		return apierrors.NewNotFound(store.DefaultQualifiedResource, key)
	}
	return err
}

// listAll reads all objects of a kind as they are now. While the watch cache in front of the database fills, it says "too many requests",
// as it would to a client; nobody here could do anything but ask again.
func listAll(ctx context.Context, store *genericregistry.Store, into runtime.Object) error {
	for {
		err := store.Storage.Storage.GetList(ctx, store.KeyRootFunc(ctx), storage.ListOptions{Predicate: storage.Everything, Recursive: true}, into)
		if !apierrors.IsTooManyRequests(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// suspectAll puts all that is used, except by writes under way, under suspicion of having no owner. Whatever is taken or freed
// from then on is no longer suspect.
func (a *Allocators) suspectAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ports.suspectAll()
	a.addresses.suspectAll()
}

// endRepair ends what suspectAll began.
func (a *Allocators) endRepair() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ports.endRepair()
	a.addresses.endRepair()
}

// freeSuspects frees what is still suspect and held by none of these, which must have been read after suspectAll.
func (a *Allocators) freeSuspects(services []api.Service, objects []networking.IPAddress) (addresses, ports int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range services {
		for _, addr := range heldAddresses(&services[i]) {
			a.addresses.clear(addr, services[i].UID)
		}
		for _, port := range heldPorts(&services[i]) {
			a.ports.clear(port, services[i].UID)
		}
	}
	for i := range objects {
		if addr, ok := addressOf(&objects[i]); ok {
			a.addresses.clear(addr, byObject.uid)
		}
	}
	return a.addresses.freeSuspects(), a.ports.freeSuspects()
}

// holdsAll tells whether everything that a Service holds is in range and marked as this Service's.
func (a *Allocators) holdsAll(svc *api.Service) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, addr := range heldAddresses(svc) {
		if a.addresses.holdings[addr].uid != svc.UID || !a.inRange(addr) {
			return false
		}
	}
	for _, port := range heldPorts(svc) {
		if _, ok := a.portRange.number(port); !ok || a.ports.holdings[port].uid != svc.UID {
			return false
		}
	}
	return true
}
