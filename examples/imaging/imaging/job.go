package main

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"net/http"
	"net/url"
	"strconv"
)

// refusal is an error that is the client's: its status is sent as it is, its text is for a person.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, format string, args ...any) error {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

// job is what a request asks for.
type job struct {
	op      string
	w, h    int     // pixels, 0: not given
	angle   float64 // degrees clockwise
	format  string  // jpeg, png or "": as it came
	quality int     // of a JPEG
}

// thumbnailSize is the box of a thumbnail that asked for none.
const thumbnailSize = 160

// parseJob reads the query and refuses what can be refused without the image.
func parseJob(q url.Values) (job, error) {
	j := job{op: q.Get("op"), format: q.Get("format"), quality: 85}
	var err error
	if j.w, err = whole(q, "w", 0, 0, maxPixels); err != nil {
		return job{}, err
	}
	if j.h, err = whole(q, "h", 0, 0, maxPixels); err != nil {
		return job{}, err
	}
	if j.quality, err = whole(q, "quality", j.quality, 1, 100); err != nil {
		return job{}, err
	}
	if j.format == "jpg" {
		j.format = "jpeg"
	}
	if j.format != "" && j.format != "jpeg" && j.format != "png" {
		return job{}, refuse(http.StatusBadRequest, "format=%q: must be jpeg or png", j.format)
	}
	switch j.op {
	case "thumbnail":
		if j.w == 0 && j.h == 0 {
			j.w, j.h = thumbnailSize, thumbnailSize
		}
	case "resize":
		if j.w == 0 && j.h == 0 {
			return job{}, refuse(http.StatusBadRequest, "op=resize needs w or h, in pixels")
		}
	case "rotate":
		j.angle, err = strconv.ParseFloat(q.Get("angle"), 64)
		if err != nil || math.IsNaN(j.angle) || math.IsInf(j.angle, 0) {
			return job{}, refuse(http.StatusBadRequest, "angle=%q: op=rotate needs a number of degrees", q.Get("angle"))
		}
	case "gray":
	case "":
		return job{}, refuse(http.StatusBadRequest, "op is missing: must be thumbnail, resize, rotate or gray")
	default:
		return job{}, refuse(http.StatusBadRequest, "op=%q: must be thumbnail, resize, rotate or gray", j.op)
	}
	return j, nil
}

// whole reads a whole number in lowest..highest; absent gives preset.
func whole(q url.Values, name string, preset, lowest int, highest float64) (int, error) {
	s := q.Get(name)
	if s == "" {
		return preset, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < lowest || float64(n) > highest {
		return 0, refuse(http.StatusBadRequest, "%s=%q: must be a whole number from %d to %.0f", name, s, lowest, highest)
	}
	return n, nil
}

// size is that of the result for an image of w×h pixels.
func (j job) size(w, h int) (int, int) {
	switch j.op {
	case "thumbnail":
		scale := 1.0
		if j.w > 0 {
			scale = min(scale, float64(j.w)/float64(w))
		}
		if j.h > 0 {
			scale = min(scale, float64(j.h)/float64(h))
		}
		return scaled(w, scale), scaled(h, scale)
	case "resize":
		switch {
		case j.w == 0:
			return scaled(w, float64(j.h)/float64(h)), j.h
		case j.h == 0:
			return j.w, scaled(h, float64(j.w)/float64(w))
		}
		return j.w, j.h
	case "rotate":
		return rotatedSize(w, h, j.angle)
	}
	return w, h
}

// scaled is at least one pixel: a panorama's thumbnail is a line, not nothing.
func scaled(n int, by float64) int { return max(1, int(math.Round(float64(n)*by))) }

// checkResult refuses a result that would not fit into memory. A rotated image is larger than the image, a resized one as large
// as the client likes.
func (j job) checkResult(w, h int) error {
	rw, rh := j.size(w, h)
	if float64(rw)*float64(rh) > maxPixels {
		return refuse(http.StatusBadRequest, "the result would have %d×%d pixels; at most %.0f million are made", rw, rh, maxPixels/1e6)
	}
	return nil
}

// apply makes the result. It never changes img.
func (j job) apply(img image.Image) image.Image {
	switch j.op {
	case "thumbnail", "resize":
		w, h := j.size(img.Bounds().Dx(), img.Bounds().Dy())
		return scale(img, w, h)
	case "rotate":
		background := color.RGBA{}
		if j.format == "jpeg" { // which knows no transparency
			background = color.RGBA{R: 255, G: 255, B: 255, A: 255}
		}
		return rotate(img, j.angle, background)
	}
	return gray(img)
}
