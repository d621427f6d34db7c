package apiserver

import (
	"context"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/registry/rest"
	podstore "k8s.io/kubernetes/pkg/registry/core/pod/storage"
)

// noEphemeralContainers is the subresource of Pods that `kubectl debug` writes to. It can be read. A write is refused, because the node would never start
// what it asks for. The subresource is there all the same: without it kubectl says that the cluster has disabled something.
type noEphemeralContainers struct {
	*podstore.EphemeralContainersREST
}

// Update implements rest.Updater. A Pod that is not there is told as that.
func (n noEphemeralContainers) Update(ctx context.Context, name string, _ rest.UpdatedObjectInfo, _ rest.ValidateObjectFunc, _ rest.ValidateObjectUpdateFunc, _ bool, _ *metav1.UpdateOptions) (runtime.Object, bool, error) {
	if _, err := n.Get(ctx, name, &metav1.GetOptions{}); err != nil {
		return nil, false, err
	}
	return nil, false, &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed,
		Details: &metav1.StatusDetails{Name: name, Kind: "pods"},
		Message: fmt.Sprintf("pod %q gets no ephemeral container: Fairway's node adds none to a Pod that runs; look into it with 'kubectl exec %[1]s -- COMMAND', "+
			"or give a copy of it one more container with 'kubectl debug %[1]s --copy-to=NAME --share-processes=false --image=IMAGE'", name),
	}}
}
