package worker_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker/capture"
)

// poppler runs one of poppler's tools, which know nothing of how Chromium
// writes documents, on a PDF.
func poppler(t testing.TB, pdf []byte, tool string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(needtest.Program(t, tool, "poppler-utils"), args...)
	cmd.Stdin = bytes.NewReader(pdf)
	out, err := cmd.Output()
	if err != nil {
		var ee *exec.ExitError
		errors.As(err, &ee)
		t.Fatalf("%s: %v %s", tool, err, ee.Stderr)
	}
	return out
}

// A sheet is what a foreign reader sees of a PDF.
type sheet struct {
	t             testing.TB
	body          []byte
	pages         int
	width, height float64 // of the first page, in inches
	tagged        bool
}

func readSheet(t testing.TB, out capture.Outcome) sheet {
	t.Helper()
	if out.Failure != nil {
		t.Fatalf("render: %v (evidence %+v)", out.Failure, out.Evidence)
	}
	s := sheet{t: t, body: out.Artifact.Body}
	info := string(poppler(t, s.body, "pdfinfo", "-"))
	size := regexp.MustCompile(`(?m)^Page size:\s+([\d.]+) x ([\d.]+) pts`).FindStringSubmatch(info)
	count := regexp.MustCompile(`(?m)^Pages:\s+(\d+)`).FindStringSubmatch(info)
	if size == nil || count == nil {
		t.Fatalf("pdfinfo says %s", info)
	}
	s.pages, _ = strconv.Atoi(count[1])
	s.width, _ = strconv.ParseFloat(size[1], 64)
	s.height, _ = strconv.ParseFloat(size[2], 64)
	s.width, s.height = s.width/72, s.height/72
	s.tagged = regexp.MustCompile(`(?m)^Tagged:\s+yes`).MatchString(info)
	if s.pages != out.Artifact.Pages {
		t.Errorf("pdfinfo counts %d pages, the artifact says %d", s.pages, out.Artifact.Pages)
	}
	return s
}

// text is that of each page, its blanks made one.
func (s sheet) text() (pages []string) {
	all := string(poppler(s.t, s.body, "pdftotext", "-", "-"))
	for page := range strings.SplitSeq(strings.TrimSuffix(all, "\f"), "\f") {
		pages = append(pages, strings.Join(strings.Fields(page), " "))
	}
	return pages
}

// picture is the first page at 20 pixels an inch.
func (s sheet) picture() image.Image {
	s.t.Helper()
	img, err := png.Decode(bytes.NewReader(poppler(s.t, s.body, "pdftoppm", "-r", "20", "-f", "1", "-l", "1", "-png", "-")))
	if err != nil {
		s.t.Fatal(err)
	}
	return img
}

func (s sheet) wantSize(width, height float64) {
	s.t.Helper()
	if math.Abs(s.width-width) > 0.02 || math.Abs(s.height-height) > 0.02 {
		s.t.Errorf("the paper is %.2f x %.2f in, want %.2f x %.2f", s.width, s.height, width, height)
	}
}

// inked is the part of a page's picture, in inches, that is red.
func inked(img image.Image) (left, top, right, bottom float64) {
	b := image.Rectangle{Min: image.Pt(math.MaxInt, math.MaxInt)}
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			if r, g, bl, _ := img.At(x, y).RGBA(); r > 0xe000 && g < 0x4000 && bl < 0x4000 {
				b.Min.X, b.Min.Y = min(b.Min.X, x), min(b.Min.Y, y)
				b.Max.X, b.Max.Y = max(b.Max.X, x+1), max(b.Max.Y, y+1)
			}
		}
	}
	return float64(b.Min.X) / 20, float64(b.Min.Y) / 20, float64(b.Max.X) / 20, float64(b.Max.Y) / 20
}

// wantInked compares where the first page is red, in inches, and all of it with
// the golden picture of that name, which shows further options also.
func (s sheet) wantInked(name string, left, top, right, bottom float64, also ...string) {
	s.t.Helper()
	img := s.picture()
	wantPicture(s.t, img, name, also...)
	l, tp, r, b := inked(img)
	for i, pair := range [][2]float64{{l, left}, {tp, top}, {r, right}, {b, bottom}} {
		if math.Abs(pair[0]-pair[1]) > 0.08 {
			s.t.Errorf("%s of the ink is at %.2f in, want %.2f", []string{"left", "top", "right", "bottom"}[i], pair[0], pair[1])
		}
	}
}

const (
	// redPage is red as wide and high as the first page's print area.
	redPage = `<!doctype html><title>The title</title><style>html,body{margin:0}</style><div style="background:#ff0000;height:100vh;width:100%">`
	// threePages has a heading on each of three.
	threePages = `<!doctype html><title>Three</title><style>div{height:3in;break-before:page}</style>
		<div style="background:#00f"></div><h1>Alpha</h1><div style="background:#0f0"></div><h2>Beta</h2><div style="background:#ff0"></div><h1>Gamma</h1>`
)

func TestPaper(t *testing.T) {
	needtest.Browser(t)
	bench := newBench(t, nil)
	const cm = 1 / 2.54
	yes, no := true, false
	print := func(t *testing.T, html string, change func(*job.Spec)) sheet {
		t.Helper()
		return readSheet(t, bench.render(func(s *job.Spec) {
			s.HTML, s.Format, s.TimeoutMS = html, job.PDF, 20_000
			if change != nil {
				change(s)
			}
		}))
	}
	t.Run("default", func(t *testing.T) {
		s := print(t, redPage, nil)
		s.wantSize(8.27, 11.69)
		s.wantInked("format pdf", cm, cm, 8.27-cm, 11.69-cm, "pdf_page_size", "pdf_margin", "pdf_orientation")
		if s.pages != 1 {
			t.Errorf("%d pages", s.pages)
		}
	})
	t.Run("a page that is scrolled through", func(t *testing.T) {
		const page = `<!doctype html><style>body{margin:0} p{height:900px;margin:0;opacity:0;transition:opacity 0.5s;background:#ff0000} .in{opacity:1}</style>
			<p></p><p></p><p></p><p></p><script>
			let steps = 0; onscroll = () => { steps++ }
			const o = new IntersectionObserver(list => { for (const e of list) if (e.isIntersecting) e.target.classList.add('in') })
			document.querySelectorAll('p').forEach((p, i) => o.observe(p))
			new IntersectionObserver(list => { for (const e of list) if (e.isIntersecting) e.target.textContent += 'seen' }).observe(document.querySelector('p:last-of-type'))
			onbeforeprint = () => { document.querySelector('p').textContent = 'steps ' + steps }</script>`
		one := func(change func(*job.Spec)) func(*job.Spec) {
			return func(s *job.Spec) {
				s.FullPage, s.Width, s.Height, s.PDFMargin = true, 794, 900, "none"
				if change != nil {
					change(s)
				}
			}
		}
		walked := print(t, page, one(nil))
		if got := walked.text(); len(got) != 1 || got[0] != "steps 4 seen" {
			t.Errorf("text %q", got)
		}
		walked.wantInked("full_page of what comes into view on paper", 0, 0, 8.27, 3600./96)
		if got := print(t, page, one(func(s *job.Spec) { s.ScrollIncrementPX = 450 })).text(); len(got) != 1 || got[0] != "steps 7 seen" {
			t.Errorf("with smaller steps %q", got)
		}
		still := print(t, page, one(func(s *job.Spec) { s.SkipScroll = true }))
		if got := still.text(); len(got) != 1 || got[0] != "steps 0" {
			t.Errorf("skip_scroll: text %q", got)
		}
		if _, _, _, bottom := inked(still.picture()); bottom > 2000./96 {
			t.Errorf("skip_scroll: inked to %.2f in", bottom)
		}
		// On paper likewise.
		if got := print(t, page, func(s *job.Spec) { s.Width, s.Height = 794, 900 }).text(); !strings.Contains(strings.Join(got, " "), "seen") {
			t.Errorf("on sheets %q", got)
		}
	})
	t.Run("pdf_page_size", func(t *testing.T) {
		s := print(t, redPage, func(s *job.Spec) { s.PDFPageSize = "A6" })
		s.wantSize(4.13, 5.83)
		s.wantInked("pdf_page_size A6", cm, cm, 4.13-cm, 5.83-cm)
		print(t, redPage, func(s *job.Spec) { s.PDFPageSize = "Tabloid" }).wantSize(11, 17)
	})
	t.Run("pdf_page_width and height", func(t *testing.T) {
		s := print(t, redPage, func(s *job.Spec) { s.PDFPageWidth, s.PDFPageHeight = "10cm", "288" })
		s.wantSize(10*cm, 3)
		s.wantInked("pdf_page_width and height", cm, cm, 9*cm, 3-cm, "pdf_page_height")
	})
	t.Run("pdf_orientation", func(t *testing.T) {
		s := print(t, redPage, func(s *job.Spec) { s.PDFOrientation = "landscape" })
		s.wantSize(11.69, 8.27)
		s.wantInked("pdf_orientation", cm, cm, 11.69-cm, 8.27-cm)
	})
	t.Run("pdf_margin", func(t *testing.T) {
		print(t, redPage, func(s *job.Spec) { s.PDFMargin = "none" }).wantInked("pdf_margin none", 0, 0, 8.27, 11.69)
		print(t, redPage, func(s *job.Spec) { s.PDFMargin = "minimum" }).wantInked("pdf_margin minimum", .25, .25, 8.27-.25, 11.69-.25)
	})
	t.Run("pdf_margin of each side", func(t *testing.T) {
		s := print(t, redPage, func(s *job.Spec) {
			s.PDFMargin, s.PDFMarginTop, s.PDFMarginRight, s.PDFMarginBottom = "none", "1in", "2in", "3in"
		})
		s.wantInked("pdf_margin_top and right and bottom", 0, 1, 6.27, 8.69, "pdf_margin_right", "pdf_margin_bottom")
		s = print(t, redPage, func(s *job.Spec) { s.PDFMarginLeft = "144pt" })
		s.wantInked("pdf_margin_left", 2, cm, 8.27-cm, 11.69-cm)
	})
	t.Run("pdf_prefer_css_page_size", func(t *testing.T) {
		own := strings.Replace(redPage, "<style>", "<style>@page{size:4in 5in;margin:1in}", 1)
		s := print(t, own, nil)
		s.wantSize(4, 5)
		s.wantInked("pdf_prefer_css_page_size", 1, 1, 3, 4)
		print(t, own, func(s *job.Spec) { s.PDFPreferCSS = &no }).wantSize(8.27, 11.69)
		print(t, redPage, func(s *job.Spec) { s.PDFPreferCSS = &no }).wantInked("pdf_prefer_css_page_size off", cm, cm, 8.27-cm, 11.69-cm)
	})
	t.Run("pdf_background", func(t *testing.T) {
		bare := print(t, redPage, func(s *job.Spec) { s.PDFBackground = &no }).picture()
		wantPicture(t, bare, "pdf_background off")
		if l, _, r, _ := inked(bare); l < r {
			t.Errorf("a background was printed from %v to %v", l, r)
		}
		print(t, redPage, func(s *job.Spec) { s.PDFBackground = &yes }).wantInked("pdf_background", cm, cm, 8.27-cm, 11.69-cm)
	})
	t.Run("pdf_scale", func(t *testing.T) {
		inch := `<!doctype html><style>html,body{margin:0}</style><div style="background:#ff0000;height:1in;width:2in">`
		print(t, inch, nil).wantInked("pdf_scale 1", cm, cm, 2+cm, 1+cm)
		print(t, inch, func(s *job.Spec) { s.PDFScale = 0.5 }).wantInked("pdf_scale 0.5", cm, cm, 1+cm, .5+cm)
		print(t, inch, func(s *job.Spec) { s.PDFScale = 2 }).wantInked("pdf_scale 2", cm, cm, 4+cm, 2+cm)
	})
	t.Run("pdf_page_range", func(t *testing.T) {
		for given, want := range map[string]string{"": "[Alpha Beta Gamma]", "2": "[Beta]", "3,1": "[Alpha Gamma]", "2-": "[Beta Gamma]", "-2": "[Alpha Beta]", "2-9": "[Beta Gamma]"} {
			s := print(t, threePages, func(s *job.Spec) { s.PDFPageRange = given })
			if got := fmt.Sprint(s.text()); got != want {
				t.Errorf("range %q: %s", given, got)
			}
			if given == "2" {
				wantPicture(t, s.picture(), "pdf_page_range")
			}
		}
		out := bench.render(func(s *job.Spec) { s.HTML, s.Format, s.PDFPageRange = threePages, job.PDF, "4-9" })
		if f := out.Failure; f == nil || f.Code != job.FailOn || !strings.Contains(f.Detail, "pdf_page_range") {
			t.Errorf("pages that are not there: %v", f)
		}
		bench.wantWell()
	})
	t.Run("pdf_header", func(t *testing.T) {
		plain := print(t, threePages, nil).text()
		s := print(t, threePages, func(s *job.Spec) {
			s.PDFHeader = `<style>.big{font-size:14pt}</style><p class=big style="margin:0 1cm;border-bottom:.5cm solid #ff0000;-webkit-print-color-adjust:exact"><span class=title></span>, sheet <span class=pageNumber></span> of <span class=totalPages></span></p>`
		})
		for i, want := range []string{"Three, sheet 1 of 3 Alpha", "Three, sheet 2 of 3 Beta", "Three, sheet 3 of 3 Gamma"} {
			if got := s.text(); len(got) != 3 || got[i] != want {
				t.Errorf("sheets are %q", got)
			}
		}
		wantPicture(t, s.picture(), "pdf_header")
		if fmt.Sprint(plain) != "[Alpha Beta Gamma]" {
			t.Errorf("without: %q", plain)
		}
	})
	t.Run("pdf_footer", func(t *testing.T) {
		s := print(t, threePages, func(s *job.Spec) { s.PDFFooter, s.PDFPageRange = `by hand <img src="data:image/png;base64,x">`, "2" })
		if got := fmt.Sprint(s.text()); got != "[by hand Beta]" {
			t.Errorf("sheets are %s", got)
		}
		red := print(t, threePages, func(s *job.Spec) {
			s.PDFFooter = `<div style="background:#ff0000;-webkit-print-color-adjust:exact;height:20px">&nbsp;</div>`
		})
		wantPicture(t, red.picture(), "pdf_footer")
		if l, top, r, bottom := inked(red.picture()); l > .1 || r < 8 || top < 11 || bottom > 11.69 {
			t.Errorf("the footer is at %v, %v to %v, %v", l, top, r, bottom)
		}
	})
	t.Run("pdf_outline", func(t *testing.T) {
		outline := func(s sheet) string {
			xml := string(poppler(t, s.body, "pdftohtml", "-xml", "-i", "-stdout", "-", "stdin"))
			var items []string
			for _, m := range regexp.MustCompile(`<item page="(\d+)">([^<]*)`).FindAllStringSubmatch(xml, -1) {
				items = append(items, m[2]+"@"+m[1])
			}
			return fmt.Sprint(items)
		}
		if got := outline(print(t, threePages, func(s *job.Spec) { s.PDFOutline = true })); got != "[Alpha@1 Beta@2 Gamma@3]" {
			t.Errorf("bookmarks are %s", got)
		}
		if got := outline(print(t, threePages, nil)); got != "[]" {
			t.Errorf("bookmarks without the option: %s", got)
		}
	})
	t.Run("pdf_tagged", func(t *testing.T) {
		if print(t, threePages, func(s *job.Spec) { s.PDFTagged = &no }).tagged {
			t.Error("tagged all the same")
		}
		if !print(t, threePages, func(s *job.Spec) { s.PDFTagged = &yes }).tagged || !print(t, threePages, nil).tagged {
			t.Error("not tagged")
		}
	})
}

// TestOnePage: full_page makes one page of a document, whatever its length.
func TestOnePage(t *testing.T) {
	needtest.Browser(t)
	bench := newBench(t, nil)
	print := func(t *testing.T, html string, change func(*job.Spec)) sheet {
		t.Helper()
		return readSheet(t, bench.render(func(s *job.Spec) {
			s.HTML, s.Format, s.TimeoutMS, s.FullPage, s.PDFMargin = "<!doctype html><style>html,body{margin:0}</style>"+html, job.PDF, 20_000, true, "none"
			if change != nil {
				change(s)
			}
		}))
	}
	// want compares the length with one in CSS pixels: a line more is given.
	want := func(t *testing.T, s sheet, width, length float64) {
		t.Helper()
		if s.pages != 1 || math.Abs(s.width-width) > 0.02 || s.height < length/96 || s.height > length/96*1.02+0.1 {
			t.Errorf("%d pages, %.2f x %.2f in; want %.2f x %.2f", s.pages, s.width, s.height, width, length/96)
		}
	}
	const tail = `<div style="background:#ff0000;height:96px;width:96px"></div>`
	t.Run("long", func(t *testing.T) {
		long := `<div style="height:3000px"></div>` + tail
		if s := print(t, long, func(s *job.Spec) { s.FullPage = false }); s.pages != 3 {
			t.Errorf("%d pages without the option", s.pages)
		}
		s := print(t, long, nil)
		want(t, s, 8.27, 3096)
		s.wantInked("full_page of a long document", 0, 3000./96, 1, 3096./96)
	})
	t.Run("margins and scale", func(t *testing.T) {
		s := print(t, `<div style="height:3000px"></div>`+tail, func(s *job.Spec) {
			s.PDFMarginTop, s.PDFMarginLeft, s.PDFScale, s.PDFOrientation = "2in", "1in", 0.5, "landscape"
		})
		want(t, s, 11.69, 3096./2+192)
		s.wantInked("full_page with margins and scale", 1, 2+1500./96, 1.5, 2+1548./96)
	})
	t.Run("page breaks", func(t *testing.T) {
		s := print(t, `<p>Alpha<p style="break-before:page;height:2000px">Beta<p style="page-break-before:always">Gamma`, nil)
		if got := fmt.Sprint(s.text()); s.pages != 1 || got != "[Alpha Beta Gamma]" {
			t.Errorf("%d pages, %s", s.pages, got)
		}
	})
	t.Run("as high as the viewport", func(t *testing.T) {
		// In print that is as high as the paper, which would never be enough.
		s := print(t, `<div style="height:100vh"></div><div style="min-height:50vh"><p style="margin:0;height:100px"></div><div style="height:1000px"></div>`+tail, func(s *job.Spec) { s.Height = 400 })
		want(t, s, 8.27, 400+200+1000+96)
		s.wantInked("full_page as high as the viewport", 0, 1600./96, 1, 1696./96)
	})
	t.Run("paper of its own", func(t *testing.T) {
		s := print(t, `<style>@page{size:4in 5in;margin:1in}@page :first{margin-top:3in}</style><div style="height:1500px"></div>`+tail, nil)
		want(t, s, 8.27, 1596)
		s.wantInked("full_page on paper of its own", 0, 1500./96, 1, 1596./96)
	})
	t.Run("laid out for print", func(t *testing.T) {
		s := print(t, `<style>@media print{div{height:2500px!important}}</style><div style="height:500px"></div><p>`+strings.Repeat("words that wrap as wide as the paper is ", 100)+`<span>end</span>`, nil)
		if got := s.text(); s.pages != 1 || s.height < 2600./96 || !strings.HasSuffix(got[0], "end") {
			t.Errorf("%d pages, %.1f in: %q", s.pages, s.height, got)
		}
	})
	t.Run("too long", func(t *testing.T) {
		out := bench.render(func(s *job.Spec) {
			s.HTML, s.Format, s.FullPage = `<div style="height:200000px">`, job.PDF, true
		})
		if f := out.Failure; f == nil || f.Code != job.PageTooLarge || !strings.Contains(f.Detail, "inches long") {
			t.Errorf("%v", f)
		}
	})
	bench.wantWell()
}
