package worker_test

import (
	"bytes"
	"image"
	"image/color"
	"os"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
)

// TestDemoPicture reads known pixels of the bundled page and proves that its
// cells show glyphs: with code points that no font has in their place, the
// cells look different.
func TestDemoPicture(t *testing.T) {
	b := newBench(t, nil)
	asShipped := func(s *job.Spec) { s.URL, s.Width, s.Height = egress.DemoURL, 1280, 1024 }
	img, evidence := b.picture(asShipped)
	if img.Bounds() != image.Rect(0, 0, 1280, 1024) {
		t.Errorf("the picture is %v", img.Bounds())
	}
	for i, want := range []color.RGBA{red, green, blue, {R: 255, G: 255, A: 255}, {G: 255, B: 255, A: 255}, {R: 255, B: 255, A: 255}, {A: 255}, white} {
		b.wantColor(img, 80+140*i+70, 7, want)
	}
	b.wantColor(img, 5, 5, color.RGBA{R: 0xf6, G: 0xf1, B: 0xe7, A: 255})
	if evidence.Title != "Tintype: it works" || evidence.StatusCode != 200 || len(evidence.FailedResources)+len(evidence.BlockedRequests)+evidence.UnloadedImages > 0 {
		t.Errorf("evidence %+v", evidence)
	}

	source, err := os.ReadFile("../pkg/egress/demo/index.html")
	if err != nil {
		t.Fatal(err)
	}
	const unassigned = "\u0378"
	page := string(source)
	cells := []string{"永遠の書", "📷🖼️🌍🚀", "صورة قديمة", "छायाचित्र"}
	for _, text := range cells {
		if strings.Count(page, text) != 1 {
			t.Fatalf("the page has %q %d times", text, strings.Count(page, text))
		}
		page = strings.Replace(page, text, strings.Repeat(unassigned, 4), 1)
	}
	boxes, _ := b.picture(func(s *job.Spec) { s.HTML, s.Width, s.Height = page, 1280, 1024 })
	for i, text := range cells {
		cell := image.Rect(100+285*i, 495, 100+285*i+225, 560)
		if n := differing(img, boxes, cell); n < 400 {
			t.Errorf("%s differs from missing glyphs in %d pixels only", text, n)
		}
	}
	if n := colourful(img, image.Rect(385, 495, 610, 560)); n < 1000 {
		t.Errorf("the emoji have %d coloured pixels", n)
	}
}

func differing(a, b image.Image, r image.Rectangle) (n int) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if a.At(x, y) != b.At(x, y) {
				n++
			}
		}
	}
	return n
}

// colourful counts the pixels that are far from grey.
func colourful(img image.Image, r image.Rectangle) (n int) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			cr, cg, cb, _ := img.At(x, y).RGBA()
			if max(cr, cg, cb)-min(cr, cg, cb) > 60<<8 {
				n++
			}
		}
	}
	return n
}

func TestDemoDocument(t *testing.T) {
	b := newBench(t, nil)
	out := b.render(func(s *job.Spec) { s.URL, s.Format = egress.DemoURL, job.PDF })
	if out.Failure != nil {
		t.Fatal(out.Failure)
	}
	if a := out.Artifact; a.Pages != 2 || a.Width != 0 || !bytes.HasPrefix(a.Body, []byte("%PDF-")) {
		t.Errorf("%d pages, width %d", a.Pages, a.Width)
	}
	text := poppler(t, out.Artifact.Body, "pdftotext", "-", "-")
	sheets := strings.Split(strings.TrimRight(string(text), "\f\n"), "\f")
	if len(sheets) != 2 {
		t.Fatalf("pdftotext sees %d pages", len(sheets))
	}
	for i, words := range [][]string{{"Tintype", "made on your own", "永遠の書"}, {"The second sheet", "Colophon", "thin plate of iron"}} {
		for _, w := range words {
			if !strings.Contains(strings.Join(strings.Fields(sheets[i]), " "), w) {
				t.Errorf("page %d lacks %q", i+1, w)
			}
		}
	}
}
