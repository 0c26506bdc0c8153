package worker_test

import (
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/option"
)

var update = flag.Bool("update", false, "write the golden pictures anew that the tests do not make any more")

// wantPicture compares a picture with the golden one of that name, whose first
// word is the option that it shows. More options that it shows are given also:
// TestEveryOptionHasAPicture reads both where they are written.
//
// Golden pictures show shapes: text is drawn otherwise where the fonts are
// others. Up to one pixel in two hundred may be off by more than a codec or an
// edge is. A picture that is another one is left in .tmp/pictures, beside one
// that shows where it is.
func wantPicture(t testing.TB, img image.Image, name string, also ...string) {
	t.Helper()
	first, _, _ := strings.Cut(name, " ")
	for _, o := range append([]string{first}, also...) {
		if !slices.ContainsFunc(option.Table, func(known option.Option) bool { return known.Name == o }) {
			t.Fatalf("picture %q shows %q, which is no option", name, o)
		}
	}
	file := strings.NewReplacer(" ", "-", ",", "-").Replace(name)
	path := filepath.Join("testdata", "pictures", file+".png")
	want, err := readPicture(path)
	if err != nil && !*update {
		t.Errorf("%v: `make golden` writes it", err)
		return
	}
	var off, worst int
	if err == nil {
		off, worst = difference(img, want)
		if pixels := want.Bounds().Dx() * want.Bounds().Dy(); img.Bounds().Size() == want.Bounds().Size() && off*200 <= pixels {
			return
		}
	}
	if *update {
		writePicture(t, path, img)
		return
	}
	dir, err := filepath.Abs(filepath.Join("..", ".tmp", "pictures"))
	if err != nil {
		t.Fatal(err)
	}
	got, diff := filepath.Join(dir, file+".png"), filepath.Join(dir, file+"-diff.png")
	writePicture(t, got, img)
	writePicture(t, diff, marked(img, want))
	t.Errorf("%s: %v, want %v; %d pixels are other ones, by up to %d: see %s and %s; if it is right so, `make golden`",
		name, img.Bounds().Size(), want.Bounds().Size(), off, worst, got, diff)
}

func readPicture(path string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return png.Decode(f)
}

// writePicture writes a picture, with a palette where it has few colours.
func writePicture(t testing.TB, path string, img image.Image) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(f, paletted(img)); err != nil {
		t.Fatal(err)
	}
}

// paletted is the same picture with a palette, or the picture itself where it
// has more colours than fit in one.
func paletted(img image.Image) image.Image {
	b := img.Bounds()
	out := image.NewPaletted(b, nil)
	index := make(map[color.NRGBA]uint8)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			i, ok := index[c]
			if !ok {
				if len(out.Palette) == 256 {
					return img
				}
				i = uint8(len(out.Palette))
				index[c], out.Palette = i, append(out.Palette, c)
			}
			out.SetColorIndex(x, y, i)
		}
	}
	return out
}

// bytesOf is a picture as bytes: comparing colours one call a pixel takes as long
// as a render.
func bytesOf(img image.Image) *image.RGBA {
	out := image.NewRGBA(image.Rectangle{Max: img.Bounds().Size()})
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	return out
}

// offAt is by how much a pixel differs, at most, in one of its channels.
func offAt(a, b *image.RGBA, x, y int) (worst int) {
	p, q := a.Pix[a.PixOffset(x, y):][:4], b.Pix[b.PixOffset(x, y):][:4]
	for i := range p {
		worst = max(worst, differ(p[i], q[i]))
	}
	return worst
}

// shade is how far a channel may be off that is taken for equal.
const shade = 24

// difference counts the pixels that differ by more than shade in a channel, and
// says by how much the worst of all differs.
func difference(a, b image.Image) (off, worst int) {
	p, q := bytesOf(a), bytesOf(b)
	for y := range min(p.Rect.Max.Y, q.Rect.Max.Y) {
		for x := range min(p.Rect.Max.X, q.Rect.Max.X) {
			d := offAt(p, q, x, y)
			if worst = max(worst, d); d > shade {
				off++
			}
		}
	}
	return off, worst
}

// marked is the picture in pale grey, and red where it differs from the one
// that is wanted, or where only one of them is.
func marked(img, want image.Image) image.Image {
	p, q := bytesOf(img), bytesOf(want)
	out := image.NewRGBA(p.Rect.Union(q.Rect))
	for y := range out.Rect.Max.Y {
		for x := range out.Rect.Max.X {
			at := image.Pt(x, y)
			if !at.In(p.Rect) || !at.In(q.Rect) || offAt(p, q, x, y) > shade {
				out.SetRGBA(x, y, red)
				continue
			}
			grey := color.GrayModel.Convert(p.RGBAAt(x, y)).(color.Gray).Y
			pale := 192 + grey/4
			out.SetRGBA(x, y, color.RGBA{R: pale, G: pale, B: pale, A: 255})
		}
	}
	return out
}

// A comparison that nothing fails proves nothing.
func TestDifference(t *testing.T) {
	flat := func(w, h int, c color.Color) *image.RGBA {
		img := image.NewRGBA(image.Rect(0, 0, w, h))
		draw.Draw(img, img.Rect, image.NewUniform(c), image.Point{}, draw.Src)
		return img
	}
	other := flat(20, 10, blue)
	draw.Draw(other, image.Rect(3, 3, 5, 5), image.NewUniform(color.RGBA{B: 200, A: 255}), image.Point{}, draw.Src)
	for what, c := range map[string]struct {
		a, b       image.Image
		off, worst int
	}{
		"equal":             {flat(20, 10, blue), flat(20, 10, blue), 0, 0},
		"a shade":           {flat(20, 10, blue), flat(20, 10, color.RGBA{B: 231, A: 255}), 0, 24},
		"four pixels":       {flat(20, 10, blue), other, 4, 55},
		"another one":       {flat(20, 10, blue), flat(20, 10, red), 200, 255},
		"seen through":      {flat(20, 10, color.NRGBA{}), flat(20, 10, color.NRGBA{R: 255}), 0, 0},
		"through or not":    {flat(20, 10, color.NRGBA{}), flat(20, 10, color.Black), 200, 255},
		"with a palette":    {paletted(other), flat(20, 10, blue), 4, 55},
		"of another corner": {flat(40, 40, red).SubImage(image.Rect(10, 10, 30, 20)), flat(20, 10, red), 0, 0},
	} {
		if off, worst := difference(c.a, c.b); off != c.off || worst != c.worst {
			t.Errorf("%s: %d pixels by up to %d, want %d and %d", what, off, worst, c.off, c.worst)
		}
	}
	if got := marked(flat(20, 10, blue), flat(20, 12, blue)); got.Bounds().Dy() != 12 || got.At(5, 11) != red || got.At(5, 5) == red {
		t.Errorf("where they differ: %v, %v", got.At(5, 11), got.At(5, 5))
	}
	if got := marked(flat(20, 10, blue), other); got.At(4, 4) != red || got.At(6, 6) == red {
		t.Errorf("where they differ: %v, %v", got.At(4, 4), got.At(6, 6))
	}
}
