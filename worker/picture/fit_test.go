package picture_test

import (
	"bytes"
	"image"
	"image/color"
	stddraw "image/draw"
	"image/png"
	"testing"

	"golang.org/x/image/draw"

	"github.com/tintype/tintype/worker/picture"
)

func small(t *testing.T, m *image.NRGBA, fit picture.Fit, rows int) *image.NRGBA {
	t.Helper()
	body := feed(t, picture.NewSmall(m.Rect.Dx(), m.Rect.Dy(), fit, func(w, h int) picture.Writer {
		return picture.NewPNG(w, h, true, false, 1<<24)
	}), m, rows)
	got, err := png.Decode(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return picture.Pixels(got)
}

// TestScaling holds the pixels, which come in bands here, against what
// x/image/draw makes of the whole.
func TestScaling(t *testing.T) {
	for _, alpha := range []bool{false, true} {
		m := scene(301, 157, alpha)
		for _, size := range []image.Point{{100, 50}, {37, 19}, {1, 1}, {600, 400}, {301, 157}, {301, 20}, {3, 157}} {
			want := image.NewNRGBA(image.Rectangle{Max: size})
			draw.CatmullRom.Scale(want, want.Rect, m, m.Rect, stddraw.Src, nil)
			for _, n := range []int{1, 10, 157} {
				got := small(t, m, picture.Fit{Width: size.X, Height: size.Y, Mode: "fill"}, n)
				if d := furthest(got, want); d > 3 {
					t.Errorf("alpha %t to %v in bands of %d: off by up to %d", alpha, size, n, d)
				}
			}
		}
	}
}

// furthest is the largest difference of a channel, with alpha multiplied in.
func furthest(a, b *image.NRGBA) (most int) {
	if a.Rect != b.Rect {
		return 255
	}
	for y := range a.Rect.Dy() {
		for x := range a.Rect.Dx() {
			r, g, bl, al := a.At(x, y).RGBA()
			r2, g2, b2, a2 := b.At(x, y).RGBA()
			for _, p := range [][2]uint32{{r, r2}, {g, g2}, {bl, b2}, {al, a2}} {
				d := int(p[0]>>8) - int(p[1]>>8)
				most = max(most, d, -d)
			}
		}
	}
	return most
}

func TestFits(t *testing.T) {
	// Left half blue, right half red, 200 by 100.
	m := image.NewNRGBA(image.Rect(0, 0, 200, 100))
	blue, red, grey := color.NRGBA{B: 255, A: 255}, color.NRGBA{R: 255, A: 255}, color.NRGBA{R: 128, G: 128, B: 128, A: 128}
	for y := range 100 {
		for x := range 200 {
			m.SetNRGBA(x, y, blue)
			if x >= 100 {
				m.SetNRGBA(x, y, red)
			}
		}
	}
	type at struct {
		x, y int
		want color.NRGBA
	}
	for _, test := range []struct {
		name string
		fit  picture.Fit
		w, h int
		at   []at
	}{
		{"width alone", picture.Fit{Width: 50}, 50, 25, []at{{5, 12, blue}, {45, 12, red}}},
		{"height alone", picture.Fit{Height: 50}, 100, 50, []at{{5, 12, blue}, {95, 12, red}}},
		{"cover", picture.Fit{Width: 50, Height: 50}, 50, 50, []at{{5, 25, blue}, {45, 25, red}}},
		{"cover left", picture.Fit{Width: 50, Height: 50, Position: "left top"}, 50, 50, []at{{5, 25, blue}, {45, 25, blue}}},
		{"cover east", picture.Fit{Width: 50, Height: 50, Mode: "cover", Position: "southeast"}, 50, 50, []at{{5, 25, red}, {45, 25, red}}},
		{"contain", picture.Fit{Width: 50, Height: 50, Mode: "contain", Background: grey}, 50, 50, []at{{5, 5, grey}, {5, 25, blue}, {45, 25, red}, {45, 45, grey}}},
		{"contain top", picture.Fit{Width: 50, Height: 50, Mode: "contain", Position: "top", Background: grey}, 50, 50, []at{{5, 5, blue}, {45, 20, red}, {5, 30, grey}}},
		{"fill", picture.Fit{Width: 50, Height: 50, Mode: "fill"}, 50, 50, []at{{5, 2, blue}, {5, 48, blue}, {45, 2, red}}},
		{"inside", picture.Fit{Width: 50, Height: 50, Mode: "inside"}, 50, 25, nil},
		{"outside", picture.Fit{Width: 50, Height: 50, Mode: "outside"}, 100, 50, nil},
		{"larger", picture.Fit{Width: 400}, 400, 200, []at{{10, 100, blue}, {390, 100, red}}},
		{"a line", picture.Fit{Width: 1, Height: 1000, Mode: "inside"}, 1, 1, nil},
	} {
		got := small(t, m, test.fit, 16)
		if size, _ := test.fit.Result(200, 100); got.Rect != image.Rect(0, 0, test.w, test.h) || size != got.Rect.Max {
			t.Errorf("%s: %v, announced as %v", test.name, got.Rect.Max, size)
			continue
		}
		for _, p := range test.at {
			if c := got.NRGBAAt(p.x, p.y); c != p.want {
				t.Errorf("%s: pixel %d,%d is %v, want %v", test.name, p.x, p.y, c, p.want)
			}
		}
	}
}

// TestBusiest has one place of detail on an even ground.
func TestBusiest(t *testing.T) {
	for _, upright := range []bool{false, true} {
		for _, place := range []int{0, 130, 240} {
			m := image.NewNRGBA(image.Rect(0, 0, 300, 60))
			if upright {
				m = image.NewNRGBA(image.Rect(0, 0, 60, 300))
			}
			for y := range m.Rect.Dy() {
				for x := range m.Rect.Dx() {
					c, along := color.NRGBA{R: 40, G: 40, B: 40, A: 255}, x
					if upright {
						along = y
					}
					if along >= place && along < place+60 {
						c = color.NRGBA{R: uint8(x * 37), G: uint8(y * 53), B: uint8(x * y), A: 255}
					}
					m.SetNRGBA(x, y, c)
				}
			}
			for _, position := range []string{"entropy", "attention"} {
				got := small(t, m, picture.Fit{Width: 60, Height: 60, Position: position}, 60)
				even := 0
				for y := range 60 {
					for x := range 60 {
						if got.NRGBAAt(x, y) == (color.NRGBA{R: 40, G: 40, B: 40, A: 255}) {
							even++
						}
					}
				}
				if even > 360 { // a tenth
					t.Errorf("%s, upright %t, at %d: %d even pixels were kept", position, upright, place, even)
				}
			}
		}
	}
}

func BenchmarkSmall(b *testing.B) {
	m := scene(1280, 1024, false)
	b.SetBytes(int64(len(m.Pix)))
	for b.Loop() {
		w := picture.NewSmall(1280, 1024, picture.Fit{Width: 400}, func(w, h int) picture.Writer { return picture.NewPNG(w, h, false, false, 1<<24) })
		w.Write(m)
		w.Close()
	}
}
