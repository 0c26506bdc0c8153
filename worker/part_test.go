package worker_test

import (
	"fmt"
	"image"
	"image/color"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

func TestPartOfAPage(t *testing.T) {
	m := http.NewServeMux()
	all := &studio{}
	site, address := serve(t, m)
	all.site = site
	all.bench = newBench(t, nil, address)

	t.Run("selector", func(t *testing.T) {
		s := all.with(t)
		const page = `<div style="height:500px;background:#0000ff"></div>
			<div class=a style="margin:10px 20px;width:100px;height:60px;background:#ff0000"></div>
			<div class=a style="width:70px;height:70px;background:#00ff00"></div>
			<div style="height:18000px"></div>
			<div id=deep style="width:40.4px;height:17000px;background:linear-gradient(#0000ff 16990px,#00ff00 16990px)"></div>
			<div id=none></div>
			<div style="width:100px;height:50px;overflow:auto"><div style="height:400px"></div><div id=inner style="height:30px;background:#ff0000"></div></div>`
		for _, scale := range []float64{1, 2, 1.5} {
			img := s.show(page, func(spec *job.Spec) { spec.Selector, spec.DeviceScaleFactor = ".a", scale })
			s.wantSize(img, int(100*scale), int(60*scale))
			for _, p := range []image.Point{{0, 0}, {img.Bounds().Dx() - 1, 0}, {0, img.Bounds().Dy() - 1}, {img.Bounds().Dx() - 1, img.Bounds().Dy() - 1}} {
				s.wantColor(img, p.X, p.Y, red)
			}
		}
		deep := s.show(page, func(spec *job.Spec) { spec.Selector, spec.TimeoutMS = "#deep", 20_000 })
		s.wantSize(deep, 40, 17_000)
		s.wantColor(deep, 20, 16_980, blue)
		s.wantColor(deep, 20, 16_995, green)
		inner := s.show(page, func(spec *job.Spec) { spec.Selector = "#inner" })
		wantPicture(t, inner, "selector")
		s.wantSize(inner, 100, 30)
		s.wantColor(inner, 50, 15, red)
		for _, nothing := range []string{"#none", "#gone"} {
			img := s.show(page, func(spec *job.Spec) { spec.Selector = nothing })
			s.wantSize(img, 320, 200)
			out := s.render(func(spec *job.Spec) { spec.HTML, spec.Selector, spec.FailIfSelectorMissing = page, nothing, true })
			if out.Failure == nil || out.Failure.Code != job.SelectorNotFound {
				t.Errorf("%s: %v", nothing, out.Failure)
			}
		}
		out := s.render(func(spec *job.Spec) { spec.HTML, spec.Selector = page, `a[=")]` })
		if out.Failure == nil || out.Failure.Code != job.SelectorNotFound {
			t.Errorf("no selector: %v", out.Failure)
		}
	})
	t.Run("selector beside what is fixed to the view", func(t *testing.T) {
		s := all.with(t)
		const page = `<div style="height:%dpx"></div><div id=a style="height:60px;background:#00ff00"></div><div style="height:3000px"></div>
			<div style="position:fixed;top:0;left:0;right:0;height:40px;background:#ff0000"></div>
			<div style="position:fixed;bottom:0;left:0;right:0;height:40px;background:#ff0000"></div>`
		for _, above := range []int{130, 1637} { // in the first view, and far below it
			img := s.show(fmt.Sprintf(page, above), func(spec *job.Spec) { spec.Selector = "#a" })
			s.wantSize(img, 320, 60)
			for _, y := range []int{1, 30, 58} {
				s.wantColor(img, 100, y, green)
			}
		}
	})
	t.Run("selector of what moves when it comes into view", func(t *testing.T) {
		s := all.with(t)
		const page = `<style>p{margin:0;height:150px;opacity:0;transition:opacity 0.6s;background:#00ff00} .in{opacity:1}</style>
			<div id=other>x</div><div style="height:600px"></div><p></p><script>
			new IntersectionObserver(list => { for (const e of list) if (e.isIntersecting) e.target.classList.add('in') }).observe(document.querySelector('p'))
			const a = %s.animate({color: ['red', 'blue']}, 8000); setInterval(() => { a.currentTime = 0 }, 50)</script>`
		for of, want := range map[string]string{"other": "[]", "document.querySelector('p')": "[animations]", "document.body": "[animations]"} {
			img, e := s.picture(func(spec *job.Spec) {
				spec.HTML, spec.Selector = `<!doctype html>`+fmt.Sprintf(page, of), "p"
			})
			s.wantColor(img, 100, 75, green)
			if fmt.Sprint(e.TimedOut) != want {
				t.Errorf("while %s moves: timed out: %v, want %s", of, e.TimedOut, want)
			}
		}
	})
	t.Run("selector of what loads late", func(t *testing.T) {
		s := all.with(t)
		m.Handle("GET /red.svg", gallery())
		s.page(m, "/far", `<div style="height:9000px"></div><div id=a style="width:50px;height:50px"><img loading=lazy src="/red.svg" width=50 height=50></div>`)
		img, _ := s.picture(func(spec *job.Spec) { spec.URL, spec.Selector = s.site+"/far", "#a" })
		s.wantSize(img, 50, 50)
		s.wantColor(img, 25, 25, red)
	})
	t.Run("thumbnails", func(t *testing.T) {
		s := all.with(t)
		const halves = `<div style="width:160px;height:200px;background:#0000ff"></div><div style="position:absolute;left:160px;top:0;width:160px;height:200px;background:#ff0000"></div>`
		for _, test := range []struct {
			name   string
			change func(*job.Spec)
			w, h   int
			at     map[image.Point]color.RGBA
		}{
			{"thumb_width", func(s *job.Spec) { s.ThumbWidth = 80 }, 80, 50, map[image.Point]color.RGBA{{10, 25}: blue, {70, 25}: red}},
			{"thumb_height", func(s *job.Spec) { s.ThumbHeight = 100 }, 160, 100, map[image.Point]color.RGBA{{10, 50}: blue, {150, 50}: red}},
			{"img_fit cover", func(s *job.Spec) { s.ThumbWidth, s.ThumbHeight = 50, 50 }, 50, 50, map[image.Point]color.RGBA{{5, 25}: blue, {45, 25}: red}},
			{"img_position left", func(s *job.Spec) { s.ThumbWidth, s.ThumbHeight, s.ImgPosition = 50, 50, "left" }, 50, 50, map[image.Point]color.RGBA{{5, 25}: blue, {35, 25}: blue}},
			{"img_fit contain", func(s *job.Spec) { s.ThumbWidth, s.ThumbHeight, s.ImgFit = 50, 50, "contain" }, 50, 50, map[image.Point]color.RGBA{{5, 2}: white, {5, 25}: blue}},
			{"img_bg", func(s *job.Spec) { s.ThumbWidth, s.ThumbHeight, s.ImgFit, s.ImgBG = 50, 50, "contain", "#0f0" }, 50, 50, map[image.Point]color.RGBA{{5, 2}: green, {45, 25}: red}},
			{"thumb_width larger", func(s *job.Spec) { s.ThumbWidth = 640 }, 640, 400, map[image.Point]color.RGBA{{10, 200}: blue, {630, 200}: red}},
			{"thumb_width of a clip", func(s *job.Spec) { s.Clip, s.ThumbWidth = "150,0,100,50", 50 }, 50, 25, map[image.Point]color.RGBA{{1, 10}: blue, {20, 10}: red}},
			{"thumb_width of a full page", func(s *job.Spec) { s.FullPage, s.DeviceScaleFactor, s.ThumbWidth = true, 2, 160 }, 160, 100, map[image.Point]color.RGBA{{10, 50}: blue, {150, 50}: red}},
		} {
			for _, format := range []job.Format{job.PNG, job.JPEG, job.WebP} {
				if format != job.PNG && test.name != "img_fit cover" && test.name != "img_bg" {
					continue
				}
				t.Run(fmt.Sprint(test.name, " ", format), func(t *testing.T) {
					s := all.with(t)
					img := s.show(halves, func(spec *job.Spec) {
						test.change(spec)
						spec.Format = format
					})
					if format == job.PNG {
						wantPicture(t, img, test.name, "thumb_width", "thumb_height", "img_fit", "img_position", "img_bg")
					}
					s.wantSize(img, test.w, test.h)
					for p, c := range test.at {
						near(t, img, p.X, p.Y, c, map[job.Format]int{job.PNG: 0, job.JPEG: 10, job.WebP: webpRoom}[format])
					}
				})
			}
		}
		clear := s.show(`<div style="width:160px;height:200px;background:#0000ff">`, func(spec *job.Spec) { spec.ThumbWidth, spec.Transparent = 80, true })
		if _, _, _, a := clear.At(70, 25).RGBA(); a != 0 {
			t.Errorf("alpha %d", a>>8)
		}
		out := s.render(func(spec *job.Spec) {
			spec.HTML, spec.ThumbWidth, spec.Width, spec.Height = halves, 10_000, 100, 10_000
		})
		if out.Failure == nil || out.Failure.Code != job.PageTooLarge {
			t.Errorf("too large: %v", out.Failure)
		}
	})
	t.Run("the busiest part", func(t *testing.T) {
		s := all.with(t)
		page := `<body style="background:#ffd"><div style="position:absolute;left:200px;width:100px;height:200px;overflow:hidden;color:#a00;word-break:break-all">` + text(300)
		for _, position := range []string{"entropy", "attention"} {
			img := s.show(page, func(spec *job.Spec) { spec.ThumbWidth, spec.ThumbHeight, spec.ImgPosition = 100, 200, position })
			for _, from := range []int{0, 90} { // the text begins and ends with the picture
				inked := 0
				for y := range 200 {
					for x := from; x < from+10; x++ {
						if c := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA); c.G < 200 {
							inked++
						}
					}
				}
				if inked < 100 {
					t.Errorf("%s: %d pixels of text from column %d", position, inked, from)
				}
			}
		}
	})
	t.Run("time is up in the middle", func(t *testing.T) {
		s := all.with(t)
		begin := time.Now()
		out := s.render(func(spec *job.Spec) {
			spec.HTML, spec.TimeoutMS = `<body style="margin:0;height:200000px;background:linear-gradient(#f00,#00f)">`, 2000
			spec.FullPage, spec.SkipScroll, spec.Width, spec.DeviceScaleFactor = true, true, 1000, 1
		})
		if out.Failure == nil || out.Failure.Code != job.CaptureTimeout || time.Since(begin) > 15*time.Second {
			t.Fatalf("after %v: %v", time.Since(begin), out.Failure)
		}
		for _, part := range []string{"1000 by 200000 device pixels", " of its rows", "timeout_ms", "max_height"} {
			if !strings.Contains(out.Failure.Detail, part) {
				t.Errorf("%q says nothing of %s", out.Failure.Detail, part)
			}
		}
	})
}
