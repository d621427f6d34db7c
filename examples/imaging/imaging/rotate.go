package main

import (
	"image"
	"image/color"
	"math"
)

// quarters says whether angle is a whole number of quarter turns, and which: 0..3.
func quarters(angle float64) (int, bool) {
	turns := angle / 90
	if turns != math.Trunc(turns) {
		return 0, false
	}
	return (int(math.Mod(turns, 4)) + 4) % 4, true
}

// rotatedSize is the smallest size that holds a rotated image of w×h.
func rotatedSize(w, h int, angle float64) (int, int) {
	if turns, ok := quarters(angle); ok {
		if turns%2 == 1 {
			return h, w
		}
		return w, h
	}
	sin, cos := math.Sincos(math.Mod(angle, 360) * math.Pi / 180)
	sin, cos = math.Abs(sin), math.Abs(cos)
	fw, fh := float64(w), float64(h)
	// The small part keeps a result that is whole but for rounding from growing by a pixel.
	return int(math.Ceil(fw*cos + fh*sin - 1e-6)), int(math.Ceil(fw*sin + fh*cos - 1e-6))
}

// rotate turns img clockwise by angle degrees. Quarter turns move pixels and change none; every other angle takes each pixel of
// the result from the four pixels of img around the place where it came from. What lies outside img gets the background.
func rotate(img image.Image, angle float64, background color.RGBA) *image.RGBA {
	src := flat(img)
	if turns, ok := quarters(angle); ok {
		return quarterTurn(src, turns)
	}
	w, h := rotatedSize(src.Rect.Dx(), src.Rect.Dy(), angle)
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	sin, cos := math.Sincos(math.Mod(angle, 360) * math.Pi / 180)
	toX, toY := float64(w)/2, float64(h)/2
	fromX, fromY := float64(src.Rect.Dx())/2, float64(src.Rect.Dy())/2
	for y := range h {
		for x := range w {
			dx, dy := float64(x)+0.5-toX, float64(y)+0.5-toY
			c := sample(src, cos*dx+sin*dy+fromX-0.5, cos*dy-sin*dx+fromY-0.5, background)
			out.SetRGBA(x, y, c)
		}
	}
	return out
}

// quarterTurn moves the pixels clockwise by turns·90 degrees.
func quarterTurn(src *image.RGBA, turns int) *image.RGBA {
	if turns == 0 {
		return src
	}
	w, h := src.Rect.Dx(), src.Rect.Dy()
	ow, oh := w, h
	if turns%2 == 1 {
		ow, oh = h, w
	}
	out := image.NewRGBA(image.Rect(0, 0, ow, oh))
	for y := range h {
		for x := range w {
			var tx, ty int
			switch turns {
			case 1:
				tx, ty = h-1-y, x
			case 2:
				tx, ty = w-1-x, h-1-y
			default:
				tx, ty = y, w-1-x
			}
			copy(out.Pix[ty*out.Stride+tx*4:][:4], src.Pix[y*src.Stride+x*4:][:4])
		}
	}
	return out
}

// sample is the colour of src at a place between its pixels.
func sample(src *image.RGBA, x, y float64, background color.RGBA) color.RGBA {
	w, h := src.Rect.Dx(), src.Rect.Dy()
	if x <= -1 || y <= -1 || x >= float64(w) || y >= float64(h) {
		return background
	}
	x0, y0 := int(math.Floor(x)), int(math.Floor(y))
	fx, fy := x-float64(x0), y-float64(y0)
	var r, g, b, a float64
	for _, corner := range [4]struct {
		x, y   int
		weight float64
	}{
		{x0, y0, (1 - fx) * (1 - fy)}, {x0 + 1, y0, fx * (1 - fy)},
		{x0, y0 + 1, (1 - fx) * fy}, {x0 + 1, y0 + 1, fx * fy},
	} {
		c := background
		if corner.x >= 0 && corner.y >= 0 && corner.x < w && corner.y < h {
			p := src.Pix[corner.y*src.Stride+corner.x*4:][:4]
			c = color.RGBA{R: p[0], G: p[1], B: p[2], A: p[3]}
		}
		r += corner.weight * float64(c.R)
		g += corner.weight * float64(c.G)
		b += corner.weight * float64(c.B)
		a += corner.weight * float64(c.A)
	}
	return color.RGBA{R: uint8(r + 0.5), G: uint8(g + 0.5), B: uint8(b + 0.5), A: uint8(a + 0.5)}
}
