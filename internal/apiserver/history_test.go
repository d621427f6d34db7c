package apiserver

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// What the database has forgotten is told as that, so that clients begin anew; what it does not know yet is waited for, and then told.
func TestPastAndFuture(t *testing.T) {
	t.Parallel()
	client, err := dynamic.NewForConfig(shared.ClientConfig("history"))
	if err != nil {
		t.Fatal(err)
	}
	define(t, client, shelvesYAML)
	database := shared.database.client()
	defer database.Close()
	const forgotten = 5
	if _, err := database.Client.Compact(t.Context(), forgotten+5, clientv3.WithCompactPhysical()); err != nil && !strings.Contains(err.Error(), "has been compacted") {
		t.Fatal(err)
	}
	// A resource that is younger than that: the cache of an older one may still know, and answer.
	all := client.Resource(schema.GroupVersionResource{Group: "books.example.test", Version: "v1", Resource: "shelves"})
	expired := func(what string, err error) {
		t.Helper()
		if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	token := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"v":"meta.k8s.io/v1","rv":%d,"start":"a\u0000"}`, forgotten))
	_, err = all.List(t.Context(), metav1.ListOptions{Limit: 1, Continue: token})
	expired("an old continue token", err)
	if status, ok := err.(apierrors.APIStatus); !ok || status.Status().ListMeta.Continue == "" {
		t.Errorf("the error has no token to go on with: %v", err)
	}
	_, err = all.List(t.Context(), metav1.ListOptions{ResourceVersion: fmt.Sprint(forgotten), ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	expired("an old moment", err)

	events, err := all.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err == nil {
		event := <-events.ResultChan()
		events.Stop()
		err = apierrors.FromObject(event.Object)
	}
	expired("a watch from then", err)

	err = shared.client.CoreV1().RESTClient().Get().AbsPath("/apis/books.example.test/v1/shelves").MaxRetries(0).
		Param("resourceVersion", "1000000000").Param("resourceVersionMatch", "NotOlderThan").Do(t.Context()).Error()
	if !apierrors.IsTimeout(err) || !apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		t.Errorf("a moment to come: %v", err)
	}
}
