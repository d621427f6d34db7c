package differential

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ask gets a document.
func (s *server) ask(t *testing.T, path, accept string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", accept)
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(into); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", path, response.Status, err)
	}
}

// TestColumns asks for every kind that can be listed as kubectl does: the columns, those of -o wide among them, are upstream's.
func TestColumns(t *testing.T) {
	t.Parallel()
	p := pairs[0]
	const plain, table = "application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"
	paths := []string{"/api/v1"}
	var groups metav1.APIGroupList
	p.ours.ask(t, "/apis", plain, &groups)
	for _, group := range groups.Groups {
		for _, version := range group.Versions {
			paths = append(paths, "/apis/"+version.GroupVersion)
		}
	}
	lists := 0
	for _, path := range paths {
		var resources metav1.APIResourceList
		p.ours.ask(t, path, plain, &resources)
		for _, r := range resources.APIResources {
			if strings.Contains(r.Name, "/") || !slices.Contains(r.Verbs, "list") {
				continue
			}
			lists++
			var upstream, ours metav1.Table
			p.upstream.ask(t, path+"/"+r.Name, table, &upstream)
			p.ours.ask(t, path+"/"+r.Name, table, &ours)
			if diff := cmp.Diff(upstream.ColumnDefinitions, ours.ColumnDefinitions); diff != "" || len(ours.ColumnDefinitions) < 2 {
				t.Errorf("%s/%s: the columns differ (-upstream +ours):\n%s", path, r.Name, diff)
			}
		}
	}
	if lists < 25 {
		t.Errorf("only %d kinds can be listed", lists)
	}
}
