package story

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// site is where the two Services are: their ClusterIPs, in the form of a URL's host.
type site struct{ imaging, gallery string }

// locate reads the ClusterIPs.
func (c *cluster) locate(ctx context.Context) (site, error) {
	var at site
	for name, to := range map[string]*string{"imaging": &at.imaging, "gallery": &at.gallery} {
		s, err := c.client.CoreV1().Services("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return site{}, fmt.Errorf("service default/%s: %w", name, err)
		}
		if *to = urlHost(s.Spec.ClusterIP); *to == "" {
			return site{}, fmt.Errorf("service default/%s: its ClusterIP is %q", name, s.Spec.ClusterIP)
		}
	}
	return at, nil
}

// urlHost is an address as the host of a URL with port 80, or nothing if it is none.
func urlHost(address string) string {
	ip := net.ParseIP(address)
	switch {
	case ip == nil:
		return ""
	case ip.To4() == nil:
		return "[" + address + "]"
	}
	return address
}

// Reached is one way in which the Service was reached, or not. "gallery probe" prints the same as JSON.
type Reached struct {
	Way      string   `json:"way"`
	From     string   `json:"from"`
	Host     string   `json:"host,omitempty"`
	Resolved []string `json:"resolved,omitempty"`
	ServedBy string   `json:"servedBy,omitempty"`
	Took     string   `json:"took,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// ways are how the probe has to have reached the Service.
var ways = []string{"imaging", "imaging.default", "imaging.default.svc.cluster.local", "env IMAGING"}

// reach goes to the Service imaging by its ClusterIP from the host, and by three names and by environment variables from a Pod that is
// started now, after the Service. What cannot be reached is told in the result and does not end the story.
func reach(ctx context.Context, c *cluster, at site, t *teller) []Reached {
	begin := time.Now()
	direct := Reached{Way: "ClusterIP", From: "host", Host: at.imaging}
	transport := &http.Transport{DialContext: c.ns.DialContext, DisableKeepAlives: true}
	asking, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	got, err := asker{transport, "http://" + at.imaging + "/"}.image(asking, 0)
	if err != nil {
		direct.Error = err.Error()
	}
	direct.ServedBy, direct.Took = got.servedBy, short(time.Since(begin))
	out := []Reached{direct}
	t.say("%s", direct)
	t.say("first answer through the Service %s after fairway up was started", short(time.Since(c.started)))

	seen, err := c.probe(ctx)
	for _, r := range judge(seen, strings.Trim(at.imaging, "[]")) {
		if err != nil {
			r.Error = err.Error()
		}
		t.say("%s", r)
		out = append(out, r)
	}
	return out
}

// String is the line that is told.
func (r Reached) String() string {
	to := r.Host
	if len(r.Resolved) > 0 {
		to = strings.Join(r.Resolved, " ")
	}
	if r.Error != "" {
		return fmt.Sprintf("NOT reached from the %s by %s (%s): %s", r.From, r.Way, to, r.Error)
	}
	return fmt.Sprintf("reached from the %s by %s (%s): %s, %s", r.From, r.Way, to, r.ServedBy, r.Took)
}

// judge holds what the probe saw against what it had to see: every way, each of them at the ClusterIP.
func judge(seen []Reached, clusterIP string) []Reached {
	var out []Reached
	for _, way := range ways {
		i := slices.IndexFunc(seen, func(r Reached) bool { return r.Way == way })
		r := Reached{Way: way, Error: "the probe says nothing about it"}
		if i >= 0 {
			r = seen[i]
		}
		r.From = "Pod"
		addresses := r.Resolved
		if address, _, err := net.SplitHostPort(r.Host); err == nil {
			addresses = []string{address}
		}
		if r.Error == "" && !slices.Contains(addresses, clusterIP) {
			r.Error = fmt.Sprintf("it led to %v, and the ClusterIP is %s", addresses, clusterIP)
		}
		out = append(out, r)
	}
	return out
}

// probe runs the one-shot Pod and reads its log.
func (c *cluster) probe(ctx context.Context) ([]Reached, error) {
	if _, err := c.kubectl(ctx, "apply", "-f", "manifests/later/probe.yaml"); err != nil {
		return nil, err
	}
	err := c.await(ctx, settleTime, "pod default/probe to end", func(ctx context.Context) (string, error) {
		p, err := c.client.CoreV1().Pods("default").Get(ctx, "probe", metav1.GetOptions{})
		if err != nil {
			return err.Error(), nil
		}
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			return "it is " + string(p.Status.Phase), nil
		}
		return "", nil
	})
	if err != nil {
		return nil, err
	}
	log, err := c.kubectl(ctx, "logs", "probe")
	if err != nil {
		return nil, err
	}
	seen, err := readProbe(log)
	if err != nil {
		return nil, err
	}
	_, err = c.kubectl(ctx, "delete", "pod", "probe")
	return seen, err
}

// readProbe reads the log of the probe, one JSON object a line.
func readProbe(log string) ([]Reached, error) {
	var out []Reached
	for line := range strings.Lines(log) {
		var r Reached
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("log of pod default/probe: %q: %w", line, err)
		}
		out = append(out, r)
	}
	return out, nil
}
