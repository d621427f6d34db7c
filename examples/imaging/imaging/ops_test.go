package main

import (
	"bytes"
	"image"
	"image/color"
	"math"
	"testing"

	"fairway.dev/fairway/examples/imaging/photos"
)

func decode(t *testing.T, p photos.Photo) image.Image {
	t.Helper()
	img, _, err := image.Decode(bytes.NewReader(p.Bytes))
	if err != nil {
		t.Fatalf("decode %s: %v", p.Name, err)
	}
	return img
}

// mean is the mean of each premultiplied channel over a part of img.
func mean(img *image.RGBA, part image.Rectangle) (out [4]float64) {
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			c := img.RGBAAt(x, y)
			for i, v := range [4]uint8{c.R, c.G, c.B, c.A} {
				out[i] += float64(v)
			}
		}
	}
	for i := range out {
		out[i] /= float64(part.Dx() * part.Dy())
	}
	return out
}

// Each pixel of a photograph scaled down by a whole factor must be the mean of its block: compared with the plain definition.
func TestScaleDownIsTheMeanOfTheArea(t *testing.T) {
	t.Parallel()
	for _, p := range photos.All() {
		src := flat(decode(t, p))
		const factor = 4
		whole := src.SubImage(image.Rect(0, 0, p.Width/factor*factor, p.Height/factor*factor))
		small := scale(whole, p.Width/factor, p.Height/factor)
		for y := range small.Rect.Dy() {
			for x := range small.Rect.Dx() {
				want := mean(src, image.Rect(x*factor, y*factor, (x+1)*factor, (y+1)*factor))
				c := small.RGBAAt(x, y)
				for i, got := range [4]uint8{c.R, c.G, c.B, c.A} {
					if math.Abs(float64(got)-want[i]) > 1.01 { // each direction rounds once
						t.Fatalf("%s: pixel %d,%d channel %d = %d, the area's mean is %.2f", p.Name, x, y, i, got, want[i])
					}
				}
			}
		}
	}
}

// No part of the light may be lost or gained, whatever the factor.
func TestScaleKeepsTheMean(t *testing.T) {
	t.Parallel()
	for _, p := range photos.All() {
		src := flat(decode(t, p))
		want := mean(src, src.Rect)
		for _, size := range []image.Point{{160, 107}, {1, 1}, {33, 401}, {p.Width - 1, p.Height - 1}, {p.Width * 2, p.Height * 2}} {
			got := scale(src, size.X, size.Y)
			if got.Rect.Size() != size {
				t.Fatalf("%s: size %v, want %v", p.Name, got.Rect.Size(), size)
			}
			m := mean(got, got.Rect)
			for i := range m {
				if math.Abs(m[i]-want[i]) > 1.2 {
					t.Errorf("%s to %v: channel %d has mean %.2f, the photograph has %.2f", p.Name, size, i, m[i], want[i])
				}
			}
		}
	}
}

// A picture that is scaled down and up again still looks like itself: at least 22 dB, for the galaxies, which are all detail.
func TestScaleThereAndBack(t *testing.T) {
	t.Parallel()
	for _, p := range photos.All() {
		src := flat(decode(t, p))
		back := scale(scale(src, p.Width/2, p.Height/2), p.Width, p.Height)
		if db := psnr(src, back); db < 22 {
			t.Errorf("%s: %.1f dB after half and double", p.Name, db)
		}
	}
}

// psnr is the peak signal to noise ratio in decibels.
func psnr(a, b *image.RGBA) float64 {
	var sum float64
	for i := range a.Pix {
		d := float64(a.Pix[i]) - float64(b.Pix[i])
		sum += d * d
	}
	return 10 * math.Log10(255*255*float64(len(a.Pix))/sum)
}

// A checkerboard of single pixels has to become plain gray; picking pixels would make it black, white or moiré.
func TestScaleDownHasNoMoire(t *testing.T) {
	t.Parallel()
	board := image.NewRGBA(image.Rect(0, 0, 300, 300))
	for y := range 300 {
		for x := range 300 {
			v := uint8(255 * ((x + y) % 2))
			board.SetRGBA(x, y, color.RGBA{v, v, v, 255})
		}
	}
	small := scale(board, 70, 70)
	for i, v := range small.Pix {
		if i%4 < 3 && (v < 112 || v > 143) {
			t.Fatalf("sample %d = %d, want about 127", i, v)
		}
	}
}

// The colour of invisible pixels must not bleed into visible ones.
func TestScaleRespectsTransparency(t *testing.T) {
	t.Parallel()
	img := image.NewNRGBA(image.Rect(0, 0, 2, 1))
	img.SetNRGBA(0, 0, color.NRGBA{R: 200, A: 255})
	img.SetNRGBA(1, 0, color.NRGBA{G: 255, A: 0})
	got := color.NRGBAModel.Convert(scale(img, 1, 1).At(0, 0)).(color.NRGBA)
	if got.G != 0 || got.R < 198 || got.A < 127 || got.A > 128 {
		t.Errorf("got %v, want a half transparent red", got)
	}
}

func TestQuarterTurnsMovePixelsAndChangeNone(t *testing.T) {
	t.Parallel()
	for _, p := range photos.All() {
		src := flat(decode(t, p))
		right := rotate(src, 90, color.RGBA{})
		if right.Rect.Dx() != p.Height || right.Rect.Dy() != p.Width {
			t.Fatalf("%s: size %v after a quarter turn", p.Name, right.Rect.Size())
		}
		// Clockwise: what was at the top left is at the top right now.
		if got, want := right.RGBAAt(p.Height-1, 0), src.RGBAAt(0, 0); got != want {
			t.Errorf("%s: top right = %v, want %v", p.Name, got, want)
		}
		if got, want := right.RGBAAt(0, p.Width-1), src.RGBAAt(p.Width-1, p.Height-1); got != want {
			t.Errorf("%s: bottom left = %v, want %v", p.Name, got, want)
		}
		for angle, undo := range map[float64]float64{90: -90, 180: 540, 270: 90, -450: 450, 360: 0} {
			back := rotate(rotate(src, angle, color.RGBA{}), undo, color.RGBA{})
			if back.Rect != src.Rect || !bytes.Equal(back.Pix, src.Pix) {
				t.Errorf("%s: turned by %v and by %v it is not what it was", p.Name, angle, undo)
			}
		}
	}
}

// A turn by an odd angle and back keeps the middle of the picture, and fills the corners with the background.
func TestRotateByAnyAngle(t *testing.T) {
	t.Parallel()
	background := color.RGBA{R: 255, G: 255, B: 255, A: 255}
	for _, p := range photos.All() {
		src := flat(decode(t, p))
		turned := rotate(src, 30, background)
		if got := turned.RGBAAt(0, 0); got != background {
			t.Errorf("%s: corner = %v, want the background", p.Name, got)
		}
		back := rotate(turned, -30, background)
		mid := image.Pt(back.Rect.Dx()/2, back.Rect.Dy()/2)
		shift := mid.Sub(image.Pt(p.Width/2, p.Height/2))
		part := image.Rect(p.Width/4, p.Height/4, p.Width*3/4, p.Height*3/4)
		a := flat(src.SubImage(part))
		b := flat(back.SubImage(part.Add(shift)))
		if db := psnr(a, b); db < 20 {
			t.Errorf("%s: %.1f dB in the middle after 30 degrees and back", p.Name, db)
		}
	}
}

func TestGray(t *testing.T) {
	t.Parallel()
	for _, p := range photos.All() {
		src := decode(t, p)
		got, ok := gray(src).(*image.Gray)
		if !ok {
			t.Fatalf("%s: an opaque photograph became %T", p.Name, gray(src))
		}
		for y := 0; y < p.Height; y += 7 {
			for x := 0; x < p.Width; x += 7 {
				r, g, b, _ := src.At(x, y).RGBA()
				want := (0.299*float64(r) + 0.587*float64(g) + 0.114*float64(b)) / 257
				if math.Abs(float64(got.GrayAt(x, y).Y)-want) > 1 {
					t.Fatalf("%s: %d,%d = %d, its luma is %.1f", p.Name, x, y, got.GrayAt(x, y).Y, want)
				}
			}
		}
	}
	clear := image.NewNRGBA(image.Rect(0, 0, 1, 1))
	clear.SetNRGBA(0, 0, color.NRGBA{R: 255, A: 100})
	if c := gray(clear).At(0, 0).(color.NRGBA); c.A != 100 || c.R != 76 || c.G != 76 || c.B != 76 {
		t.Errorf("transparent red became %v", c)
	}
}

func BenchmarkThumbnail(b *testing.B) {
	p := photos.All()[1]
	img, _, err := image.Decode(bytes.NewReader(p.Bytes))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		scale(img, 160, 107)
	}
}
