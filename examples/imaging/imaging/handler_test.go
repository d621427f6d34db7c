package main

import (
	"bytes"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"fairway.dev/fairway/examples/imaging/photos"
)

func testServer(t *testing.T, draining bool) *httptest.Server {
	t.Helper()
	s := &service{name: "imaging-x", version: "v7", slots: make(chan struct{}, 2), draining: func() bool { return draining }}
	server := httptest.NewServer(s.handler())
	t.Cleanup(server.Close)
	return server
}

func do(t *testing.T, method, url string, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, answer
}

func TestEveryOperationOnEveryPhotograph(t *testing.T) {
	t.Parallel()
	server := testServer(t, false)
	for _, p := range photos.All() {
		kept := strings.TrimPrefix(p.Type, "image/")
		for _, test := range []struct {
			query  string
			format string
			size   image.Point
		}{
			{"/?op=thumbnail", kept, fit(p, 160, 160)},
			{"/?op=thumbnail&w=100", kept, fit(p, 100, 1<<20)},
			{"/?op=thumbnail&w=5000&h=5000", kept, image.Pt(p.Width, p.Height)},
			{"/api?op=resize&w=50&h=70", kept, image.Pt(50, 70)},
			{"/api/?op=resize&w=1000", kept, image.Pt(1000, scaled(p.Height, 1000/float64(p.Width)))},
			{"/?op=rotate&angle=-90&format=png", "png", image.Pt(p.Height, p.Width)},
			{"/?op=rotate&angle=180", kept, image.Pt(p.Width, p.Height)},
			{"/?op=gray&format=jpg&quality=60", "jpeg", image.Pt(p.Width, p.Height)},
		} {
			resp, body := do(t, http.MethodPost, server.URL+test.query, p.Bytes)
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("%s %s: %s: %s", p.Name, test.query, resp.Status, body)
			}
			img, format, err := image.Decode(bytes.NewReader(body))
			if err != nil {
				t.Fatalf("%s %s: %v", p.Name, test.query, err)
			}
			if format != test.format || resp.Header.Get("Content-Type") != "image/"+format {
				t.Errorf("%s %s: %s with Content-Type %s, want %s", p.Name, test.query, format, resp.Header.Get("Content-Type"), test.format)
			}
			if img.Bounds().Size() != test.size {
				t.Errorf("%s %s: size %v, want %v", p.Name, test.query, img.Bounds().Size(), test.size)
			}
			if resp.Header.Get("X-Served-By") != "imaging-x" || resp.Header.Get("X-Version") != "v7" {
				t.Errorf("%s %s: headers %v", p.Name, test.query, resp.Header)
			}
		}
	}
}

func fit(p photos.Photo, w, h int) image.Point {
	scale := min(float64(w)/float64(p.Width), float64(h)/float64(p.Height))
	return image.Pt(scaled(p.Width, scale), scaled(p.Height, scale))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	server := testServer(t, false)
	photo := photos.All()[0].Bytes
	var wide bytes.Buffer
	if err := png.Encode(&wide, image.NewGray(image.Rect(0, 0, 6000, 4001))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		method, path string
		body         []byte
		status       int
		text         string
	}{
		{"GET", "/", nil, 405, "Method Not Allowed"},
		{"POST", "/other?op=gray", photo, 404, "not found"},
		{"POST", "/", photo, 400, "op is missing"},
		{"POST", "/?op=sharpen", photo, 400, `op="sharpen": must be thumbnail`},
		{"POST", "/?op=resize", photo, 400, "needs w or h"},
		{"POST", "/?op=resize&w=-4", photo, 400, `w="-4": must be a whole number`},
		{"POST", "/?op=resize&w=ten", photo, 400, `w="ten": must be a whole number`},
		{"POST", "/?op=resize&w=20000&h=20000", photo, 400, "result would have 20000×20000 pixels"},
		{"POST", "/?op=resize&w=20000000", photo, 400, "result would have"},
		{"POST", "/?op=rotate", photo, 400, "needs a number of degrees"},
		{"POST", "/?op=rotate&angle=NaN", photo, 400, "needs a number of degrees"},
		{"POST", "/?op=gray&format=webp", photo, 400, "must be jpeg or png"},
		{"POST", "/?op=gray&quality=0", photo, 400, "from 1 to 100"},
		{"POST", "/?op=gray", nil, 400, "no body"},
		{"POST", "/?op=gray", []byte("GIF89a, or so it says"), 415, "neither a JPEG nor a PNG"},
		{"POST", "/?op=gray", photo[:len(photo)/2], 422, "damaged"},
		{"POST", "/?op=gray", photo[:12], 422, "damaged"},
		{"POST", "/?op=thumbnail", wide.Bytes(), 413, "6000×4001 pixels"},
		{"POST", "/?op=gray", make([]byte, maxBody+1), 413, "larger than 16 MiB"},
	} {
		resp, body := do(t, test.method, server.URL+test.path, test.body)
		if resp.StatusCode != test.status || !strings.Contains(string(body), test.text) {
			t.Errorf("%s %s: %d %q, want %d %q", test.method, test.path, resp.StatusCode, body, test.status, test.text)
		}
		if strings.Count(strings.TrimSpace(string(body)), "\n") > 0 {
			t.Errorf("%s %s: more than one line: %q", test.method, test.path, body)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		draining bool
		path     string
		status   int
	}{
		{false, "/healthz", 200}, {false, "/readyz", 200},
		{true, "/healthz", 200}, {true, "/readyz", 503},
	} {
		resp, _ := do(t, http.MethodGet, testServer(t, test.draining).URL+test.path, nil)
		if resp.StatusCode != test.status {
			t.Errorf("%s while draining=%v: %s", test.path, test.draining, resp.Status)
		}
	}
}
