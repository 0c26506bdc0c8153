package picture_test

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"testing"

	"github.com/tintype/tintype/worker/picture"
)

// scene is a picture with even parts, gradients, noise and transparency.
func scene(w, h int, alpha bool) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	noise := rand.New(rand.NewPCG(1, 2))
	for y := range h {
		for x := range w {
			c := color.NRGBA{R: uint8(x * 255 / w), G: uint8(y * 255 / h), B: 80, A: 255}
			switch {
			case x > w/2 && y > h/2:
				c.R, c.G, c.B = uint8(noise.Uint32()), uint8(noise.Uint32()), uint8(noise.Uint32())
			case x > w/2:
				c = color.NRGBA{R: 200, G: 30, B: 30, A: 255}
			}
			if alpha {
				c.A = uint8(x)
			}
			m.SetNRGBA(x, y, c)
		}
	}
	return m
}

// feed writes m in bands of n rows.
func feed(t *testing.T, w picture.Writer, m *image.NRGBA, n int) []byte {
	t.Helper()
	for y := 0; y < m.Rect.Dy(); y += n {
		band := m.SubImage(image.Rect(0, y, m.Rect.Dx(), min(y+n, m.Rect.Dy()))).(*image.NRGBA)
		if err := w.Write(band); err != nil {
			t.Fatal(err)
		}
	}
	body, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestPNG(t *testing.T) {
	for _, alpha := range []bool{false, true} {
		m := scene(301, 157, alpha)
		sizes := map[bool]int{}
		for _, best := range []bool{false, true} {
			for _, n := range []int{1, 16, 50, 157} {
				body := feed(t, picture.NewPNG(301, 157, alpha, best, 1<<20), m, n)
				got, err := png.Decode(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(picture.Pixels(got).Pix, m.Pix) {
					t.Errorf("alpha %t, best %t, bands of %d: other pixels", alpha, best, n)
				}
				sizes[best] = len(body)
			}
		}
		if sizes[true] >= sizes[false] {
			t.Errorf("alpha %t: %d bytes at best, %d quickly", alpha, sizes[true], sizes[false])
		}
	}
}

func TestJPEG(t *testing.T) {
	m := scene(301, 157, false)
	for _, n := range []int{1, 7, 16, 157} {
		body := feed(t, picture.NewJPEG(301, 157, 95, 1<<20), m, n)
		got, err := jpeg.Decode(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var whole bytes.Buffer
		if err := jpeg.Encode(&whole, m, &jpeg.Options{Quality: 95}); err != nil {
			t.Fatal(err)
		}
		want, _ := jpeg.Decode(&whole)
		worst := 0
		for y := range 157 {
			for x := range 150 { // the noise is on the right
				a, b := color.NRGBAModel.Convert(got.At(x, y)).(color.NRGBA), color.NRGBAModel.Convert(want.At(x, y)).(color.NRGBA)
				worst = max(worst, int(a.R)-int(b.R), int(b.R)-int(a.R), int(a.B)-int(b.B), int(b.B)-int(a.B))
			}
		}
		if got.Bounds() != m.Rect || worst > 16 {
			t.Errorf("bands of %d: %v, off by up to %d", n, got.Bounds(), worst)
		}
	}
	clear := image.NewNRGBA(image.Rect(0, 0, 8, 8))
	got, err := jpeg.Decode(bytes.NewReader(feed(t, picture.NewJPEG(8, 8, 95, 1<<20), clear, 8)))
	if err != nil {
		t.Fatal(err)
	}
	if r, g, b, _ := got.At(3, 3).RGBA(); min(r, g, b)>>8 < 250 {
		t.Errorf("transparent became %v", got.At(3, 3))
	}
}

func TestWritersHoldTheirBounds(t *testing.T) {
	m := scene(300, 300, false)
	writers := func(limit int) []picture.Writer {
		return []picture.Writer{
			picture.NewPNG(300, 300, false, false, limit),
			picture.NewJPEG(300, 300, 90, limit),
		}
	}
	for _, w := range writers(10_000) {
		err := w.Write(m)
		if err == nil {
			_, err = w.Close()
		}
		if !errors.Is(err, picture.ErrTooLong) {
			t.Errorf("%T: %v", w, err)
		}
	}
	for _, w := range writers(1 << 20) {
		if err := w.Write(scene(299, 1, false)); err == nil {
			t.Errorf("%T took a band that is too narrow", w)
		}
		if _, err := w.Close(); err == nil {
			t.Errorf("%T ended without its rows", w)
		}
	}
}

func BenchmarkPNG(b *testing.B) {
	m := scene(1280, 1024, false)
	b.SetBytes(int64(len(m.Pix)))
	for b.Loop() {
		w := picture.NewPNG(1280, 1024, false, false, 1<<30)
		w.Write(m)
		w.Close()
	}
}
