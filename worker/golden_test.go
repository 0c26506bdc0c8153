package worker_test

import (
	"flag"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden pictures anew")

// wantPicture compares a picture with the golden one of that name, which shows
// shapes alone: text is drawn otherwise where the fonts are others. Up to one
// pixel in two hundred may be off by more than a codec or an edge is.
func wantPicture(t *testing.T, img image.Image, name string) {
	t.Helper()
	path := filepath.Join("testdata", "pictures", strings.ReplaceAll(name, " ", "-")+".png")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(f, img); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatalf("%v (run with -update to write it)", err)
	}
	defer f.Close()
	want, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	off, worst := difference(img, want)
	if pixels := want.Bounds().Dx() * want.Bounds().Dy(); img.Bounds().Size() != want.Bounds().Size() || off*200 > pixels {
		t.Errorf("%s: %v, want %v; %d pixels are other ones, by up to %d", name, img.Bounds().Size(), want.Bounds().Size(), off, worst)
	}
}

// difference counts the pixels that differ by more than 24 in a channel, and
// says by how much the worst of all differs.
func difference(a, b image.Image) (off, worst int) {
	for y := range min(a.Bounds().Dy(), b.Bounds().Dy()) {
		for x := range min(a.Bounds().Dx(), b.Bounds().Dx()) {
			p, q := color.NRGBAModel.Convert(a.At(x, y)).(color.NRGBA), color.NRGBAModel.Convert(b.At(x, y)).(color.NRGBA)
			d := max(differ(p.R, q.R), differ(p.G, q.G), differ(p.B, q.B), differ(p.A, q.A))
			worst = max(worst, d)
			if d > 24 {
				off++
			}
		}
	}
	return off, worst
}
