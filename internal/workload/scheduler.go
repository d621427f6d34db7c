package workload

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/informers/resource"
	"k8s.io/client-go/informers/storage"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/kubernetes/pkg/scheduler"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/latest"
	"k8s.io/kubernetes/pkg/scheduler/framework/plugins/names"
	"k8s.io/kubernetes/pkg/scheduler/profile"
)

// plugins are those of upstream's that decide by what Pods, nodes and namespaces say. Volumes and devices have no API here, and eviction of
// Pods for the sake of more important ones is left out.
var plugins = []string{
	names.SchedulingGates, names.PrioritySort,
	names.NodeUnschedulable, names.NodeName, names.TaintToleration, names.NodeAffinity, names.NodePorts, names.NodeResourcesFit,
	names.PodTopologySpread, names.InterPodAffinity,
	names.DefaultBinder,
}

type podScheduler struct {
	*scheduler.Scheduler
	events    events.EventBroadcaster
	informers informers.SharedInformerFactory
}

func newScheduler(ctx context.Context, client kubernetes.Interface, absent informers.SharedInformerFactory) (*podScheduler, error) {
	profiles, err := profiles()
	if err != nil {
		return nil, err
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	own := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim))
	own.InformerFor(&corev1.Pod{}, livePods)
	s, err := scheduler.New(ctx, client, &schedulerInformers{own, absent}, nil,
		profile.NewRecorderFactory(broadcaster),
		scheduler.WithProfiles(profiles...),
		scheduler.WithParallelism(2), // of looking at nodes, of which there is one
	)
	if err != nil {
		broadcaster.Shutdown()
		return nil, fmt.Errorf("workload: make the scheduler: %w", err)
	}
	return &podScheduler{s, broadcaster, own}, nil
}

func (s *podScheduler) run(ctx context.Context) {
	defer s.informers.Shutdown()
	defer s.events.Shutdown()
	s.informers.Start(ctx.Done())
	if err := s.events.StartRecordingToSinkWithContext(ctx); err != nil {
		return // only when the broadcaster has been shut down
	}
	if err := s.WaitForHandlersSync(ctx); err != nil {
		return // ctx has ended
	}
	s.Run(ctx)
}

// profiles is upstream's default profile with no more than our plugins.
func profiles() ([]config.KubeSchedulerProfile, error) {
	c, err := latest.Default()
	if err != nil {
		return nil, fmt.Errorf("workload: read the scheduler's defaults: %w", err)
	}
	p := c.Profiles[0]
	p.Plugins = &config.Plugins{}
	for _, name := range plugins {
		p.Plugins.MultiPoint.Enabled = append(p.Plugins.MultiPoint.Enabled, config.Plugin{Name: name, Weight: 1})
	}
	p.PluginConfig = slices.DeleteFunc(p.PluginConfig, func(c config.PluginConfig) bool { return !slices.Contains(plugins, c.Name) })
	for _, c := range p.PluginConfig {
		if args, ok := c.Args.(*config.PodTopologySpreadArgs); ok {
			// The system's own constraints would have every Service, StatefulSet and ReplicationController watched, to spread over zones.
			args.DefaultingType, args.DefaultConstraints = config.ListDefaulting, nil
		}
	}
	return []config.KubeSchedulerProfile{p}, nil
}

// livePods leaves out the Pods that have ended: they take up no room on a node, and the scheduler would count them.
func livePods(client kubernetes.Interface, _ time.Duration) cache.SharedIndexInformer {
	return coreinformers.NewFilteredPodInformer(client, metav1.NamespaceAll, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
		o.FieldSelector = "status.phase!=" + string(corev1.PodSucceeded) + ",status.phase!=" + string(corev1.PodFailed)
	})
}

// schedulerInformers are the scheduler's own, but for the groups of volumes and devices, which the API does not have. The scheduler asks for informers
// of those whether or not a plugin needs them, and waits for some; they find nothing, without asking the API for ever.
type schedulerInformers struct {
	informers.SharedInformerFactory
	absent informers.SharedInformerFactory
}

func (i *schedulerInformers) Storage() storage.Interface   { return i.absent.Storage() }
func (i *schedulerInformers) Resource() resource.Interface { return i.absent.Resource() }
