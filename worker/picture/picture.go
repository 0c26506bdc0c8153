// Package picture makes picture files of pixels that come in bands: rows as
// wide as the picture, from the top. A page that is too long for one capture is
// captured in tiles, and a long one made small never stands in memory whole.
//
// It promises:
//
//  1. Memory is bounded by the band and by what was written: a PNG keeps its
//     compressed rows, a JPEG 1.5 bytes a pixel, a Small picture at most some
//     four times its own pixels each way.
//  2. Pixels come out as they went in: a PNG loses nothing, also of their
//     transparency; a JPEG stands on white.
//  3. A file that would be longer than its limit ends with ErrTooLong.
//
// It leaves to package capture where the pixels come from.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
)

// ErrTooLong is the end of a file that would be longer than its limit.
var ErrTooLong = errors.New("the picture's file is too long")

// A Writer makes one file.
type Writer interface {
	// Write adds the next rows. It does not keep the band.
	Write(band *image.NRGBA) error
	// Close ends the file and returns it. Rows that are missing are an error.
	Close() ([]byte, error)
}

// Pixels gives a decoded picture as 8 bits of red, green, blue and alpha, which
// is not multiplied in. It copies only what is not so already.
func Pixels(img image.Image) *image.NRGBA {
	switch m := img.(type) {
	case *image.NRGBA:
		return m
	case *image.RGBA: // what image/png makes of files without transparency
		if m.Opaque() {
			return &image.NRGBA{Pix: m.Pix, Stride: m.Stride, Rect: m.Rect}
		}
	}
	m := image.NewNRGBA(img.Bounds())
	draw.Draw(m, m.Rect, img, img.Bounds().Min, draw.Src)
	return m
}

// Paste copies tile into band with its left edge at x.
func Paste(band *image.NRGBA, x int, tile *image.NRGBA) {
	rows := min(band.Rect.Dy(), tile.Rect.Dy())
	width := 4 * min(tile.Rect.Dx(), band.Rect.Dx()-x)
	for y := range rows {
		copy(band.Pix[y*band.Stride+4*x:][:width], tile.Pix[y*tile.Stride:][:width])
	}
}

// rows checks what comes in and counts it.
type rows struct {
	width, height int
	done          int
}

func (r *rows) take(band *image.NRGBA) error {
	if band.Rect.Dx() != r.width || r.done+band.Rect.Dy() > r.height {
		return fmt.Errorf("a band of %d by %d for a picture of %d by %d that has %d rows", band.Rect.Dx(), band.Rect.Dy(), r.width, r.height, r.done)
	}
	r.done += band.Rect.Dy()
	return nil
}

func (r *rows) end() error {
	if r.done != r.height {
		return fmt.Errorf("%d of %d rows", r.done, r.height)
	}
	return nil
}

// A file is bytes with a limit.
type file struct {
	body  bytes.Buffer
	limit int
}

func (f *file) Write(p []byte) (int, error) {
	if f.body.Len()+len(p) > f.limit {
		return 0, ErrTooLong
	}
	return f.body.Write(p)
}
