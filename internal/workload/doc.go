// Package workload is what turns Deployments, StatefulSets, DaemonSets, Jobs and their like into Pods on nodes when Fairway runs stand-alone: upstream's
// controllers, its garbage collector and its scheduler, in one process on shared informers. Upstream's Endpoints controller runs here, too, for clients that
// do not know EndpointSlices; those are written elsewhere (internal/controller/endpointslice).
//
// Contract. Run blocks until its context ends; the API must be serving when it is called. It is upstream's code and behaves as such: a
// Deployment rolls, a StatefulSet keeps its order, a Job counts its failures, what belongs to a deleted owner is deleted, whatever its kind. A deleted namespace is
// emptied at once, and is gone when the last Pod in it is. The scheduler has only those of upstream's plugins that decide by Pods, nodes and namespaces: a Pod
// that needs a volume or a device to be chosen for it is placed as if it did not. Nothing else that a cluster has runs here, among others
// autoscaling, volumes and the eviction of Pods from nodes that are ill.
//
// To keep it small, objects are held without their managed fields, and whatever the garbage collector watches for nobody else is held as metadata
// only.
//
// To debug, read klog, where upstream's code logs, and the Events on the objects. To test, run it on a real API with a Node that
// nobody serves: scheduling and counting need no more.
package workload
