package main

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"fairway.dev/fairway/examples/imaging/photos"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page renders the gallery. All pictures of one page are asked for at the same time, and lie in the page itself, so that a
// browser needs one request and every picture can carry the name of the Pod that made it.
//
// The page is sent with status 200 also if pictures are missing, as a person wants to see the others; the header
// X-Pictures-Failed says how many. If all of them failed, the status is 502.
type page struct {
	backend *backend
	pod     string // that serves the page
}

// row is one photograph on the page.
type row struct {
	Photo    photos.Photo
	Pictures []shown
}

// shown is one picture, or why there is none.
type shown struct {
	Title             string
	Source            template.URL // a data: URL
	ServedBy, Version string
	Kilobytes         string
	Took              time.Duration
	Error             string
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	rows := make([]row, len(photos.All()))
	var asking sync.WaitGroup
	for i, photo := range photos.All() {
		rows[i] = row{Photo: photo, Pictures: make([]shown, len(operations))}
		for k, op := range operations {
			asking.Go(func() { rows[i].Pictures[k] = p.show(r, photo, op) })
		}
	}
	asking.Wait()

	data := struct {
		Rows            []row
		Pod             string
		Servers         map[string]int
		Pictures, Wrong int
		Took            time.Duration
	}{Rows: rows, Pod: p.pod, Servers: map[string]int{}, Took: time.Since(begin).Round(time.Millisecond)}
	for _, row := range rows {
		for _, s := range row.Pictures {
			data.Pictures++
			if s.Error != "" {
				data.Wrong++
			} else {
				data.Servers[s.ServedBy]++
			}
		}
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, data); err != nil {
		slog.Error("render the page", "error", err)
		http.Error(w, "the page could not be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Served-By", p.pod)
	w.Header().Set("X-Pictures-Failed", fmt.Sprint(data.Wrong))
	if data.Wrong == data.Pictures {
		w.WriteHeader(http.StatusBadGateway)
	}
	_, _ = w.Write(out.Bytes())
}

func (p *page) show(r *http.Request, photo photos.Photo, op operation) shown {
	begin := time.Now()
	got, err := p.backend.ask(r.Context(), photo, op.Query)
	if err != nil {
		slog.Warn("picture missing", "photo", photo.Name, "error", err)
		return shown{Title: op.Title, Error: err.Error()}
	}
	return shown{
		Title: op.Title,
		// The type comes from imaging, so it is not trusted to be free of markup: only the two known ones are put in.
		Source:    template.URL("data:" + imageType(got.Type) + ";base64," + base64.StdEncoding.EncodeToString(got.Bytes)),
		ServedBy:  got.ServedBy,
		Version:   got.Version,
		Kilobytes: fmt.Sprintf("%.1f kB", float64(len(got.Bytes))/1000),
		Took:      time.Since(begin).Round(time.Millisecond),
	}
}

func imageType(t string) string {
	if t == "image/png" {
		return t
	}
	return "image/jpeg"
}
