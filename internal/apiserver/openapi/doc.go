// Package openapi holds the OpenAPI definitions of every API type that the stand-alone server serves, generated from the
// comments and tags of k8s.io/api and k8s.io/apimachinery. The server publishes them for clients (`kubectl explain`, client
// side validation) and derives the merge rules of server-side apply from them.
//
// Only the groups that are served are generated: the list of packages below must grow with the list of groups in the server's
// assembly, else a group fails to install at start-up. Upstream's own file covers every group in existence; it is three times
// as large, and every definition is built at each start.
package openapi

//go:generate go run k8s.io/kube-openapi/cmd/openapi-gen@v0.0.0-20260721132016-d427ff9ee9ad --output-dir . --output-pkg fairway.dev/fairway/internal/apiserver/openapi --output-file zz_generated.go --go-header-file header.txt --report-filename /dev/null k8s.io/api/apps/v1 k8s.io/api/authentication/v1 k8s.io/api/authorization/v1 k8s.io/api/autoscaling/v1 k8s.io/api/batch/v1 k8s.io/api/coordination/v1 k8s.io/api/core/v1 k8s.io/api/discovery/v1 k8s.io/api/events/v1 k8s.io/api/networking/v1 k8s.io/api/policy/v1 k8s.io/api/rbac/v1 k8s.io/api/scheduling/v1 k8s.io/api/scheduling/v1alpha3 k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1 k8s.io/apimachinery/pkg/api/resource k8s.io/apimachinery/pkg/apis/meta/v1 k8s.io/apimachinery/pkg/runtime k8s.io/apimachinery/pkg/util/intstr k8s.io/apimachinery/pkg/version
