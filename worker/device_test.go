package worker_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

func TestDevices(t *testing.T) {
	m := http.NewServeMux()
	all := &studio{}
	site, address := serve(t, m)
	all.site = site
	all.bench = newBench(t, nil, address)
	// greenIf is a page that is green when the condition holds for its scripts.
	greenIf := func(condition string) string {
		return fmt.Sprintf(`<meta name=viewport content="width=device-width, initial-scale=1"><body style="background:#ff0000"><script>
			if (%s) document.body.style.background = '#00ff00'</script>`, condition)
	}
	wearing := func(name string, change func(*job.Spec)) func(*job.Spec) {
		return func(s *job.Spec) {
			s.Device = name
			if change != nil {
				change(s)
			}
			s.Wear(func(string) bool { return false })
		}
	}

	t.Run("device", func(t *testing.T) {
		s := all.with(t)
		const as = `innerWidth === 393 && innerHeight === 659 && screen.width === 393 && screen.height === 852 && devicePixelRatio === 3 &&
			'ontouchstart' in window && navigator.maxTouchPoints > 0 && matchMedia('(pointer: coarse)').matches && screen.orientation.type === 'portrait-primary'`
		img := s.show(greenIf(as), wearing("iPhone 15", nil))
		s.wantSize(img, 1179, 1977)
		s.wantColor(img, 500, 1900, green)
		wantPicture(t, img, "device")
		img = s.show(greenIf(as), nil)
		s.wantColor(img, 100, 100, red)
	})
	t.Run("landscape", func(t *testing.T) {
		s := all.with(t)
		img := s.show(greenIf(`innerWidth === 734 && screen.width === 852 && screen.orientation.angle === 90`), wearing("iPhone 15", func(s *job.Spec) { s.Landscape = true }))
		s.wantSize(img, 2202, 1029)
		s.wantColor(img, 500, 900, green)
		img = s.show(greenIf(`innerWidth === 720 && innerHeight === 1280`), wearing("Desktop Chrome", func(s *job.Spec) { s.Landscape = true }))
		s.wantSize(img, 720, 1280)
		s.wantColor(img, 500, 900, green)
		wantPicture(t, img, "landscape")
	})
	t.Run("mouse or finger", func(t *testing.T) {
		s := all.with(t)
		yes := true
		const mouse = `matchMedia('(hover:hover) and (pointer:fine) and (any-hover:hover) and (any-pointer:fine)').matches && !matchMedia('(any-pointer:coarse)').matches`
		const finger = `matchMedia('(hover:none) and (pointer:coarse) and (any-hover:none) and (any-pointer:coarse)').matches && !matchMedia('(any-pointer:fine)').matches`
		s.page(m, "/mouse", greenIf(mouse))
		s.page(m, "/finger", greenIf(finger))
		frame := func(path string) string {
			return `<meta name=viewport content="width=device-width, initial-scale=1"><iframe src="` + path + `" style="border:0;width:300px;height:150px"></iframe>`
		}
		s.page(m, "/framed-mouse", frame("/mouse"))
		s.page(m, "/framed-finger", frame("/finger"))
		s.page(m, "/moved-mouse", `<script>location = '/mouse'</script>`)
		s.page(m, "/moved-finger", `<script>location = '/finger'</script>`)
		for name, c := range map[string]struct {
			change func(*job.Spec)
			kind   string
		}{
			"desktop":        {nil, "mouse"},
			"Desktop Chrome": {wearing("Desktop Chrome", nil), "mouse"},
			"iPhone 15":      {wearing("iPhone 15", nil), "finger"},
			"touch":          {func(spec *job.Spec) { spec.Touch = &yes }, "finger"},
		} {
			for _, way := range []string{"", "framed-", "moved-"} {
				t.Run(name+way, func(t *testing.T) {
					s := s.with(t)
					img, _ := s.picture(func(spec *job.Spec) {
						spec.URL = s.site + "/" + way + c.kind
						if c.change != nil {
							c.change(spec)
						}
					})
					s.wantColor(img, 100, 100, green)
				})
			}
		}
	})
	t.Run("touch", func(t *testing.T) {
		s := all.with(t)
		for _, touch := range []bool{false, true} {
			img := s.show(greenIf(`navigator.maxTouchPoints > 0 && 'ontouchstart' in window`), func(spec *job.Spec) { spec.Touch = &touch })
			if touch {
				s.wantColor(img, 100, 100, green)
				wantPicture(t, img, "touch")
			} else {
				s.wantColor(img, 100, 100, red)
			}
		}
	})
	t.Run("mobile", func(t *testing.T) {
		s := all.with(t)
		yes := true
		// Without a word about the viewport a phone lays a page out 980 pixels wide
		// and shows it small.
		const wide = `<style>body{margin:0}</style><div style="width:490px;height:300px;background:#0000ff"></div><div style="height:3000px;width:980px;background:linear-gradient(#ff0000 2990px,#00ff00 2990px)"></div>`
		img := s.show(wide, nil)
		s.wantColor(img, 310, 100, blue)
		img = s.show(wide, func(spec *job.Spec) { spec.Mobile = &yes })
		s.wantSize(img, 320, 200)
		s.wantColor(img, 150, 90, blue)
		s.wantColor(img, 170, 90, white)
		full := s.show(wide, func(spec *job.Spec) { spec.Mobile, spec.FullPage, spec.DeviceScaleFactor = &yes, true, 2 })
		if b := full.Bounds(); b.Dx() != 640 || b.Dy() < 2150 || b.Dy() > 2160 { // 3300 at 640/980
			t.Errorf("the full page is %v", b.Size())
		}
		s.wantColor(full, 300, 190, blue)
		s.wantColor(full, 340, 190, white)
		s.wantColor(full, 300, 2000, red)
		s.wantColor(full, 300, full.Bounds().Dy()-3, green)
		part := s.show(wide, func(spec *job.Spec) { spec.Mobile, spec.Selector = &yes, "div" })
		s.wantSize(part, 160, 98)
		s.wantColor(part, 150, 90, blue)
		wantPicture(t, full, "mobile and its full page", "full_page")
		clip := s.show(wide, func(spec *job.Spec) { spec.Mobile, spec.Clip = &yes, "480,0,98,98" })
		s.wantSize(clip, 32, 32)
		s.wantColor(clip, 1, 10, blue)
		s.wantColor(clip, 20, 10, white)
		// A page that knows phones is as wide as the phone, also where something
		// sticks out of it.
		const responsive = `<meta name=viewport content="width=device-width, initial-scale=1"><body style="margin:0;background:#00ff00">
			<div style="height:1600px"></div><div style="width:1200px;height:50px;background:#0000ff">`
		img = s.show(responsive, func(spec *job.Spec) { spec.Mobile, spec.FullPage = &yes, true })
		s.wantSize(img, 320, 1650)
		s.wantColor(img, 310, 1625, blue)
		s.wantColor(img, 310, 1590, green)
	})
}
