package main

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"net/http"
	"strconv"
)

const (
	maxBody   = 16 << 20 // bytes of an encoded image
	maxPixels = 24e6     // of an image that comes or goes; four bytes each in memory
)

// service answers the requests that the package comment lists.
type service struct {
	name, version string
	slots         chan struct{} // one token per image being worked on: bounds memory, and the processor's queue
	draining      func() bool
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("POST /{$}", s.process)
	mux.HandleFunc("POST /api", s.process)
	mux.HandleFunc("POST /api/{$}", s.process)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Served-By", s.name)
		w.Header().Set("X-Version", s.version)
		mux.ServeHTTP(w, r)
	})
}

func (s *service) ready(w http.ResponseWriter, _ *http.Request) {
	if s.draining() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *service) process(w http.ResponseWriter, r *http.Request) {
	out, err := s.transform(w, r)
	if err != nil {
		status := http.StatusInternalServerError
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			status = refused.status
		}
		http.Error(w, err.Error(), status)
		return
	}
	w.Header().Set("Content-Type", out.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(out.body.Len()))
	_, _ = w.Write(out.body.Bytes()) // an error is the client's going away, and there is nobody left to tell
}

// encoded is an image on its way out.
type encoded struct {
	mediaType string
	body      bytes.Buffer
}

// transform does the whole of a request: parameters first, since they are cheap to refuse, then the size, then the pixels.
func (s *service) transform(w http.ResponseWriter, r *http.Request) (*encoded, error) {
	job, err := parseJob(r.URL.Query())
	if err != nil {
		return nil, err
	}
	in, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the image is larger than %d MiB", maxBody>>20)
	}
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "read the image: %v", err)
	}
	if len(in) == 0 {
		return nil, refuse(http.StatusBadRequest, "the request has no body: send a JPEG or PNG")
	}
	size, format, err := image.DecodeConfig(bytes.NewReader(in))
	if errors.Is(err, image.ErrFormat) {
		return nil, refuse(http.StatusUnsupportedMediaType, "this is neither a JPEG nor a PNG")
	}
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "the image is damaged: %v", err)
	}
	if float64(size.Width)*float64(size.Height) > maxPixels {
		return nil, refuse(http.StatusRequestEntityTooLarge, "the image has %d×%d pixels; at most %.0f million are taken", size.Width, size.Height, maxPixels/1e6)
	}
	if err := job.checkResult(size.Width, size.Height); err != nil {
		return nil, err
	}

	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	img, _, err := image.Decode(bytes.NewReader(in))
	if err != nil {
		return nil, refuse(http.StatusUnprocessableEntity, "the image is damaged: %v", err)
	}
	if job.format == "" {
		job.format = format
	}
	return encode(job.apply(img), job)
}

func encode(img image.Image, j job) (*encoded, error) {
	var (
		out encoded
		err error
	)
	switch j.format {
	case "jpeg":
		out.mediaType = "image/jpeg"
		err = jpeg.Encode(&out.body, img, &jpeg.Options{Quality: j.quality})
	default:
		out.mediaType = "image/png"
		err = (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&out.body, img)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", j.format, err)
	}
	return &out, nil
}
