// Package oracle pins upstream's programs, which Fairway is compared with. Their main packages cannot be imported, so their bodies
// are: in this folder `go build` makes k8s.io/kubernetes/cmd/kube-apiserver, k8s.io/kubernetes/cmd/kube-proxy and
// go.etcd.io/etcd/server/v3, and `go test -c` makes k8s.io/kubernetes/test/e2e. The Makefile does.
package oracle

import (
	_ "go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/kubernetes/cmd/kube-apiserver/app"
	_ "k8s.io/kubernetes/cmd/kube-proxy/app"
)
