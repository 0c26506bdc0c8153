package worker_test

import (
	"bytes"
	"fmt"
	"image"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// gallery is a site for the options of a render. An image under /held/ID is
// answered when /release/ID is asked for.
func gallery() http.Handler {
	m := http.NewServeMux()
	var mu sync.Mutex
	gates := map[string]chan struct{}{}
	gate := func(id string) chan struct{} {
		mu.Lock()
		defer mu.Unlock()
		if gates[id] == nil {
			gates[id] = make(chan struct{})
		}
		return gates[id]
	}
	const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="50" height="50"><rect width="50" height="50" fill="#ff0000"/></svg>`
	m.HandleFunc("GET /red.svg", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		io.WriteString(w, svg)
	})
	m.HandleFunc("GET /held/{id}", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate(r.PathValue("id")):
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "image/svg+xml")
		io.WriteString(w, svg)
	})
	m.HandleFunc("GET /release/{id}", func(_ http.ResponseWriter, r *http.Request) { close(gate(r.PathValue("id"))) })
	page := func(path, body string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, `<!doctype html><body style="margin:0;background:#0000ff">`+body)
		})
	}
	page("/long", `<div style="height:900px"></div><img loading=lazy src="/red.svg" style="display:block"><div style="height:50px;background:#00ff00">`)
	page("/later", `<script>setTimeout(()=>document.body.style.background='#00ff00',400)</script>`)
	page("/image-after-load", `<script>onload=()=>{
		const i=new Image; i.src='/held/a'; i.style='display:block'; document.body.append(i); setTimeout(()=>fetch('/release/a'),200)}</script>`)
	page("/quiet", `<script>onload=async()=>{
		for(let i=0;i<4;i++){setTimeout(()=>fetch('/release/q'+i),100);await (await fetch('/held/q'+i)).text()}
		document.body.style.background='#00ff00'}</script>`)
	// Small boxes of all colours, which a codec keeps or does not.
	page("/confetti", `<script>let h = ''
		for (let i = 0; i < 80 * 50; i++) { const n = i * 7919 % 4093; h += '<div style="position:absolute;left:' + i % 80 * 4 + 'px;top:' + Math.floor(i / 80) * 4 +
			'px;width:4px;height:4px;background:rgb(' + [n & 255, n >> 4 & 255, n * 5 & 255] + ')"></div>' }
		document.body.innerHTML = h</script>`)
	page("/wide", `<div style="position:absolute;left:319px;top:199px;width:1px;height:1px;background:#ff0000"></div>
		<div style="position:absolute;left:10vw;bottom:10vh;width:50vw;height:40vh;background:#00ff00">`)
	page("/keep", `<script>if(document.cookie||localStorage.x)document.body.style.background='#ff0000';document.cookie='x=1';localStorage.x=1</script>`)
	page("/broken-images", `<img src="/red.svg"><img src="/nothing.png">`)
	return m
}

func TestOptions(t *testing.T) {
	needtest.Browser(t)
	site, address := serve(t, gallery())
	b := newBench(t, nil, address)
	at := func(path string, change func(*job.Spec)) func(*job.Spec) {
		return func(s *job.Spec) {
			s.URL = site + path
			if change != nil {
				change(s)
			}
		}
	}
	with := func(t *testing.T) *bench { return &bench{TB: t, seat: b.seat, dir: b.dir} }

	t.Run("viewport", func(t *testing.T) {
		b := with(t)
		img, _ := b.picture(at("/wide", nil))
		if img.Bounds() != image.Rect(0, 0, 320, 200) {
			t.Fatalf("size %v", img.Bounds())
		}
		b.wantColor(img, 319, 199, red)
		b.wantColor(img, 318, 199, blue)
		wantPicture(b, img, "width and height", "height", "url")
	})
	t.Run("device scale factor", func(t *testing.T) {
		b := with(t)
		img, _ := b.picture(at("/wide", func(s *job.Spec) { s.DeviceScaleFactor = 2 }))
		if img.Bounds() != image.Rect(0, 0, 640, 400) {
			t.Fatalf("size %v", img.Bounds())
		}
		b.wantColor(img, 639, 399, red)
		b.wantColor(img, 637, 399, blue)
		wantPicture(b, img, "device_scale_factor", "retina")
	})
	t.Run("jpeg", func(t *testing.T) {
		b := with(t)
		sizes := map[int]int{}
		for _, quality := range []int{10, 95} {
			out := b.render(at("/confetti", func(s *job.Spec) { s.Format, s.Quality = job.JPEG, quality }))
			if out.Failure != nil {
				t.Fatal(out.Failure)
			}
			if _, kind, err := image.DecodeConfig(bytes.NewReader(out.Artifact.Body)); err != nil || kind != "jpeg" {
				t.Fatalf("%s, %v", kind, err)
			}
			sizes[quality] = len(out.Artifact.Body)
			corner := bytesOf(decode(b, out)).SubImage(image.Rect(0, 0, 48, 48)) // a codec's noise is large in a png
			wantPicture(b, corner, fmt.Sprint("quality ", quality), "quality")
		}
		if sizes[10] >= sizes[95] {
			t.Errorf("bytes by quality: %v", sizes)
		}
	})
	t.Run("full page", func(t *testing.T) {
		b := with(t)
		img, _ := b.picture(at("/long", func(s *job.Spec) { s.FullPage = true }))
		if img.Bounds() != image.Rect(0, 0, 320, 1000) {
			t.Fatalf("size %v", img.Bounds())
		}
		b.wantColor(img, 10, 10, blue)
		b.wantColor(img, 10, 925, red) // a lazy image far below the viewport
		b.wantColor(img, 10, 990, green)
		wantPicture(b, img, "full_page")
	})
	t.Run("delay", func(t *testing.T) {
		b := with(t)
		img, _ := b.picture(at("/later", func(s *job.Spec) { s.DelayMS = 700 }))
		b.wantColor(img, 10, 10, green)
		wantPicture(b, img, "delay_ms")
	})
	t.Run("image that comes after the load", func(t *testing.T) {
		b := with(t)
		img, _ := b.picture(at("/image-after-load", nil))
		b.wantColor(img, 10, 10, red)
	})
	t.Run("network idle", func(t *testing.T) {
		b := with(t)
		img, e := b.picture(at("/quiet", func(s *job.Spec) { s.WaitUntil = job.NetworkIdle0 }))
		b.wantColor(img, 10, 10, green)
		wantPicture(b, img, "wait_until")
		if len(e.TimedOut) > 0 {
			t.Errorf("timed out: %v", e.TimedOut)
		}
	})
	t.Run("network never idle", func(t *testing.T) {
		b := with(t)
		_, e := b.picture(at("/wide", func(s *job.Spec) {
			s.HTML, s.URL = fmt.Sprintf(`<script>fetch(%q, {mode:'no-cors'})</script>`, site+"/held/never"), ""
			s.WaitUntil, s.TimeoutMS = job.NetworkIdle0, 2000
		}))
		if fmt.Sprint(e.TimedOut) != "[networkidle]" {
			t.Errorf("timed out: %v", e.TimedOut)
		}
	})
	t.Run("dom content loaded", func(t *testing.T) {
		b := with(t)
		_, e := b.picture(at("/", func(s *job.Spec) {
			s.HTML, s.URL = fmt.Sprintf(`<body style="background:#0000ff"><img src=%q style="position:absolute;top:3000px">`, site+"/held/never2"), ""
			s.WaitUntil = job.DOMContentLoaded
		}))
		if len(e.TimedOut) > 0 {
			t.Errorf("timed out: %v", e.TimedOut)
		}
	})
	t.Run("nothing outlives its job", func(t *testing.T) {
		b := with(t)
		for range 2 {
			img, _ := b.picture(at("/keep", nil))
			b.wantColor(img, 10, 10, blue)
		}
	})
	t.Run("unloaded images", func(t *testing.T) {
		b := with(t)
		_, e := b.picture(at("/broken-images", nil))
		if e.UnloadedImages != 1 || len(e.FailedResources) != 1 || e.FailedResources[0] != (job.Resource{URL: site + "/nothing.png", Reason: "404"}) {
			t.Errorf("evidence %+v", e)
		}
	})
	t.Run("html", func(t *testing.T) {
		b := with(t)
		img, e := b.picture(func(s *job.Spec) {
			s.HTML = `<title>Grüße</title><body style="margin:0;background:#0000ff"><iframe src="file:///etc/passwd" style="border:0"></iframe><img src="gone.png">`
		})
		b.wantColor(img, 310, 190, blue)
		b.wantColor(img, 100, 100, blue)
		if e.Title != "Grüße" || e.FinalURL != "" || e.StatusCode != 200 {
			t.Errorf("evidence %+v", e)
		}
		if len(e.FailedResources) != 1 || !strings.HasSuffix(e.FailedResources[0].URL, ".tintype.internal/gone.png") {
			t.Errorf("failed %v", e.FailedResources)
		}
	})
	t.Run("timings", func(t *testing.T) {
		b := with(t)
		out := b.render(at("/later", func(s *job.Spec) { s.DelayMS = 300 }))
		if g := out.Timings; out.Failure != nil || g.WaitMS < 300 || g.TotalMS < g.NavigateMS+g.WaitMS+g.CaptureMS-2 || g.CaptureMS == 0 {
			t.Errorf("timings %+v, %v", g, out.Failure)
		}
	})
	t.Run("document of a page", func(t *testing.T) {
		b := with(t)
		out := b.render(at("/long", func(s *job.Spec) { s.Format = job.PDF }))
		if out.Failure != nil || out.Artifact.Pages != 1 {
			t.Errorf("%v, %+v", out.Failure, out.Artifact)
		}
	})
}
