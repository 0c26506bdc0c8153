package worker_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"io"
	"net/http"
	"testing"

	_ "golang.org/x/image/webp"

	"github.com/tintype/tintype/pkg/job"
)

// A studio is a running seat that the tests of one file share, and the site
// that its pages come from.
type studio struct {
	*bench
	site string
}

// page serves body, in a document without margins, from its own path.
func (s *studio) page(m *http.ServeMux, path, body string) {
	m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, `<!doctype html><meta charset=utf-8><style>body{margin:0}</style>`+body)
	})
}

// with is the studio with t to report to.
func (s *studio) with(t *testing.T) *studio {
	return &studio{bench: &bench{TB: t, seat: s.seat, dir: s.dir}, site: s.site}
}

// show renders markup of the test's own.
func (s *studio) show(html string, change func(*job.Spec)) image.Image {
	s.Helper()
	img, _ := s.picture(func(spec *job.Spec) {
		spec.HTML = `<!doctype html><meta charset=utf-8><style>body{margin:0}</style>` + html
		if change != nil {
			change(spec)
		}
	})
	return img
}

// wantSize compares the size of a picture.
func (s *studio) wantSize(img image.Image, w, h int) {
	s.Helper()
	if img.Bounds() != image.Rect(0, 0, w, h) {
		s.Fatalf("the picture is %v, want %d by %d", img.Bounds().Size(), w, h)
	}
}

func TestPictureFormats(t *testing.T) {
	all := &studio{bench: newBench(t, nil)}
	const quarters = `<div style="width:160px;height:100px;background:#ff0000"></div><div style="width:160px;height:100px;background:#0000ff"></div>`

	t.Run("webp", func(t *testing.T) {
		s := all.with(t)
		sizes := map[int]int{}
		for _, quality := range []int{10, 95} {
			out := s.render(func(spec *job.Spec) {
				spec.HTML, spec.Format, spec.Quality = quarters+`<p style="position:absolute;top:0">`+text(40), job.WebP, quality
			})
			if out.Failure != nil {
				t.Fatal(out.Failure)
			}
			if conf, kind, err := image.DecodeConfig(bytes.NewReader(out.Artifact.Body)); err != nil || kind != "webp" || conf.Width != 320 || conf.Height != 200 {
				t.Fatalf("%s, %+v, %v", kind, conf, err)
			}
			sizes[quality] = len(out.Artifact.Body)
		}
		if sizes[10] >= sizes[95] {
			t.Errorf("bytes by quality: %v", sizes)
		}
		img := s.show(quarters, func(spec *job.Spec) { spec.Format = job.WebP })
		wantPicture(t, img, "format webp")
		near(t, img, 80, 50, red, webpRoom)
		near(t, img, 80, 150, blue, webpRoom)
		near(t, img, 240, 50, white, webpRoom)
	})
	t.Run("optimize for speed", func(t *testing.T) {
		s := all.with(t)
		render := func(quick bool) (image.Image, int) {
			out := s.render(func(spec *job.Spec) {
				spec.HTML, spec.OptimizeForSpeed = `<p>`+text(200), &quick
			})
			if out.Failure != nil {
				t.Fatal(out.Failure)
			}
			return decode(s.bench, out), len(out.Artifact.Body)
		}
		quick, large := render(true)
		slow, small := render(false)
		if small >= large {
			t.Errorf("%d bytes compressed slowly, %d quickly", small, large)
		}
		same(t, quick, slow)
	})
	t.Run("transparent", func(t *testing.T) {
		s := all.with(t)
		for _, format := range []job.Format{job.PNG, job.WebP} {
			opaque := s.show(quarters, func(spec *job.Spec) { spec.Format = format })
			clear := s.show(quarters, func(spec *job.Spec) { spec.Format, spec.Transparent = format, true })
			if _, _, _, a := clear.At(240, 50).RGBA(); a != 0 {
				t.Errorf("%s: alpha %d where the page has no background", format, a>>8)
			}
			if _, _, _, a := opaque.At(240, 50).RGBA(); a>>8 != 255 {
				t.Errorf("%s: alpha %d without the option", format, a>>8)
			}
			near(t, clear, 80, 50, red, webpRoom)
			if format == job.PNG {
				wantPicture(t, opaque, "html")
				wantPicture(t, clear, "transparent")
			}
			own := s.show(`<body style="background:#0000ff">`, func(spec *job.Spec) { spec.Format, spec.Transparent = format, true })
			near(t, own, 240, 50, blue, webpRoom)
		}
	})
	t.Run("clip", func(t *testing.T) {
		s := all.with(t)
		const tall = `<div style="height:1000px;background:#0000ff"></div><div style="margin-left:50px;height:100px;background:#ff0000"></div>`
		for _, scale := range []float64{1, 2, 1.5} {
			img := s.show(tall, func(spec *job.Spec) { spec.Clip, spec.DeviceScaleFactor = "40,990,100,40", scale })
			s.wantSize(img, int(100*scale), int(40*scale))
			if scale == 2 {
				wantPicture(t, img, "clip")
			}
			at := func(x, y float64) (int, int) { return int(x * scale), int(y * scale) }
			for _, p := range []struct {
				x, y float64
				want color.RGBA
			}{{0, 0, blue}, {99, 9, blue}, {12, 12, red}, {99, 39, red}, {8, 30, white}} {
				x, y := at(p.x, p.y)
				s.wantColor(img, x, y, p.want)
			}
		}
		beyond := s.show(tall, func(spec *job.Spec) { spec.Clip = "300,1050,100.4,99.6" })
		s.wantSize(beyond, 100, 100)
		s.wantColor(beyond, 10, 20, red)
		s.wantColor(beyond, 10, 90, white)
	})
}

// webpRoom is how far Go's reader of WebP is off: it takes 16 to 235, in which
// they are written, for 0 to 255.
const webpRoom = 24

// text is n words that differ.
func text(n int) string {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "word%d ", i*7919%1000)
	}
	return b.String()
}

// near compares one pixel with room for a lossy codec.
func near(t *testing.T, img image.Image, x, y int, want color.RGBA, room int) {
	t.Helper()
	got := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
	if max(differ(got.R, want.R), differ(got.G, want.G), differ(got.B, want.B)) > room {
		t.Errorf("pixel %d,%d is %v, want %v", x, y, got, want)
	}
}

func differ(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }

// same wants two pictures to be equal, pixel by pixel.
func same(t *testing.T, a, b image.Image) {
	t.Helper()
	if a.Bounds() != b.Bounds() {
		t.Fatalf("%v and %v", a.Bounds(), b.Bounds())
	}
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if color.NRGBAModel.Convert(a.At(x, y)) != color.NRGBAModel.Convert(b.At(x, y)) {
				t.Fatalf("pixel %d,%d: %v and %v", x, y, a.At(x, y), b.At(x, y))
			}
		}
	}
}
