package app

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
)

// countRequests makes every client of cfg count its requests, under the name that Kubernetes' components have for them.
func countRequests(cfg *rest.Config) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rest_client_requests_total", Help: "Requests to the API by method and status; <error> is one without an answer.",
	}, []string{"code", "method"})
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return counting{next, v} })
	return v
}

type counting struct {
	next http.RoundTripper
	v    *prometheus.CounterVec
}

func (c counting) RoundTrip(q *http.Request) (*http.Response, error) {
	r, err := c.next.RoundTrip(q)
	code := "<error>"
	if err == nil {
		code = strconv.Itoa(r.StatusCode)
	}
	c.v.WithLabelValues(code, q.Method).Inc()
	return r, err
}
