// Package ingressstatus writes into each Ingress the addresses at which it is served, for `kubectl get ingress` and for whoever waits
// for an address; and an Event on it for everything that is not served as it is written, for `kubectl describe ingress`.
//
// Contract. An Ingress of ours gets exactly the given addresses in status.loadBalancer, after the proxy has it in force; one that is no longer
// ours loses them, if they are still the ones written here. An Ingress of another class is never touched (networking/v1: the
// status belongs to the controller that serves the class). Nothing is written that is there already. Run blocks; failures are
// retried with the next change, or after a second. A finding becomes one Event; if it comes again, after a restart or from another node, that one is
// refreshed. Without addresses no status is touched.
//
// To debug, look at the Ingress: its status and Events are all that this package does. To test, run it against a real API.
package ingressstatus

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/model"
	"fairway.dev/fairway/internal/store"
)

// Config says whose status is written, and what.
type Config struct {
	Client kubernetes.Interface
	// Addresses are where the listeners are reached; none leaves every status as it is.
	Addresses []netip.Addr
	// Owns tells whether an Ingress is served here.
	Owns func(*store.Snapshot, *model.Ingress) bool
	// Findings gives what is to be told at present; nil tells nothing.
	Findings func() []Finding
	// Proxy is the consumer that must have an Ingress in force before its status says so.
	Proxy  string
	Logger *slog.Logger
}

// Run keeps the status of all Ingresses until ctx ends.
func Run(ctx context.Context, st *store.Store, c Config) error {
	cur := st.Follow("")
	defer cur.Close()
	t := teller{c: &c}
	for {
		snap, delta, err := cur.Next(ctx)
		if err != nil {
			return err
		}
		names := delta.Ingresses
		if delta.All || delta.Synced || len(delta.Classes) > 0 { // a class can make any Ingress ours, or not
			names = map[model.Name]struct{}{}
			for ing := range snap.Ingresses.All() {
				names[ing.Name] = struct{}{}
			}
		}
		tell := c.Findings != nil && (len(names) > 0 || len(delta.Services) > 0 || len(delta.Certificates) > 0 || len(delta.Secrets) > 0 || len(delta.ConfigMaps) > 0)
		if !snap.Synced || len(names) == 0 && !tell {
			continue
		}
		if err := st.Applied(ctx, snap.Revision, c.Proxy); err != nil {
			return err
		}
		failed := false
		for name := range names {
			ing := snap.Ingresses.Get(name)
			if ing == nil {
				continue
			}
			if len(c.Addresses) == 0 {
				continue
			}
			if err := c.write(ctx, name, c.Owns(snap, ing)); err != nil && ctx.Err() == nil {
				c.Logger.Warn("Ingress status", "err", err)
				failed = true
			}
		}
		if tell {
			t.tell(ctx, snap)
		}
		if failed {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
				cur.Rewind()
			}
		}
	}
}

func (c *Config) write(ctx context.Context, name model.Name, ours bool) error {
	api := c.Client.NetworkingV1().Ingresses(name.Namespace)
	have, err := api.Get(ctx, name.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ingress %s: get: %w", name, err)
	}
	mine := slices.Equal(addresses(have.Status.LoadBalancer.Ingress), c.Addresses)
	if mine == ours || !ours && len(have.Status.LoadBalancer.Ingress) == 0 {
		return nil
	}
	want := []networkingv1.IngressLoadBalancerIngress{}
	if ours {
		for _, a := range c.Addresses {
			want = append(want, networkingv1.IngressLoadBalancerIngress{IP: a.String()})
		}
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": want}}})
	if err != nil {
		return err
	}
	if _, err := api.Patch(ctx, name.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("ingress %s: patch status: %w", name, err)
	}
	return nil
}

// addresses reads a status; an entry that is not an address makes it somebody else's.
func addresses(in []networkingv1.IngressLoadBalancerIngress) (out []netip.Addr) {
	for _, e := range in {
		a, err := netip.ParseAddr(e.IP)
		if err != nil {
			return nil
		}
		out = append(out, a)
	}
	return out
}
