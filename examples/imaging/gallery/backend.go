package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fairway.dev/fairway/examples/imaging/photos"
)

// requestTimeout bounds one request with everything in it. It is far above what any operation takes.
const requestTimeout = 30 * time.Second

// backend asks the Service imaging. It is the ordinary client of net/http with its pool of kept-alive connections.
type backend struct {
	base *url.URL
	http *http.Client
}

// picture is one answer of imaging.
type picture struct {
	Type     string // media type
	Bytes    []byte
	ServedBy string // name of the Pod
	Version  string
}

func newBackend(base string) (*backend, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("imaging=%q: must be a URL such as http://imaging/", base)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil // a Service is never behind the proxy that a machine uses for the world
	transport.MaxIdleConnsPerHost = 8
	return &backend{base: u, http: &http.Client{Transport: transport, Timeout: requestTimeout}}, nil
}

// ask sends photo with op, a query such as "op=thumbnail&w=160".
func (b *backend) ask(ctx context.Context, photo photos.Photo, op string) (picture, error) {
	u := *b.base
	u.RawQuery = op
	// bytes.Reader lets net/http send the body a second time.
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(photo.Bytes))
	if err != nil {
		return picture{}, fmt.Errorf("imaging %s %s: %w", photo.Name, op, err)
	}
	req.Header.Set("Content-Type", photo.Type)
	// A kept-alive connection may be closed by the other side, for good reasons such as the end of a Pod, at the very moment
	// at which we write a request into it. For a GET, net/http then asks again over another connection by itself; for a
	// POST it must not, since a POST may have been carried out already. Ours is a pure function of what we send, so a
	// second time does no harm, and this header is how net/http is told so. A value of no element keeps the header off
	// the wire. See "idempotent" in the documentation of http.Transport.
	req.Header["Idempotency-Key"] = nil
	resp, err := b.http.Do(req)
	if err != nil {
		return picture{}, err // *url.Error names method, URL and cause
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return picture{}, fmt.Errorf("imaging %s %s: read the answer of %s: %w", photo.Name, op, resp.Header.Get("X-Served-By"), err)
	}
	if resp.StatusCode != http.StatusOK {
		return picture{}, fmt.Errorf("imaging %s %s: %s from %s: %s", photo.Name, op, resp.Status, resp.Header.Get("X-Served-By"), strings.TrimSpace(string(body)))
	}
	p := picture{
		Type:     resp.Header.Get("Content-Type"),
		Bytes:    body,
		ServedBy: resp.Header.Get("X-Served-By"),
		Version:  resp.Header.Get("X-Version"),
	}
	if !strings.HasPrefix(p.Type, "image/") {
		return picture{}, fmt.Errorf("imaging %s %s: %s answered with %q", photo.Name, op, p.ServedBy, p.Type)
	}
	return p, nil
}
