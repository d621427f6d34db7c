package cli

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/app"
)

func newController(i *instance) *cobra.Command {
	var kubeconfig, health, metrics, namespace string
	var controllers, addresses []string
	cfg := app.ControllerConfig{}
	c := &cobra.Command{
		Use:   "controller",
		Short: "Run what a cluster needs once: endpoint tracking, mirroring, the status of Ingresses",
		Long: `Run the loops that write API objects, against any Kubernetes API server:

  endpointslice            keeps the EndpointSlices of Services with a selector
  endpointslicemirroring   makes EndpointSlices of Endpoints written by hand
  ingressstatus            writes --ingress-address into the Ingresses that Fairway serves; left out without one

The first two stand in for the controllers of those names in kube-controller-manager: switch them off there
(--controllers=*,-endpointslice-controller,-endpointslice-mirroring-controller). They can take turns.

Any number of instances may run: with --leader-elect one works and the others wait. It needs no root.`,
		Example: `  fairway controller --kubeconfig controller.conf
  fairway controller --kubeconfig controller.conf --controllers ingressstatus --ingress-address 192.0.2.10`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p := &parser{}
			cfg.Kubeconfig, cfg.LeaseNamespace = kubeconfig, namespace
			cfg.Logger, cfg.Progress = i.logger(c), app.NewProgress(c.OutOrStdout(), processStart())
			for _, a := range addresses {
				ip, err := netip.ParseAddr(a)
				if err != nil {
					p.fail("--ingress-address %q: give an IP address, such as 192.0.2.10", a)
				}
				cfg.IngressAddresses = append(cfg.IngressAddresses, ip)
			}
			for _, name := range controllers {
				if !slices.Contains(app.Controllers, name) {
					p.fail("--controllers %q: there are %s", name, strings.Join(app.Controllers, ", "))
				}
				if name == app.IngressStatusController && len(addresses) == 0 {
					if c.Flags().Changed("controllers") {
						p.fail("--controllers %s: say with --ingress-address where clients reach the Ingress listeners", name)
					}
					continue
				}
				cfg.Controllers = append(cfg.Controllers, name)
			}
			if cfg.LeaderElect && !(cfg.LeaseDuration > cfg.RenewDeadline && cfg.RenewDeadline > cfg.RetryPeriod*6/5 && cfg.RetryPeriod > 0) {
				p.fail("--leader-elect-lease-duration must be longer than --leader-elect-renew-deadline, and that by a fifth than --leader-elect-retry-period")
			}
			if health != "" && health != "off" {
				cfg.Health = p.addr("--healthz-bind-address", health)
			}
			if metrics != "" && metrics != "off" {
				cfg.Metrics = p.addr("--metrics-bind-address", metrics)
			}
			if p.err != nil {
				return usageError{p.err}
			}
			return app.Controller(c.Context(), cfg)
		},
	}
	f := c.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "", "credentials for the API (default: those of the Pod that this runs in)")
	f.StringSliceVar(&controllers, "controllers", app.Controllers, "which to run")
	f.StringSliceVar(&addresses, "ingress-address", nil, "where clients reach the Ingress listeners, for ingressstatus")
	f.BoolVar(&cfg.LeaderElect, "leader-elect", true, "work only while holding the Lease fairway-controller")
	f.StringVar(&namespace, "leader-elect-resource-namespace", "fairway-system", "the namespace of that Lease")
	f.DurationVar(&cfg.LeaseDuration, "leader-elect-lease-duration", 15*time.Second, "how long others wait for a holder that does not renew")
	f.DurationVar(&cfg.RenewDeadline, "leader-elect-renew-deadline", 10*time.Second, "when a holder that cannot renew gives up")
	f.DurationVar(&cfg.RetryPeriod, "leader-elect-retry-period", 2*time.Second, "the time between two tries")
	f.StringVar(&health, "healthz-bind-address", "127.0.0.1:10246", "where /healthz, /livez and /readyz listen, or off")
	f.StringVar(&metrics, "metrics-bind-address", "127.0.0.1:10247", "where /metrics listens, or off")
	return c
}
