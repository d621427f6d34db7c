package story

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // answers are looked into
	_ "image/png"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"fairway.dev/fairway/examples/imaging/photos"
)

// host is the Ingress host of the example.
const host = "photos.example.test"

// requestTimeout bounds one request with everything in it. It is long, since a busy machine makes pictures slowly and that is no fault of
// the path to them: a request that got lost has none to wait for.
const requestTimeout = 30 * time.Second

// picturesMissing is in the error of a page that lacks pictures.
const picturesMissing = "pictures are missing on the page"

// client asks over and over.
type client struct {
	name    string
	rate    float64 // requests per second
	workers int     // most requests at a time; one that is due while all are busy is left out
	asker   asker
	ask     func(a asker, ctx context.Context, n int) (answer, error)
}

// run asks until ctx ends, lets every request that it has begun end by itself, and counts all of them. No connection is left open.
func (c client) run(ctx context.Context, l *ledger) {
	defer c.asker.transport.CloseIdleConnections()
	var busy sync.WaitGroup
	defer busy.Wait()
	slots := make(chan struct{}, c.workers)
	tick := time.NewTicker(time.Duration(float64(time.Second) / c.rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		busy.Go(func() {
			defer func() { <-slots }()
			asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
			defer cancel()
			begin := time.Now()
			a, err := c.ask(c.asker, asking, n)
			if end := time.Now(); err != nil {
				l.failed(c.name, begin, end, err.Error())
			} else {
				l.answered(c.name, a, end.Sub(begin))
			}
		})
	}
}

// dialer connects to an address; an Ingress client's names are mapped before.
type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// outside are the clients that ask from outside the Pods: two at the ClusterIP, three at the Ingress.
func outside(dial dialer, at site, cert certificate, rate float64) []client {
	ingress := func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		return dial(ctx, network, net.JoinHostPort("127.0.0.1", port))
	}
	transport := func(d dialer) *http.Transport {
		return &http.Transport{
			DialContext: d, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
			TLSClientConfig: &tls.Config{RootCAs: cert.pool, MinVersion: tls.VersionTLS12},
		}
	}
	fresh := transport(dial)
	fresh.DisableKeepAlives = true
	direct, web := "http://"+at.imaging+"/", "://"+host
	return []client{
		{"ClusterIP, new connections", rate, 2, asker{fresh, direct}, asker.image},
		{"ClusterIP, kept alive", rate, 2, asker{transport(dial), direct}, asker.image},
		{"Ingress, HTTP", rate, 2, asker{transport(ingress), "http" + web + "/api"}, asker.image},
		{"Ingress, HTTPS", rate, 2, asker{transport(ingress), "https" + web + "/api"}, asker.image},
		{"Ingress, the page", max(rate/20, 0.5), 1, asker{transport(ingress), "https" + web + "/"}, asker.page},
	}
}

// names are those of the report: the gallery first, which is nearest, then the clients.
func names(clients []client) []string {
	out := []string{galleryClient}
	for _, c := range clients {
		out = append(out, c.name)
	}
	return out
}

// asker makes single requests to one URL.
type asker struct {
	transport *http.Transport
	url       string
}

// image asks for a thumbnail of the nth photograph and looks whether it is one.
func (a asker) image(ctx context.Context, n int) (answer, error) {
	photo := photos.All()[n%len(photos.All())]
	u := a.url + "?" + url.Values{"op": {"thumbnail"}, "w": {"160"}, "h": {"160"}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, bytes.NewReader(photo.Bytes))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", photo.Type)
	// The operation is a pure function, so it may be made again; this header tells net/http, and any proxy that knows it.
	req.Header.Set("Idempotency-Key", strconv.Quote(photo.Name+"-"+strconv.Itoa(n)))
	resp, body, err := a.do(req)
	if err != nil {
		return answer{}, err
	}
	if size, _, err := image.DecodeConfig(bytes.NewReader(body)); err != nil {
		return answer{}, fmt.Errorf("the answer is no image: %w", err)
	} else if max(size.Width, size.Height) != 160 {
		return answer{}, fmt.Errorf("the thumbnail of %s has %d×%d pixels", photo.Name, size.Width, size.Height)
	}
	got := answer{servedBy: resp.Header.Get("X-Served-By"), version: resp.Header.Get("X-Version")}
	if got.servedBy == "" {
		return answer{}, errors.New("the answer does not say who served it")
	}
	return got, nil
}

// page asks for the gallery's page and looks whether every picture is on it. It answers for the gallery, not for a replica of
// imaging, so it names none.
func (a asker) page(ctx context.Context, _ int) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url, nil)
	if err != nil {
		return answer{}, err
	}
	resp, body, err := a.do(req)
	if err != nil {
		return answer{}, err
	}
	if failed := resp.Header.Get("X-Pictures-Failed"); failed != "0" {
		return answer{}, fmt.Errorf("%s %s", failed, picturesMissing)
	}
	if n := bytes.Count(body, []byte(`src="data:image/`)); n < len(photos.All()) {
		return answer{}, fmt.Errorf("the page has %d pictures", n)
	}
	return answer{}, nil
}

// do makes a request whose answer must be 200.
func (a asker) do(req *http.Request) (*http.Response, []byte, error) {
	resp, err := a.transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body[:min(len(body), 200)])))
	}
	return resp, body, nil
}
