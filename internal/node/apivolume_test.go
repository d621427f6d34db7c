package node

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// A new state of a volume takes effect as a whole, whatever was there before, and nothing is left of the old one.
func TestPublish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// From a writer that knew no links, and from one that was cut short.
	for _, path := range []string{"a", "old", "..data.new", "..left/x"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var last string
	for _, test := range []struct {
		what    string
		files   map[string]string
		entries int // names in the directory: the visible ones and two more
		same    bool
	}{
		{"first", map[string]string{"a": "1", "sub/b": "2", "sub/c": "3"}, 4, false},
		{"nothing new", map[string]string{"a": "1", "sub/b": "2", "sub/c": "3"}, 4, true},
		{"other content", map[string]string{"a": "2", "sub/b": "2", "sub/c": "3"}, 4, false},
		{"a file less", map[string]string{"a": "2", "sub/b": "2"}, 4, false},
		{"other names", map[string]string{"sub": "now a file"}, 3, false},
		{"none", nil, 2, false},
	} {
		v, err := openVolume(dir)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]file{}
		for name, data := range test.files {
			files[name] = file{data: []byte(data), mode: 0o644}
		}
		if err := v.publish(files, nil); err != nil {
			t.Fatalf("%s: %v", test.what, err)
		}
		v.Close()
		for name, want := range test.files {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
				t.Errorf("%s: %s holds %q, %v", test.what, name, got, err)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != test.entries {
			t.Errorf("%s: %d entries, want %d: %v, %v", test.what, len(entries), test.entries, entries, err)
		}
		now, err := os.Readlink(filepath.Join(dir, "..data"))
		if err != nil || (now == last) != test.same {
			t.Errorf("%s: ..data leads to %s, before to %s, %v", test.what, now, last, err)
		}
		last = now
	}
}

// Readers see one state or the other while states alternate, and no two writers get into each other's way.
func TestPublishIsAtomic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var writers, readers sync.WaitGroup
	write := func(value string) {
		v, err := openVolume(dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer v.Close()
		if err := v.publish(map[string]file{"a": {data: []byte(value), mode: 0o644}, "b": {data: []byte(value), mode: 0o644}}, nil); err != nil {
			t.Error(err)
		}
	}
	write("0")
	done := make(chan struct{})
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			// What a reader has opened it sees to the end.
			state, err := os.Readlink(filepath.Join(dir, "..data"))
			if err != nil {
				t.Error(err)
				return
			}
			a, errA := os.ReadFile(filepath.Join(dir, state, "a"))
			b, errB := os.ReadFile(filepath.Join(dir, state, "b"))
			if errA == nil && errB == nil && string(a) != string(b) {
				t.Errorf("one state with %q and %q", a, b)
				return
			}
		}
	})
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				write(fmt.Sprint(w, "/", i))
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

// issuing is a node whose API issues tokens that say when they were made.
func issuing(t *testing.T, age *time.Duration) (*Node, *[]*authenticationv1.TokenRequest) {
	n, requests := knowing(t), &[]*authenticationv1.TokenRequest{}
	n.Client.(*fake.Clientset).PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
		request := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
		*requests = append(*requests, request)
		claims := fmt.Sprintf(`{"iat":%d,"exp":4102444800,"n":%d}`, time.Now().Add(-*age).Unix(), len(*requests))
		request.Status.Token = "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s"
		return true, request, nil
	})
	return n, requests
}

// A token is asked for once for all containers of a Pod, and again when four fifths of its life are over, not before; and it is for whom the Pod says.
func TestTokenVolume(t *testing.T) {
	t.Parallel()
	life, root, user, group := int64(600), int64(0), int64(1000), int64(2000)
	pod := func(c corev1.PodSecurityContext, containers ...*int64) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "uid"},
			Spec: corev1.PodSpec{ServiceAccountName: "seller", SecurityContext: &c, Volumes: []corev1.Volume{{
				Name: "access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
					{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", Audience: "shop", ExpirationSeconds: &life}},
					{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
						{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}}}}},
				}}},
			}}},
		}
		for _, u := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{SecurityContext: &corev1.SecurityContext{RunAsUser: u}})
		}
		return p
	}
	for _, test := range []struct {
		what     string
		pod      *corev1.Pod
		uid, gid int64
		mode     os.FileMode
	}{
		{"no user", pod(corev1.PodSecurityContext{}, nil), root, root, 0o644},
		{"one user", pod(corev1.PodSecurityContext{RunAsUser: &user}, nil, nil), user, root, 0o600},
		{"one user, container by container", pod(corev1.PodSecurityContext{}, &user, &user), user, root, 0o600},
		{"two users", pod(corev1.PodSecurityContext{RunAsUser: &user}, nil, &root), root, root, 0o644},
		{"a group", pod(corev1.PodSecurityContext{FSGroup: &group}, nil), root, group, 0o640},
		{"a user and a group", pod(corev1.PodSecurityContext{RunAsUser: &user, FSGroup: &group}, nil), user, group, 0o640},
	} {
		var age time.Duration
		n, requests := issuing(t, &age)
		places, err := n.volumes(t.Context(), test.pod)
		if err != nil {
			t.Fatalf("%s: %v", test.what, err)
		}
		path := filepath.Join(places["access"], "token")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatalf("%s: %v", test.what, err)
		}
		if s := info.Sys().(*syscall.Stat_t); info.Mode() != test.mode || int64(s.Uid) != test.uid || int64(s.Gid) != test.gid {
			t.Errorf("%s: token of %d:%d, mode %v; want %d:%d, %v", test.what, s.Uid, s.Gid, info.Mode(), test.uid, test.gid, test.mode)
		}
		if r := (*requests)[0].Spec; len(r.Audiences) != 1 || r.Audiences[0] != "shop" || *r.ExpirationSeconds != life || r.BoundObjectRef.UID != "uid" {
			t.Errorf("%s: asked for %+v", test.what, r)
		}
	}

	for _, test := range []struct {
		age      time.Duration
		requests int
	}{{0, 1}, {470 * time.Second, 1}, {490 * time.Second, 2}, {time.Hour, 2}} {
		age := test.age
		n, requests := issuing(t, &age)
		p := pod(corev1.PodSecurityContext{}, nil)
		var first, second []byte
		for _, token := range []*[]byte{&first, &second} {
			places, err := n.volumes(t.Context(), p)
			if err == nil {
				*token, err = os.ReadFile(filepath.Join(places["access"], "token"))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if renewed := string(first) != string(second); len(*requests) != test.requests || renewed != (test.requests == 2) {
			t.Errorf("token of age %v: %d requests, want %d; renewed %v", test.age, len(*requests), test.requests, renewed)
		}
	}
}

// Containers that start together share one token, and one look at the API's authority does for all Pods of a namespace.
func TestVolumesAreShared(t *testing.T) {
	t.Parallel()
	var age time.Duration
	n, requests := issuing(t, &age)
	authority := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: rootCA}, Data: map[string]string{"ca.crt": "PEM"}}
	if _, err := n.Client.CoreV1().ConfigMaps("shop").Create(context.Background(), authority, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := func(uid string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: uid, UID: types.UID(uid)}, Spec: corev1.PodSpec{Volumes: []corev1.Volume{{
			Name: "access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: rootCA}}},
			}}},
		}}}}
	}
	for _, name := range []string{"one", "two"} {
		p := pod(name)
		var containers sync.WaitGroup
		for range 5 {
			containers.Go(func() {
				if _, err := n.volumes(t.Context(), p); err != nil {
					t.Error(err)
				}
			})
		}
		containers.Wait()
	}
	reads := 0
	for _, a := range n.Client.(*fake.Clientset).Actions() {
		if a.Matches("get", "configmaps") {
			reads++
		}
	}
	if len(*requests) != 2 || reads != 1 {
		t.Errorf("%d requests for tokens and %d for the authority, want 2 and 1", len(*requests), reads)
	}
}
