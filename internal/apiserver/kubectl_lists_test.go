package apiserver

import (
	"fmt"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// `kubectl wait` for each thing that it can wait for, which happens while it waits.
func TestKubectlWait(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	core := shared.client.CoreV1()
	pod := func(t *testing.T, name string) {
		t.Helper()
		if _, err := core.Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	patch := func(t *testing.T, name, text string, sub ...string) {
		t.Helper()
		if _, err := core.Pods(ns).Patch(t.Context(), name, types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{}, sub...); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, what, want string
		exists           bool
		then             func(t *testing.T, name string)
	}{
		{"condition", "condition=Ready", "pod/condition condition met", true, func(t *testing.T, name string) {
			patch(t, name, `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, "status")
		}},
		{"jsonpath", "jsonpath={.status.podIP}=10.244.0.9", "pod/jsonpath condition met", true, func(t *testing.T, name string) {
			patch(t, name, `{"status":{"podIP":"10.244.0.9","podIPs":[{"ip":"10.244.0.9"}]}}`, "status")
		}},
		{"label", "jsonpath={.metadata.labels.stage}", "pod/label condition met", true, func(t *testing.T, name string) {
			patch(t, name, `{"metadata":{"labels":{"stage":"any"}}}`)
		}},
		{"deleted", "delete", "pod/deleted condition met", true, func(t *testing.T, name string) {
			if err := core.Pods(ns).Delete(t.Context(), name, *metav1.NewDeleteOptions(0)); err != nil {
				t.Fatal(err)
			}
		}},
		{"created", "create", "pod/created condition met", false, pod},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if test.exists {
				pod(t, test.name)
			}
			cmd := shared.kubectlCommand(t, "-n", ns, "wait", "--for="+test.what, "--timeout=60s", "pod/"+test.name, "-v=6")
			var out strings.Builder
			log, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stdout = &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// It has asked once before it happens: its log of requests says so.
			said := make([]byte, 4096)
			var asked strings.Builder
			for !strings.Contains(asked.String(), "/pods") {
				n, err := log.Read(said)
				asked.Write(said[:n])
				if err != nil {
					t.Fatalf("kubectl wait ended: %v\n%s", err, asked.String())
				}
			}
			test.then(t, test.name)
			rest, _ := io.ReadAll(log)
			if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), test.want) {
				t.Errorf("%v: %s%s%s", err, out.String(), asked.String(), rest)
			}
		})
	}
}

// What is not here is said to be, and what is not done by halves: kubectl's users look for it.
func TestKubectlIsRefused(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	if _, err := shared.client.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ command, want string }{
		{"top nodes", "Metrics API not available"},
		{"top pods", "Metrics API not available"},
		{"debug web --image=tools", `pod "web" gets no ephemeral container`},
		{"debug web --image=tools --target=c", `kubectl debug web --copy-to=NAME --share-processes=false --image=IMAGE`},
		{"debug nobody --image=tools", `pods "nobody" not found`},
	} {
		if out, err := shared.kubectl(t, "", append([]string{"-n", ns}, strings.Fields(test.command)...)...); err == nil || !strings.Contains(out, test.want) {
			t.Errorf("kubectl %s: %v\n%s\nwant %q", test.command, err, out, test.want)
		}
	}
	// What the refusal says to do instead.
	if out, err := shared.kubectl(t, "", "-n", ns, "debug", "web", "--copy-to=copy", "--share-processes=false", "--image=tools"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	copied, err := shared.client.CoreV1().Pods(ns).Get(t.Context(), "copy", metav1.GetOptions{})
	if err != nil || len(copied.Spec.Containers) != 2 {
		t.Errorf("the copy: %+v, %v", copied, err)
	}
	web, err := shared.client.CoreV1().Pods(ns).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || len(web.Spec.EphemeralContainers) != 0 {
		t.Errorf("the Pod: %+v, %v", web, err)
	}
}

// Lists in chunks, selected, sorted and in columns of one's own are the whole list; explain knows the fields of each version.
func TestKubectlLists(t *testing.T) {
	t.Parallel()
	ns := shared.namespace(t)
	var names []string
	for n := range 7 {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("cm-", n), Labels: map[string]string{"parity": fmt.Sprint(n % 2)}}, Data: map[string]string{"n": fmt.Sprint(9 - n)}}
		if _, err := shared.client.CoreV1().ConfigMaps(ns).Create(t.Context(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		names = append(names, cm.Name)
	}
	all := "configmap/" + strings.Join(names, "\nconfigmap/") + "\n"
	for _, test := range []struct{ command, want string }{
		{"get configmaps -o name --chunk-size=2 -l parity", all},
		{"get configmaps -o name --chunk-size=0 -l parity", all},
		{"get configmaps --chunk-size=3 --no-headers -o custom-columns=WHO:.metadata.name,N:.data.n -l parity=1", "cm-1   8\ncm-3   6\ncm-5   4\n"},
		{"get configmaps -o jsonpath={.items[*].data.n} --sort-by=.data.n -l parity", "3 4 5 6 7 8 9"},
		{"get configmaps -o name --field-selector metadata.name=cm-4", "configmap/cm-4\n"},
		{"delete configmaps -l parity=0 -o name", "configmap/cm-0\nconfigmap/cm-2\nconfigmap/cm-4\nconfigmap/cm-6\n"},
		{"get configmaps -o name -l parity", "configmap/cm-1\nconfigmap/cm-3\nconfigmap/cm-5\n"},
	} {
		if out, err := shared.kubectl(t, "", append([]string{"-n", ns}, strings.Fields(test.command)...)...); err != nil || out != test.want {
			t.Errorf("kubectl %s: %v\n%s\nwant\n%s", test.command, err, out, test.want)
		}
	}
	for _, test := range []struct {
		command string
		want    []string
	}{
		{"explain services --api-version=v1 --recursive", []string{"KIND:       Service\n", "clusterIPs\t<[]string>", "trafficDistribution\t<string>", "timeoutSeconds\t<integer>"}},
		{"explain events --api-version=events.k8s.io/v1", []string{"GROUP:      events.k8s.io\n", "regarding\t<ObjectReference>"}},
		{"explain events --api-version=v1", []string{"involvedObject\t<ObjectReference>"}},
		{"explain ingress.spec.rules.http --recursive", []string{"pathType\t<string> -required-"}},
	} {
		out, err := shared.kubectl(t, "", strings.Fields(test.command)...)
		for _, want := range test.want {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("kubectl %s: %v, no %q in\n%.3000s", test.command, err, want, out)
			}
		}
	}
}
