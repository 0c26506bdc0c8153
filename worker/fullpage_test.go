package worker_test

import (
	"fmt"
	"image/color"
	"io"
	"net/http"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

// stripes is a page of n stripes of height px; the colour of each says which it
// is.
func stripes(n, height int) string {
	return fmt.Sprintf(`<div id=s></div><script>
		let h = ''
		for (let i = 0; i < %d; i++) h += '<div style="height:%dpx;background:rgb(' + (i & 255) + ',' + (i >> 8) + ',128)"></div>'
		s.innerHTML = h</script>`, n, height)
}

func stripe(i int) color.RGBA { return color.RGBA{R: uint8(i), G: uint8(i >> 8), B: 128, A: 255} }

func TestFullPage(t *testing.T) {
	m := http.NewServeMux()
	all := &studio{}
	site, address := serve(t, m)
	all.site = site
	all.bench = newBench(t, nil, address)
	full := func(change func(*job.Spec)) func(*job.Spec) {
		return func(s *job.Spec) {
			s.FullPage, s.TimeoutMS = true, 20_000
			if change != nil {
				change(s)
			}
		}
	}

	t.Run("every row of a long page", func(t *testing.T) {
		for _, test := range []struct {
			scale  float64
			format job.Format
			n      int // just over what is captured in one piece
			room   int
		}{{1, job.PNG, 170, 0}, {1.37, job.PNG, 125, 0}, {2.625, job.PNG, 65, 0}, {1, job.JPEG, 170, 12}} {
			t.Run(fmt.Sprintf("%s at %v", test.format, test.scale), func(t *testing.T) {
				s := all.with(t)
				const height = 100
				img := s.show(stripes(test.n, height), full(func(spec *job.Spec) {
					spec.Width, spec.DeviceScaleFactor, spec.Format, spec.Quality, spec.SkipScroll = 60, test.scale, test.format, 95, true
				}))
				s.wantSize(img, up(60*test.scale), up(float64(test.n)*height*test.scale))
				bad := 0
				for y := range img.Bounds().Dy() {
					mid := (float64(y) + 0.5) / test.scale / height
					i := int(mid)
					if edge := (mid - float64(i)) * height * test.scale; edge < 1.5 || edge > height*test.scale-1.5 || test.room > 0 && (edge < 18 || edge > height*test.scale-18) {
						continue // a stripe may end between two rows; a codec mixes blocks
					}
					for _, x := range []int{0, int(60*test.scale) - 1} {
						got := color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)
						want := stripe(i)
						if max(differ(got.R, want.R), differ(got.G, want.G), differ(got.B, want.B)) > test.room {
							if bad++; bad < 4 {
								t.Errorf("row %d at %d is %v, want stripe %d, %v", y, x, got, i, want)
							}
						}
					}
				}
				if bad > 0 {
					t.Errorf("%d wrong pixels", bad)
				}
			})
		}
	})
	t.Run("what stands still and what is as high as the viewport", func(t *testing.T) {
		s := all.with(t)
		const page = `<div style="height:100vh;background:#0000ff"></div>
			<div style="position:sticky;top:0;height:30px;background:#ffff00"></div>
			<div style="position:fixed;top:0;left:0;width:50px;height:50px;background:#ff0000"></div>
			<div style="position:fixed;bottom:0;left:0;width:50px;height:50px;background:#00ff00"></div>
			<div style="height:%dpx;background:#fff"></div>`
		for mode, rest := range map[string]int{"": 17_000, "native": 1000, "stitch": 1000} {
			img := s.show(fmt.Sprintf(page, rest), full(func(spec *job.Spec) { spec.FullPageMode, spec.SkipScroll = mode, mode == "" }))
			if mode != "" {
				wantPicture(t, img, "full_page_mode "+mode)
			}
			s.wantSize(img, 320, 230+rest)
			for y, want := range map[int]color.RGBA{
				10: blue, 199: blue, 205: {R: 255, G: 255, A: 255}, 229: {R: 255, G: 255, A: 255}, 235: white, 229 + rest: white,
			} {
				s.wantColor(img, 200, y, want)
			}
			counts := map[color.RGBA]int{}
			for y := range img.Bounds().Dy() {
				counts[color.RGBAModel.Convert(img.At(20, y)).(color.RGBA)]++
			}
			if counts[red] != 50 || counts[green] != 50 || counts[blue] != 100 {
				t.Errorf("%q: rows by colour: %v", mode, counts)
			}
		}
	})
	t.Run("what loads when it comes into view", func(t *testing.T) {
		s := all.with(t)
		m.HandleFunc("GET /colour", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "#00ff00") })
		s.page(m, "/late", `<div style="height:3000px"></div><div id=a style="height:100px;background:#ff0000"></div>
			<div style="height:1000px"></div><img id=b style="display:block" width=50 height=50>
			<script>
			const seen = (e, f) => new IntersectionObserver((list, o) => { if (list[0].isIntersecting) { o.disconnect(); f() } }).observe(e)
			seen(a, async () => { // and what came makes more come
				await (await fetch('/colour')).text()
				a.style.background = await (await fetch('/colour?2')).text()
			})
			seen(b, () => { b.src = '/red.svg' })</script>`)
		m.Handle("GET /red.svg", gallery())
		for _, skip := range []bool{false, true} {
			img, e := s.picture(full(func(spec *job.Spec) { spec.URL, spec.SkipScroll = s.site+"/late", skip }))
			s.wantSize(img, 320, 4150)
			colours := [2]color.RGBA{green, red}
			if skip {
				colours = [2]color.RGBA{red, white}
				wantPicture(t, img, "skip_scroll")
			}
			s.wantColor(img, 10, 3050, colours[0])
			s.wantColor(img, 10, 4120, colours[1])
			if len(e.TimedOut) > 0 {
				t.Errorf("timed out: %v", e.TimedOut)
			}
		}
	})
	t.Run("steps of the walk", func(t *testing.T) {
		s := all.with(t)
		const page = `<div style="height:1000px"></div><script>
			let steps = [], times = []
			onscroll = () => { steps.push(scrollY); times.push(performance.now())
				if (scrollY === 0) document.body.style.background =
					steps.length === 9 && steps[0] === 100 && times[8] - times[0] > 700 ? '#00ff00' : '#ff0000' }</script>`
		img := s.show(page, full(func(spec *job.Spec) { spec.ScrollIncrementPX, spec.ScrollDelayMS = 100, 100 }))
		s.wantColor(img, 10, 10, green)
		wantPicture(t, img, "scroll_increment_px and scroll_delay_ms", "scroll_delay_ms")
		img = s.show(page, full(nil))
		s.wantColor(img, 10, 10, red)
	})
	t.Run("a page without an end", func(t *testing.T) {
		s := all.with(t)
		const page = `<div id=end></div><script>
			const more = () => { const d = document.createElement('div'); d.style.cssText = 'height:500px;background:#0000ff'; document.body.insertBefore(d, end) }
			for (let i = 0; i < 4; i++) more()
			onscroll = () => { if (scrollY + innerHeight > document.body.scrollHeight - 400) for (let i = 0; i < 4; i++) more() }</script>`
		img := s.show(page, full(func(spec *job.Spec) { spec.Height = 1000 }))
		if h := img.Bounds().Dy(); h < 18_000 || h > 25_000 {
			t.Errorf("height %d", h)
		}
		img = s.show(page, full(func(spec *job.Spec) { spec.Height, spec.MaxHeight = 1000, 3000 }))
		s.wantSize(img, 320, 3000)
		wantPicture(t, img, "max_height")
	})
	t.Run("as wide as it scrolls", func(t *testing.T) {
		s := all.with(t)
		const page = `<div style="width:500px;height:300px;background:linear-gradient(90deg,#0000ff 499px,#ff0000 499px)"></div>`
		for wide, w := range map[bool]int{false: 320, true: 500} {
			img := s.show(page, full(func(spec *job.Spec) { spec.FullWidth = wide }))
			s.wantSize(img, w, 300)
			s.wantColor(img, 310, 290, blue)
			if wide {
				s.wantColor(img, 499, 290, red)
				wantPicture(t, img, "full_width")
			}
		}
	})
	t.Run("only what is in view is there", func(t *testing.T) {
		s := all.with(t)
		const page = `<div id=list style="position:relative;height:2000px;background:#fff"></div><script>
			const draw = () => { list.innerHTML = ''
				for (let i = Math.floor(scrollY / 100); i * 100 < scrollY + innerHeight; i++)
					list.innerHTML += '<div style="position:absolute;top:' + i * 100 + 'px;height:100px;width:100%;background:rgb(' + i + ',0,128)"></div>' }
			onscroll = draw; draw()</script>`
		for _, mode := range []string{"native", "stitch"} {
			img := s.show(page, full(func(spec *job.Spec) { spec.FullPageMode = mode }))
			s.wantSize(img, 320, 2000)
			s.wantColor(img, 10, 150, stripe(1))
			if mode == "native" {
				s.wantColor(img, 10, 1950, white)
				continue
			}
			for i := range 20 {
				s.wantColor(img, 10, i*100+50, stripe(i))
			}
		}
		img := s.show(stripes(10, 100), full(func(spec *job.Spec) { spec.FullPageMode, spec.Format = "stitch", job.WebP }))
		s.wantSize(img, 320, 1000)
		near(t, img, 100, 950, stripe(9), webpRoom)
	})
	t.Run("what moves when it comes into view", func(t *testing.T) {
		s := all.with(t)
		const sheet = `<style>p{margin:0;height:300px;opacity:0;transform:translateX(-200px);transition:all 0.6s;background:#00ff00}
			.in{opacity:1;transform:none}</style><p></p><p></p><p></p><p></p>`
		const once = sheet + `<script>const o = new IntersectionObserver(list => { for (const e of list) if (e.isIntersecting) e.target.classList.add('in') })
			for (const p of document.querySelectorAll('p')) o.observe(p)</script>`
		const again = sheet + `<script>const o = new IntersectionObserver(list => { for (const e of list) e.target.classList.toggle('in', e.isIntersecting) })
			for (const p of document.querySelectorAll('p')) o.observe(p)</script>`
		for name, c := range map[string]struct {
			page   string
			change func(*job.Spec)
		}{
			"whole":       {once, nil},
			"stitch":      {again, func(spec *job.Spec) { spec.FullPageMode = "stitch" }},
			"skip_scroll": {sheet + `<script>document.querySelectorAll('p').forEach(p => { p.clientTop; p.classList.add('in') })</script>`, func(spec *job.Spec) { spec.SkipScroll = true }},
			"in a shadow tree, and what follows": {`<div id=host></div><script>const root = host.attachShadow({mode: 'open'})
				root.innerHTML = '<style>p{margin:0;height:1200px;background:#0000ff;transition:background 0.5s}</style><p></p>'
				const p = root.querySelector('p'); p.clientTop; p.style.background = '#ff0000'
				p.ontransitionend = () => { p.style.background = '#00ff00' }</script>`, nil},
		} {
			t.Run(name, func(t *testing.T) {
				s := s.with(t)
				img, e := s.picture(full(func(spec *job.Spec) {
					spec.HTML = `<!doctype html><style>body{margin:0}</style>` + c.page
					if c.change != nil {
						c.change(spec)
					}
				}))
				s.wantSize(img, 320, 1200)
				for y := 50; y < 1200; y += 100 {
					s.wantColor(img, 10, y, green)
				}
				if len(e.TimedOut) > 0 {
					t.Errorf("timed out: %v", e.TimedOut)
				}
			})
		}
		moving := func(timing, more string) string {
			return `<p>x</p><script>const a = document.querySelector('p').animate({opacity: [0, 1]}, ` + timing + `);` + more + `</script>`
		}
		// It never has less than eight seconds to go, but is one that ends.
		long := moving("8000", "setInterval(() => { a.currentTime = 0 }, 50)")
		for _, c := range []struct{ page, mode, want string }{
			{long, "", "[animations]"},
			{long, "stitch", "[animations]"},
			{moving("8000", "a.reverse();setInterval(() => { a.currentTime = 8000 }, 50)"), "", "[animations]"},
			{moving("8000", "a.pause()"), "", "[]"},
			{moving("600000", ""), "", "[]"},
			{moving("{duration: 1000, iterations: Infinity}", ""), "", "[]"},
		} {
			_, e := s.picture(full(func(spec *job.Spec) { spec.HTML, spec.FullPageMode = c.page, c.mode }))
			if fmt.Sprint(e.TimedOut) != c.want {
				t.Errorf("%s, %q: timed out: %v, want %s", c.page, c.mode, e.TimedOut, c.want)
			}
		}
		_, e := s.picture(func(spec *job.Spec) { spec.HTML = long })
		if len(e.TimedOut) > 0 {
			t.Errorf("the viewport alone: timed out: %v", e.TimedOut)
		}
	})
	t.Run("backgrounds that are fixed to the viewport", func(t *testing.T) {
		s := all.with(t)
		const page = `<style>
			p{margin:0;height:100px;background:linear-gradient(#00ff00,#00ff00) fixed no-repeat}
			i{display:block;height:100px}
			i::before{content:'';display:block;height:100px;background:linear-gradient(#00ff00,#00ff00) fixed}
			#hero{background:linear-gradient(#ff0000 100px,#00ff00 0) fixed}
			</style><div style="height:80px"></div><p id=hero></p><div style="height:220px"></div><p id=far></p><i></i><span id=host></span><div style="height:300px"></div><script>
			host.attachShadow({mode: 'open'}).innerHTML = '<p style="margin:0;height:100px;background:linear-gradient(#00ff00,#00ff00) fixed">'</script>`
		rows := map[int]color.RGBA{40: white, 90: red, 110: green, 170: green, 190: white, 390: white, 410: green, 490: green, 510: green, 590: green, 610: green, 690: green, 710: white}
		for name, change := range map[string]func(*job.Spec){
			"plain": nil, "native": func(spec *job.Spec) { spec.FullPageMode = "native" },
			"stitch":        func(spec *job.Spec) { spec.FullPageMode = "stitch" },
			"skip_scroll":   func(spec *job.Spec) { spec.SkipScroll = true },
			"deterministic": func(spec *job.Spec) { spec.Deterministic = true },
		} {
			t.Run(name, func(t *testing.T) {
				s := s.with(t)
				img := s.show(page, full(change))
				s.wantSize(img, 320, 1000)
				for y, want := range rows {
					s.wantColor(img, 100, y, want)
				}
			})
		}
		clip := s.show(page, func(spec *job.Spec) { spec.Clip = "0,300,320,400" })
		for _, y := range []int{110, 190, 210, 290, 310, 390} {
			s.wantColor(clip, 100, y, green)
		}
		far := s.show(page, func(spec *job.Spec) { spec.Selector = "#far" })
		s.wantColor(far, 100, 50, green)
		// The page's own, and a part of it as it is seen.
		const own = `<body style="background:linear-gradient(#00ff00 50px,#0000ff 0) fixed"><div style="height:1000px"></div>`
		img := s.show(own, full(nil))
		s.wantColor(img, 100, 10, green)
		s.wantColor(img, 100, 190, blue)
		s.wantColor(img, 100, 900, blue)
		for _, change := range []func(*job.Spec){
			func(spec *job.Spec) { spec.Clip = "0,0,320,150" },
			func(spec *job.Spec) { spec.Selector = "b" },
		} {
			img := s.show(`<style>body{background:linear-gradient(#00ff00 50%,#0000ff 0) fixed}</style><b style="display:block;height:150px"></b><div style="height:1000px"></div>`, change)
			s.wantSize(img, 320, 150)
			s.wantColor(img, 100, 90, green)
			s.wantColor(img, 100, 110, blue)
		}
	})
	t.Run("what is as high as the view while views are put together", func(t *testing.T) {
		s := all.with(t)
		// In a closed tree: what is fixed there stays as it is.
		const page = `<style>div{height:100vh;background:#0000ff}i{display:block;height:20px}</style><div></div><i></i><div></div><span id=host></span><div></div><script>
			host.attachShadow({mode: 'closed'}).innerHTML = '<p style="margin:0;height:130px;background:linear-gradient(#00ff00,#00ff00) fixed">'</script>`
		for _, scale := range []float64{1, 1.5} {
			img := s.show(page, full(func(spec *job.Spec) { spec.FullPageMode, spec.DeviceScaleFactor = "stitch", scale }))
			s.wantSize(img, up(320*scale), up(750*scale))
			for y, want := range map[float64]color.RGBA{10: blue, 195: blue, 210: white, 225: blue, 415: blue, 425: green, 480: green, 545: green, 555: blue, 745: blue} {
				s.wantColor(img, 10, int(y*scale), want)
			}
		}
	})
	t.Run("too large", func(t *testing.T) {
		s := all.with(t)
		for _, test := range []struct {
			height int
			mode   string
			format job.Format
		}{{17_000, "native", job.PNG}, {17_000, "", job.WebP}, {70_000, "", job.JPEG}, {1_000_000, "", job.PNG}} {
			out := s.render(full(func(spec *job.Spec) {
				spec.HTML = fmt.Sprintf(`<body style="margin:0;height:%dpx">`, test.height)
				spec.FullPageMode, spec.Format, spec.SkipScroll = test.mode, test.format, true
			}))
			if out.Failure == nil || out.Failure.Code != job.PageTooLarge {
				t.Errorf("%+v: %v", test, out.Failure)
				continue
			}
			t.Log(out.Failure.Detail)
		}
	})
}

func up(pixels float64) int {
	n := int(pixels)
	if float64(n) < pixels-1e-6 {
		n++
	}
	return n
}
