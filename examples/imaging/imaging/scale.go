package main

import (
	"image"
	"image/draw"
	"math"
)

// scale gives img the size w×h. Going down, each pixel of the result is the mean of the area of img that it covers, with
// the pixels on the rim weighted by the part that is covered: nothing of the image is skipped, so fine texture turns into its mean
// tone rather than into moiré. Going up, it is linear between the two nearest pixels. The two directions are done one after the
// other, each with its own table of weights, so that the work is w+h weights per pixel instead of w×h.
func scale(img image.Image, w, h int) *image.RGBA {
	src := flat(img)
	if w == src.Rect.Dx() && h == src.Rect.Dy() {
		return src
	}
	return columns(rows(src, w), h)
}

// flat is img as premultiplied RGBA with its corner at 0,0, a copy unless img is that already. Means must be taken of premultiplied
// samples, or the colour of invisible pixels would bleed into visible ones.
func flat(img image.Image) *image.RGBA {
	if rgba, ok := img.(*image.RGBA); ok && rgba.Rect.Min == (image.Point{}) {
		return rgba
	}
	b := img.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(out, out.Rect, img, b.Min, draw.Src)
	return out
}

// weightBits is the precision of a weight. 8 bits of sample and 16 of weight leave room in 32 bits, as the weights of a pixel
// add up to exactly 1<<weightBits.
const weightBits = 16

// share says how much each of the source pixels from first on gives to one pixel of the result.
type share struct {
	first   int
	weights []uint32
}

// shares is the table for one direction: from source pixels to target pixels.
func shares(source, target int) []share {
	table := make([]share, target)
	step := float64(source) / float64(target)
	for i := range table {
		if step >= 1 {
			table[i] = covered(float64(i)*step, float64(i+1)*step, source)
		} else {
			table[i] = between((float64(i)+0.5)*step-0.5, source)
		}
	}
	return table
}

// covered weights the source pixels by their part in the interval from..to.
func covered(from, to float64, source int) share {
	first := int(from)
	last := min(int(math.Ceil(to)), source)
	parts := make([]float64, max(1, last-first))
	for k := range parts {
		pixel := float64(first + k)
		parts[k] = max(0, min(to, pixel+1)-max(from, pixel))
	}
	return share{first: first, weights: whole1(parts)}
}

// between weights the two source pixels beside the position at.
func between(at float64, source int) share {
	at = min(max(at, 0), float64(source-1))
	first := min(int(at), max(0, source-2))
	if source == 1 {
		return share{first: 0, weights: []uint32{1 << weightBits}}
	}
	right := at - float64(first)
	return share{first: first, weights: whole1([]float64{1 - right, right})}
}

// whole1 turns parts into weights that add up to one exactly, so that a plain area keeps its tone to the last bit.
func whole1(parts []float64) []uint32 {
	var sum, before float64
	for _, p := range parts {
		sum += p
	}
	out := make([]uint32, len(parts))
	var given uint32
	for i, p := range parts {
		before += p
		upTo := uint32(math.Round(before / sum * (1 << weightBits)))
		out[i] = upTo - given
		given = upTo
	}
	return out
}

const half = 1 << (weightBits - 1)

// rows scales every row to w pixels.
func rows(src *image.RGBA, w int) *image.RGBA {
	if w == src.Rect.Dx() {
		return src
	}
	table := shares(src.Rect.Dx(), w)
	out := image.NewRGBA(image.Rect(0, 0, w, src.Rect.Dy()))
	for y := range src.Rect.Dy() {
		in, to := src.Pix[y*src.Stride:], out.Pix[y*out.Stride:]
		for x := range table {
			var r, g, b, a uint32 = half, half, half, half
			at := table[x].first * 4
			for _, weight := range table[x].weights {
				p := in[at : at+4 : at+4]
				r += uint32(p[0]) * weight
				g += uint32(p[1]) * weight
				b += uint32(p[2]) * weight
				a += uint32(p[3]) * weight
				at += 4
			}
			p := to[x*4 : x*4+4 : x*4+4]
			p[0], p[1], p[2], p[3] = uint8(r>>weightBits), uint8(g>>weightBits), uint8(b>>weightBits), uint8(a>>weightBits)
		}
	}
	return out
}

// columns scales every column to h pixels, a whole row at a time: memory is read in the order in which it lies.
func columns(src *image.RGBA, h int) *image.RGBA {
	if h == src.Rect.Dy() {
		return src
	}
	out := image.NewRGBA(image.Rect(0, 0, src.Rect.Dx(), h))
	sums := make([]uint32, 4*src.Rect.Dx())
	for y, share := range shares(src.Rect.Dy(), h) {
		for i := range sums {
			sums[i] = half
		}
		for k, weight := range share.weights {
			row := src.Pix[(share.first+k)*src.Stride:][:len(sums)]
			for i, sample := range row {
				sums[i] += uint32(sample) * weight
			}
		}
		to := out.Pix[y*out.Stride:][:len(sums)]
		for i, sum := range sums {
			to[i] = uint8(sum >> weightBits)
		}
	}
	return out
}
