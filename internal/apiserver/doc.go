// Package apiserver is the stand-alone Kubernetes API of Fairway: the generic API server with upstream's types, defaulting,
// validation and printers, on an etcd inside the process, behind TLS with its own small certificate authority.
//
// What it promises
//
//   - The group versions it serves are at their real paths and behave as upstream's, because the code behind them is upstream's,
//     with one exception: the storage of Services, with the allocation of cluster IPs and node ports, is Fairway's own (package
//     service below).
//   - CustomResourceDefinitions add kinds while it runs, which discovery, OpenAPI and every verb then know as the others.
//   - A write that was acknowledged survives kill -9 of the process (and, unless Config.NoSync, of the machine), and no
//     address or node port is ever given to two Services.
//   - New checks everything that can be checked and starts nothing; Run starts everything, blocks, and has stopped it all,
//     etcd last, when it returns.
//   - Who somebody is comes from a client certificate of the installation's authority (common name and organizations), the token
//     of a ServiceAccount, or a token that ClientConfig made for a component of this process. Administrators (group
//     system:masters) and components may do everything, everybody else what roles allow, upstream's default roles among them.
//     Health and version are open to all, as upstream's are.
//   - A ServiceAccount's token ends with its time, and at once with the Pod, Secret, Node or ServiceAccount it is bound to. It is
//     good after a restart: the key that signs tokens is kept beside the authority's.
//   - Each namespace has the ServiceAccount default and the ConfigMap kube-root-ca.crt, and has them again when they are removed.
//   - The namespaces default, kube-system, kube-public and kube-node-lease exist, and the Service default/kubernetes with its
//     Endpoints and EndpointSlice points at Config.Advertise; whoever changes them finds them restored.
//
// A Server is safe for use by several goroutines. Only one may exist per data directory (a lock file holds the second one off).
// Upstream keeps process-wide state (feature gates, metrics, klog), so the options of the first Server decide about klog.
//
// To debug: Config.Logger at debug level receives what etcd and Kubernetes say; `kubectl get --raw /readyz?verbose` names the
// check that holds readiness back; `kubectl get --raw /metrics` has the request latencies. To test: start a real one with
// NoSync on port 0 in a temporary directory; it is ready in a fraction of a second.
package apiserver
