// Package cluster runs `fairway agent` and `fairway controller` as a cluster's operator would: as clients of upstream's kube-apiserver with RBAC on,
// under the ServiceAccounts and roles of deploy/, each node in a network namespace of its own. Beside them runs upstream's kube-proxy, whose answers
// are the oracle of health checks.
//
// It needs root and the binaries: $FAIRWAY, $KUBE_APISERVER, $ETCD and $KUBE_PROXY, as `make test` sets them.
package cluster
