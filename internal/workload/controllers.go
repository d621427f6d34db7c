package workload

import (
	"context"
	"fmt"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/kubernetes/pkg/controller/cronjob"
	"k8s.io/kubernetes/pkg/controller/daemon"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/endpoint"
	"k8s.io/kubernetes/pkg/controller/job"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/replication"
	"k8s.io/kubernetes/pkg/controller/statefulset"
	"k8s.io/kubernetes/pkg/controller/ttlafterfinished"
)

const (
	// workers is how many objects each controller works on at the same time. Upstream's five are for clusters with more going on.
	workers = 3
	// burst is how many Pods a ReplicaSet makes or deletes in one go; upstream's number.
	burst = replicaset.BurstReplicas
	// A DaemonSet whose Pod fails makes the next one after firstBackoff, and then waits ever longer; upstream's numbers.
	firstBackoff, lastBackoff = time.Second, 15 * time.Minute
	// endpointsPause is how long changes are gathered before the Endpoints of a Service are written. Nothing here reads Endpoints, which EndpointSlices
	// have replaced; they are for clients that know nothing else, and must not slow down what matters.
	endpointsPause = 500 * time.Millisecond
)

// controller is one of upstream's. It stops when ctx ends.
type controller interface {
	Run(ctx context.Context, workers int)
}

// newControllers makes every controller that turns a kind into Pods, and the one of Endpoints. What they watch is in shared, and what the API has not is in absent.
func newControllers(ctx context.Context, client kubernetes.Interface, shared, absent informers.SharedInformerFactory) ([]controller, error) {
	apps, batch, core := shared.Apps().V1(), shared.Batch().V1(), shared.Core().V1()
	deployments, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), core.Pods(), client)
	if err != nil {
		return nil, fmt.Errorf("workload: make the Deployment controller: %w", err)
	}
	daemonSets, err := daemon.NewDaemonSetsController(ctx, apps.DaemonSets(), apps.ControllerRevisions(), core.Pods(), core.Nodes(), client,
		flowcontrol.NewBackOff(firstBackoff, lastBackoff))
	if err != nil {
		return nil, fmt.Errorf("workload: make the DaemonSet controller: %w", err)
	}
	jobs, err := job.NewController(ctx, client, core.Pods(), batch.Jobs(), absent.Scheduling().V1beta1().Workloads(), absent.Scheduling().V1beta1().PodGroups())
	if err != nil {
		return nil, fmt.Errorf("workload: make the Job controller: %w", err)
	}
	cronJobs, err := cronjob.NewControllerV2(ctx, batch.Jobs(), batch.CronJobs(), client)
	if err != nil {
		return nil, fmt.Errorf("workload: make the CronJob controller: %w", err)
	}
	return []controller{
		deployments, daemonSets, jobs, cronJobs,
		endpoint.NewEndpointController(ctx, core.Pods(), core.Services(), core.Endpoints(), client, endpointsPause),
		replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), core.Pods(), client, burst),
		replication.NewReplicationManager(ctx, core.Pods(), core.ReplicationControllers(), client, burst),
		statefulset.NewStatefulSetController(ctx, core.Pods(), apps.StatefulSets(), absent.Core().V1().PersistentVolumeClaims(), apps.ControllerRevisions(), client),
		ttlafterfinished.New(ctx, batch.Jobs(), client),
	}, nil
}
