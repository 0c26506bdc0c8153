package sheet

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/bits"
)

const (
	// thumbWidth and thumbHeight are those of a thumbnail, in pixels; of a page
	// that is longer it shows the top.
	thumbWidth, thumbHeight = 240, 180
	// maxPixels bounds the pictures that are decoded: 96 MB in memory.
	maxPixels = 24 << 20
	// maxThumb bounds a thumbnail in bytes: one that is too detailed for it is
	// coarser.
	maxThumb = 16 << 10
	// alikeBits is how many of the 64 bits may differ between pictures that look
	// alike, and alikeLight how much darker one may be, of 255.
	alikeBits, alikeLight = 6, 12
	// maxSamples is how many pixels in a row, evenly spread, stand for those that
	// become one.
	maxSamples = 8
)

// A Thumb is a small picture of a large one, and how that looks.
type Thumb struct {
	JPEG          []byte
	Width, Height int
	hash          uint64 // whether each of 8 × 8 places is darker than the one to its right (dHash)
	light         int    // on average, 0 to 255
}

// Thumbnail reads a PNG or JPEG. What is too large to be read, or is no
// picture, is an error in words.
func Thumbnail(data []byte) (*Thumb, error) {
	decode, config := png.Decode, png.DecodeConfig
	if bytes.HasPrefix(data, []byte{0xff, 0xd8}) {
		decode, config = jpeg.Decode, jpeg.DecodeConfig
	}
	about, err := config(bytes.NewReader(data))
	switch {
	case err != nil:
		return nil, fmt.Errorf("no picture that can be shown: %w", err)
	case about.Width <= 0 || about.Height <= 0 || about.Width > maxPixels/about.Height:
		return nil, fmt.Errorf("too large for a thumbnail: %d × %d", about.Width, about.Height)
	}
	img, err := decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("no picture that can be shown: %w", err)
	}
	in := img.Bounds()
	t := &Thumb{}
	t.look(img)
	top := in
	top.Max.Y = min(in.Max.Y, in.Min.Y+max(1, in.Dx()*thumbHeight/thumbWidth))
	t.Width = min(thumbWidth, in.Dx())
	t.Height = max(1, min(thumbHeight, top.Dy()*t.Width/in.Dx()))
	small := shrink(img, top, t.Width, t.Height)
	var b bytes.Buffer
	for _, quality := range []int{62, 40, 15} {
		b.Reset()
		if err := jpeg.Encode(&b, small, &jpeg.Options{Quality: quality}); err != nil {
			return nil, err
		}
		if b.Len() <= maxThumb {
			break
		}
	}
	t.JPEG = b.Bytes()
	return t, nil
}

// look fills in what pictures are compared by.
func (t *Thumb) look(img image.Image) {
	tiny := shrink(img, img.Bounds(), 9, 8)
	light := func(x, y int) int {
		c := tiny.RGBAAt(x, y)
		return (299*int(c.R) + 587*int(c.G) + 114*int(c.B)) / 1000
	}
	for y := range 8 {
		for x := range 8 {
			t.light += light(x, y)
			// A little apart, or what is plain would be a matter of noise.
			if light(x, y)+1 < light(x+1, y) {
				t.hash |= 1 << (8*y + x)
			}
		}
	}
	t.light /= 64
}

// alike reports pictures that look the same at a glance.
func (t *Thumb) alike(other *Thumb) bool {
	d := t.light - other.light
	return bits.OnesCount64(t.hash^other.hash) <= alikeBits && d <= alikeLight && d >= -alikeLight
}

// shrink averages the pixels of a part of a picture, on white, into a smaller
// one.
func shrink(img image.Image, part image.Rectangle, width, height int) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, width, height))
	at := pixels(img)
	for y := range height {
		y0 := part.Min.Y + y*part.Dy()/height
		y1 := max(y0+1, part.Min.Y+(y+1)*part.Dy()/height)
		for x := range width {
			x0 := part.Min.X + x*part.Dx()/width
			x1 := max(x0+1, part.Min.X+(x+1)*part.Dx()/width)
			var r, g, b, n uint64
			dy, dx := 1+(y1-y0-1)/maxSamples, 1+(x1-x0-1)/maxSamples
			for yy := y0; yy < y1; yy += dy {
				for xx := x0; xx < x1; xx += dx {
					pr, pg, pb := at(xx, yy)
					r, g, b, n = r+uint64(pr), g+uint64(pg), b+uint64(pb), n+1
				}
			}
			out.SetRGBA(x, y, color.RGBA{uint8(r / n), uint8(g / n), uint8(b / n), 255})
		}
	}
	return out
}

// pixels reads a picture on white. What browsers make is read without the
// detour over image.Color.
func pixels(img image.Image) func(x, y int) (r, g, b uint8) {
	switch img := img.(type) {
	case *image.NRGBA:
		return func(x, y int) (r, g, b uint8) {
			p := img.Pix[img.PixOffset(x, y):]
			if p[3] == 255 {
				return p[0], p[1], p[2]
			}
			a := uint32(p[3])
			on := func(c uint8) uint8 { return uint8((uint32(c)*a + 255*(255-a)) / 255) }
			return on(p[0]), on(p[1]), on(p[2])
		}
	case *image.RGBA:
		return func(x, y int) (r, g, b uint8) {
			p := img.Pix[img.PixOffset(x, y):]
			rest := 255 - p[3]
			return p[0] + rest, p[1] + rest, p[2] + rest
		}
	case *image.YCbCr:
		return func(x, y int) (r, g, b uint8) {
			c := img.COffset(x, y)
			return color.YCbCrToRGB(img.Y[img.YOffset(x, y)], img.Cb[c], img.Cr[c])
		}
	}
	return func(x, y int) (r, g, b uint8) {
		pr, pg, pb, pa := img.At(x, y).RGBA()
		rest := 0xffff - pa
		return uint8((pr + rest) >> 8), uint8((pg + rest) >> 8), uint8((pb + rest) >> 8)
	}
}
