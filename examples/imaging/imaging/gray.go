package main

import (
	"image"
	"image/color"
	"image/draw"
)

// gray takes the colour away and keeps the transparency. An opaque image becomes one with a single channel, a third of the size.
func gray(img image.Image) image.Image {
	b := img.Bounds()
	if o, ok := img.(interface{ Opaque() bool }); ok && o.Opaque() {
		out := image.NewGray(image.Rect(0, 0, b.Dx(), b.Dy()))
		draw.Draw(out, out.Rect, img, b.Min, draw.Src)
		return out
	}
	out := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	for y := range b.Dy() {
		for x := range b.Dx() {
			c := color.NRGBAModel.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
			tone := color.GrayModel.Convert(color.RGBA{R: c.R, G: c.G, B: c.B, A: 255}).(color.Gray)
			out.SetNRGBA(x, y, color.NRGBA{R: tone.Y, G: tone.Y, B: tone.Y, A: c.A})
		}
	}
	return out
}
