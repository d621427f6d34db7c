package differential

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Upstream's storage of Services and its allocators are not one: an IPAddress object is written before the Service that it is for, and
// removed before that Service has given it up. A controller beside them looks at both through caches, and repairs what it sees between
// the two writes. So the answers of one client's requests, sent one after the other, depend on how fast the caches are. What
// this file does makes that rare, and finds it out where it happens nevertheless. Fairway writes both in one transaction.

// request sends a request and remembers what it answers about an object.
func (s *session) request(ctx context.Context, r request) (*answer, error) {
	s.awaitNextSecond(r)
	a, err := s.do(ctx, r)
	if s.forgetful && err != nil && strings.HasSuffix(err.Error(), streamReset) {
		return &answer{code: http.StatusInternalServerError, text: panicked}, nil
	}
	if err != nil {
		return nil, err
	}
	if a.body != nil && a.body["kind"] != "Status" && a.body["items"] == nil && !r.dry {
		name := nameOf(a.body)
		s.made[name] = s.made[name] || r.verb != "get"
		if s.first[name] == nil {
			s.first[name] = a.body
		}
		s.last[name] = a.body
		return a, s.catchUp(ctx, r, a.body)
	}
	return a, nil
}

// A panic of upstream's ends in an answer that says so or, if it comes late, in a broken stream.
const (
	panicked    = "caused apiserver to panic"
	streamReset = "INTERNAL_ERROR; received from peer"
)

// catchUp waits until the server's cache has what was written. A write that starts from an outdated cache is tried twice, and
// upstream then loses what the first try has allocated.
func (s *session) catchUp(ctx context.Context, r request, written map[string]any) error {
	version, _ := lookup(written, "metadata.resourceVersion")
	_, err := s.send(ctx, http.MethodGet, s.collection(r.resource)+"/"+nameOf(written), url.Values{"resourceVersion": {fmt.Sprint(version)}}, "", nil)
	return err
}

// awaitNextSecond lets a write that may take an address for a Service that exists, or is made anew, come in a later second than the one in
// which that Service was made. An IPAddress object of the same second is what upstream's repair removes at once if its cache does
// not have the Service's new address yet; to a younger one it gives time. The address is then free although a Service has it.
func (s *session) awaitNextSecond(r request) {
	if r.resource != "services" || r.dry || r.status || s.last[r.name] == nil {
		return
	}
	switch r.verb {
	case "create":
	case "put", "edit", "merge", "strategic", "json", "apply":
		kind, _ := lookup(s.last[r.name], "spec.type")
		if kind != "ExternalName" && !strings.Contains(r.body, "ipFamil") && !strings.Contains(r.body, "clusterIP") {
			return
		}
	default:
		return
	}
	text, _ := lookup(s.last[r.name], "metadata.creationTimestamp")
	if made, err := time.Parse(time.RFC3339, fmt.Sprint(text)); err == nil {
		time.Sleep(time.Until(made.Add(time.Second)))
	}
}

// repairer is upstream's controller that removes and makes IPAddress objects.
const repairer = "ipallocator-repair-controller"

// eventDelay is how long an Event of the repairer may take to be stored: it is written beside what it tells of.
const eventDelay = 5 * time.Second

// lost tells how upstream has come to disagree with itself about the addresses of the Services in that namespace, while nobody but the
// case's one client had anything to do with them. What came after that has nothing to be compared with. Either there is an address
// too many or too few now, or the repairer has said in an Event that it came between.
func (p *pair) lost(ctx context.Context, namespace string) (note string, err error) {
	for deadline := time.Now().Add(eventDelay); ; time.Sleep(100 * time.Millisecond) {
		if note, err := p.addressLost(ctx, namespace); note != "" || err != nil {
			return note, err
		}
		events, err := p.upstream.items(ctx, "/apis/events.k8s.io/v1/events")
		if err != nil {
			return "", err
		}
		for _, event := range events {
			by, _ := lookup(event, "reportingController")
			about, _ := lookup(event, "regarding.namespace")
			text, _ := lookup(event, "note")
			note := fmt.Sprint(text)
			if by == repairer && (about == namespace || strings.Contains(note, " "+namespace+"/") || strings.Contains(note, "/"+namespace+" ")) {
				return note, nil
			}
		}
		if time.Now().After(deadline) {
			return "", nil
		}
	}
}

// addressLost compares upstream's IPAddress objects for Services of a namespace with those Services.
func (p *pair) addressLost(ctx context.Context, namespace string) (note string, err error) {
	objects, err := p.upstream.items(ctx, groups["ipaddresses"].path+"/ipaddresses")
	if err != nil {
		return "", err
	}
	services, err := p.upstream.items(ctx, "/api/v1/namespaces/"+namespace+"/services")
	if err != nil {
		return "", err
	}
	has := make(map[string]string) // by address: the Service
	for _, service := range services {
		kind, _ := lookup(service, "spec.type")
		ips, _ := lookup(service, "spec.clusterIPs")
		list, _ := ips.([]any)
		for _, ip := range list {
			if kind != "ExternalName" && ip != "None" {
				has[fmt.Sprint(ip)] = nameOf(service)
			}
		}
	}
	for _, object := range objects {
		service, given := givenBy(object, namespace)
		address := nameOf(object)
		switch {
		case given && has[address] != service:
			return fmt.Sprintf("IPAddress %s is left over from Service %s", address, service), nil
		case given:
			delete(has, address)
		}
	}
	for address, service := range has {
		return fmt.Sprintf("Service %s has %s, for which there is no IPAddress", service, address), nil
	}
	return "", nil
}

// givenBy is the Service in that namespace for which an allocator made this IPAddress.
func givenBy(object any, namespace string) (service string, ok bool) {
	meta, _ := object.(map[string]any)["metadata"].(map[string]any)
	labels, _ := meta["labels"].(map[string]any)
	in, _ := lookup(object, "spec.parentRef.namespace")
	name, _ := lookup(object, "spec.parentRef.name")
	return fmt.Sprint(name), in == namespace && labels["ipaddress.kubernetes.io/managed-by"] == "ipallocator.k8s.io"
}

// freeAddresses removes what is left over of the addresses of a case, whose Services are gone. Upstream leaves one if it has taken the
// address of one family and cannot have that of the other, and removes it itself after a minute. On ours that is a mistake.
func (s *session) freeAddresses(ctx context.Context) error {
	objects, err := s.items(ctx, s.collection("ipaddresses"))
	if err != nil {
		return err
	}
	for _, object := range objects {
		service, given := givenBy(object, s.namespace)
		if !given {
			continue
		}
		if !s.forgetful {
			return fmt.Errorf("address %s is left over from Service %s/%s, which is gone", nameOf(object), s.namespace, service)
		}
		if _, err := s.send(ctx, http.MethodDelete, s.collection("ipaddresses")+"/"+nameOf(object), nil, "", nil); err != nil {
			return err
		}
	}
	return nil
}

// items lists what is at a path.
func (s *server) items(ctx context.Context, path string) ([]any, error) {
	list, err := s.send(ctx, http.MethodGet, path, nil, "", nil)
	if err != nil {
		return nil, err
	}
	items, _ := list.body["items"].([]any)
	return items, nil
}
