package cli

import (
	"strings"
	"testing"
)

func TestNamesCluster(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		want bool
	}{
		{"get pods", false},
		{"-n kube-system get svc", false},
		{"apply --server-side -f app.yaml", false}, // not --server
		{"get pods --server-print=false", false},
		{"get pods -o wide --sort-by=.metadata.name --selector a=b", false},
		{"logs web --since=1m", false},
		{"config view", false},
		{"exec web -- tool --kubeconfig x -s y --help", false},
		{"get pods --kubeconfig other.conf", true},
		{"--kubeconfig=other.conf get pods", true},
		{"-s https://192.0.2.1:6443 get pods", true},
		{"-shttps://192.0.2.1:6443 get pods", true},
		{"get pods --server https://192.0.2.1:6443", true},
		{"get pods --server=https://192.0.2.1:6443", true},
		{"", true}, // help
		{"help get", true},
		{"--help", true},
		{"get --help", true},
		{"get -h", true},
		{"completion bash", true},
	} {
		if got := namesCluster(strings.Fields(c.args)); got != c.want {
			t.Errorf("kubectl %s: %v; want %v", c.args, got, c.want)
		}
	}
}
