package worker_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/capture"
)

// A street is sites of two registrable domains, over TLS: what the first embeds
// of the other is a frame of another site.
type street struct {
	*bench
	one, two string // URLs without the closing slash
	mux      *http.ServeMux
	own      bool          // frames have processes of their own
	here     chan string   // what said that it is there
	held     chan struct{} // what is held goes on
}

// ownProcess is the header of a document that gets a process of its own in a
// page of another site. Without it headless-shell keeps a page's frames in one.
const ownProcess = "Origin-Agent-Cluster"

func newStreet(t *testing.T, own bool) *street {
	needtest.Browser(t)
	s := &street{mux: http.NewServeMux(), own: own, here: make(chan string, 16), held: make(chan struct{}, 1)}
	port := listen(t, s.mux, true)
	names := []string{"one.test", "two.test"}
	allow := []string{net.JoinHostPort(names[0], port), net.JoinHostPort(names[1], port)}
	s.one, s.two = "https://"+allow[0], "https://"+allow[1]
	s.bench = newBench(t, func(cfg *worker.SeatConfig) {
		var err error
		if cfg.Guard, err = egress.New(egress.Config{Allow: allow, DNS: namesDNS(t, names...)}); err != nil {
			t.Fatal(err)
		}
		cfg.Browser.Bin = trusting(t)
	})
	noise := noisy(t)
	s.mux.HandleFunc("/noise.png", func(w http.ResponseWriter, _ *http.Request) { w.Write(noise) })
	s.mux.HandleFunc("/here/{who}", func(_ http.ResponseWriter, r *http.Request) { s.here <- r.PathValue("who") })
	s.mux.HandleFunc("/held.svg", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-s.held:
		case <-r.Context().Done():
		}
		red50(w)
	})
	s.mux.HandleFunc("/red.svg", func(w http.ResponseWriter, _ *http.Request) { red50(w) })
	return s
}

func red50(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "image/svg+xml")
	io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg" width="50" height="50"><rect width="50" height="50" fill="#ff0000"/></svg>`)
}

// noisy is a picture that takes its time to be decoded; its first columns are
// black.
func noisy(t testing.TB) []byte {
	img := image.NewGray(image.Rect(0, 0, 2500, 2500))
	for i := range img.Pix {
		if i%img.Stride >= 50 {
			img.Pix[i] = byte(rand.Uint32())
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// embed serves a page on the first site with a frame of the second, 200 by 100
// at its top, and renders it.
func (s *street) embed(t *testing.T, name, page, frame string, change func(*job.Spec)) capture.Outcome {
	t.Helper()
	serve := func(path, body string, own bool) {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if own {
				w.Header().Set(ownProcess, "?1")
			}
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, `<!doctype html><style>body{margin:0}iframe{border:0;display:block;width:200px;height:100px}</style>`+body)
		})
	}
	serve("/"+name+"-frame", frame, s.own)
	serve("/"+name, `<body style="background:#0000ff">`+strings.ReplaceAll(page, "FRAME", `src="`+s.two+`/`+name+`-frame"`), false)
	<-s.seat.Ready()
	b := &bench{TB: t, seat: s.seat, dir: s.dir}
	out := b.render(func(spec *job.Spec) {
		spec.URL = s.one + "/" + name
		if change != nil {
			change(spec)
		}
	})
	return out
}

// TestFrames renders pages with frames of another site, which share the page's
// process or have their own.
func TestFrames(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("own process %t", own), func(t *testing.T) { testFrames(t, newStreet(t, own)) })
	}
}

func testFrames(t *testing.T, s *street) {
	shown := func(t *testing.T, out capture.Outcome) (*bench, image.Image) {
		t.Helper()
		b := &bench{TB: t, seat: s.seat, dir: s.dir}
		if out.Failure != nil {
			t.Fatalf("render: %v (evidence %+v)", out.Failure, out.Evidence)
		}
		return b, decode(b, out)
	}
	const frame = `<iframe FRAME></iframe>`

	t.Run("media", func(t *testing.T) {
		const look = `<style>p{margin:0;height:20px;background:#0000ff}
			@media(prefers-color-scheme:dark){#a{background:#ff0000}}@media(prefers-reduced-motion){#b{background:#ff0000}}@media print{#c{background:#ff0000}}</style>
			<p id=a><p id=b><p id=c>`
		b, img := shown(t, s.embed(t, "light", frame, look, nil))
		for _, y := range []int{10, 30, 50} {
			b.wantColor(img, 10, y, blue)
		}
		b, img = shown(t, s.embed(t, "dark", frame, look, func(spec *job.Spec) { spec.DarkMode, spec.ReducedMotion, spec.Media = true, true, "print" }))
		for _, y := range []int{10, 30, 50} {
			b.wantColor(img, 10, y, red)
		}
	})
	t.Run("touch", func(t *testing.T) {
		yes := true
		out := s.embed(t, "touch", frame, `<body style="background:#ff0000"><script>if(navigator.maxTouchPoints===5&&matchMedia('(pointer:coarse)').matches)document.body.style.background='#00ff00'</script>`,
			func(spec *job.Spec) { spec.Touch, spec.Mobile = &yes, &yes })
		b, img := shown(t, out)
		b.wantColor(img, 10, 10, green)
	})
	t.Run("hide_selector is for the page", func(t *testing.T) {
		const part = `<div class=ad style="height:50px;background:#ff0000"></div>`
		b, img := shown(t, s.embed(t, "hide", frame+part, part, func(spec *job.Spec) { spec.HideSelector = ".ad" }))
		b.wantColor(img, 10, 10, red)
		b.wantColor(img, 10, 110, blue)
	})
	t.Run("pictures are there", func(t *testing.T) {
		for i := range 5 {
			b, img := shown(t, s.embed(t, fmt.Sprint("noise", i), frame, `<img src="/noise.png" style="display:block">`, nil))
			b.wantColor(img, 10, 50, black)
		}
	})
	t.Run("out of view", func(t *testing.T) {
		const low = `<img loading=lazy src="/red.svg" style="display:block"><div style="height:50px;background:#00ff00">`
		for name, change := range map[string]func(*job.Spec){
			"walk": nil, "straight": func(spec *job.Spec) { spec.SkipScroll = true }, "jpeg": func(spec *job.Spec) { spec.Format = job.JPEG },
		} {
			out := s.embed(t, "low-"+name, `<div style="height:3000px"></div>`+frame+`<div style="height:100px;background:#ff0000"></div>`, low, func(spec *job.Spec) {
				spec.FullPage = true
				if change != nil {
					change(spec)
				}
			})
			b, img := shown(t, out)
			if img.Bounds() != image.Rect(0, 0, 320, 3200) {
				t.Fatalf("%s: the picture is %v", name, img.Bounds())
			}
			b.wantColor(img, 10, 2990, blue)
			b.wantColor(img, 10, 3010, red)
			b.wantColor(img, 100, 3075, green)
			b.wantColor(img, 250, 3050, blue)
			b.wantColor(img, 10, 3150, red)
		}
	})
	t.Run("out of view, beside what stands still", func(t *testing.T) {
		const bars = `<div style="position:fixed;%s:0;left:0;right:0;height:40px;background:#000000"></div>`
		for name, page := range map[string]string{
			"bottom": `<div style="height:1637px"></div>` + frame + `<div style="height:3000px"></div>` + fmt.Sprintf(bars, "bottom"),
			"top":    `<div style="height:1637px"></div>` + frame + `<div style="height:3000px"></div>` + fmt.Sprintf(bars, "top"),
			"hero":   `<div style="height:100vh"></div><div style="height:1437px"></div>` + frame + `<div style="height:100vh"></div>` + frame,
		} {
			for _, clip := range []string{"", "0,1600,320,200"} {
				out := s.embed(t, "still-"+name+clip, page, `<body style="background:#ff0000">`, func(spec *job.Spec) { spec.FullPage, spec.Clip = clip == "", clip })
				b, img := shown(t, out)
				top := 0
				if clip != "" {
					top = 1600
				}
				b.wantColor(img, 10, 1630-top, blue)
				b.wantColor(img, 10, 1645-top, red)
				b.wantColor(img, 190, 1730-top, red)
				b.wantColor(img, 250, 1680-top, blue)
				if name == "hero" && clip == "" {
					b.wantColor(img, 10, img.Bounds().Dy()-50, red)
				}
			}
		}
	})
	t.Run("out of view, in tiles", func(t *testing.T) {
		const far = `<header style="position:sticky;top:0;height:60px;background:#000000"></header><div style="height:100vh"></div><div style="height:17000px"></div>FRAMES<div style="height:20000px"></div>FRAMES<div style="height:100px;background:#ff0000"></div>`
		const low = `<style>body{background:#00ff00}</style><img src="/red.svg" style="display:block">`
		out := s.embed(t, "far", strings.ReplaceAll(far, "FRAMES", frame), low, func(spec *job.Spec) { spec.FullPage, spec.TimeoutMS = true, 60_000 })
		b, img := shown(t, out)
		view := img.Bounds().Dy() - 60 - 17_000 - 20_000 - 3*100
		if view < 100 || view > 1000 {
			t.Fatalf("the picture is %v", img.Bounds())
		}
		for _, y := range []int{60 + view + 17_000, 60 + view + 17_000 + 100 + 20_000} {
			b.wantColor(img, 10, y-10, blue)
			b.wantColor(img, 10, y+10, red)
			b.wantColor(img, 150, y+80, green)
			b.wantColor(img, 250, y+50, blue)
		}
		b.wantColor(img, 10, img.Bounds().Dy()-50, red)
		b.wantColor(img, 10, view, blue)
	})
	t.Run("out of view, in a frame of the page's own site", func(t *testing.T) {
		const inner = `<div style="height:3000px"></div><iframe style="height:150px" srcdoc='<style>body{margin:0}iframe{border:0;display:block;width:150px;height:100px}</style><iframe FRAME></iframe>'></iframe>`
		out := s.embed(t, "inner", inner, `<body style="background:#ff0000">`, func(spec *job.Spec) { spec.FullPage = true })
		b, img := shown(t, out)
		b.wantColor(img, 10, 2990, blue)
		b.wantColor(img, 10, 3050, red)
		b.wantColor(img, 140, 3090, red)
		b.wantColor(img, 210, 3050, blue)
	})
	t.Run("names in the way of our scripts", func(t *testing.T) {
		const images = `<img name=%s style="display:none">`
		page, low := "", `<body style="background:#ff0000">`
		for _, name := range []string{"querySelectorAll", "elementFromPoint", "documentElement", "images", "readyState", "fonts"} {
			page += fmt.Sprintf(images, name)
			low += fmt.Sprintf(images, name)
		}
		// The way up from the first frame goes from the form to its input, and back.
		page += `<form><input type=hidden name=parentElement>` + frame + `</form><div style="height:3000px"></div>` + frame
		b, img := shown(t, s.embed(t, "names", page, low, func(spec *job.Spec) { spec.FullPage = true }))
		if img.Bounds() != image.Rect(0, 0, 320, 3200) {
			t.Fatalf("the picture is %v", img.Bounds())
		}
		for y, want := range map[int]color.RGBA{50: red, 150: blue, 3050: blue, 3150: red} {
			b.wantColor(img, 10, y, want)
		}
	})
	t.Run("what was not had", func(t *testing.T) {
		out := s.embed(t, "lacks", frame, `<img src="/nothing.png"><img src="https://nobody.test/x.png"><img src="http://10.1.2.3/x.png">
			<img src="/blocked.png"><img src="http://127.0.0.1:1/unsafe.png"><script>fetch('/nothing-fetch')</script>`,
			func(spec *job.Spec) { spec.BlockURLs, spec.WaitUntil = []string{"*/blocked.png"}, job.NetworkIdle0 })
		e := out.Evidence
		for _, want := range []job.Resource{
			{URL: s.two + "/nothing.png", Reason: "404"},
			{URL: s.two + "/nothing-fetch", Reason: "404"},
			{URL: "https://nobody.test/x.png", Reason: "name_not_resolved"},
		} {
			if !slices.Contains(e.FailedResources, want) {
				t.Errorf("failed_resources are %v, want %v", e.FailedResources, want)
			}
		}
		for _, want := range []job.Resource{
			{URL: s.two + "/blocked.png", Reason: "block_urls"},
			{URL: "http://10.1.2.3/x.png", Reason: "address_refused"},
			{URL: "http://127.0.0.1:1/unsafe.png", Reason: "address_refused"},
		} {
			if !slices.Contains(e.BlockedRequests, want) {
				t.Errorf("blocked_requests are %v, want %v", e.BlockedRequests, want)
			}
		}
		if n := len(e.FailedResources) + len(e.BlockedRequests); n != 6 {
			t.Errorf("%d are told of: %v, %v", n, e.FailedResources, e.BlockedRequests)
		}
	})
	t.Run("network idle", func(t *testing.T) {
		const asking = `<script>fetch('/held.svg');parent.postMessage('asked','*')</script>`
		out := s.embed(t, "asks", frame, asking, func(spec *job.Spec) { spec.WaitUntil, spec.TimeoutMS = job.NetworkIdle0, 3000 })
		if shown(t, out); fmt.Sprint(out.Evidence.TimedOut) != "[networkidle]" {
			t.Errorf("timed out: %v", out.Evidence.TimedOut)
		}
		out = s.embed(t, "asks-two", frame, asking, func(spec *job.Spec) { spec.WaitUntil, spec.TimeoutMS = job.NetworkIdle2, 15000 })
		if shown(t, out); len(out.Evidence.TimedOut) > 0 {
			t.Errorf("one request, networkidle2: timed out: %v", out.Evidence.TimedOut)
		}
		out = s.embed(t, "asks-and-goes", frame+`<script>onmessage=()=>document.querySelector('iframe').remove()</script>`, asking,
			func(spec *job.Spec) { spec.WaitUntil, spec.TimeoutMS = job.NetworkIdle0, 15000 })
		if shown(t, out); len(out.Evidence.TimedOut) > 0 {
			t.Errorf("the frame that asked is gone: timed out: %v", out.Evidence.TimedOut)
		}
	})
	t.Run("a frame that is an error page", func(t *testing.T) {
		out := s.embed(t, "gone", `<iframe src="`+s.two+`/nowhere"></iframe>`, "", nil)
		if e := out.Evidence; len(e.FailedResources) != 1 || e.FailedResources[0] != (job.Resource{URL: s.two + "/nowhere", Reason: "404"}) {
			t.Errorf("failed_resources are %v", e.FailedResources)
		}
	})
	t.Run("dialogs", func(t *testing.T) {
		b, img := shown(t, s.embed(t, "alerts", frame, `<script>alert(1);confirm(2);prompt(3)</script><body style="background:#ff0000">`, nil))
		b.wantColor(img, 10, 10, red)
	})
	if !s.own {
		return
	}
	t.Run("a frame that spins", func(t *testing.T) {
		out := s.embed(t, "spins", `<iframe FRAME></iframe><div style="height:50px;background:#ff0000">`, `<script>onload=()=>{for(;;);}</script>`,
			func(spec *job.Spec) { spec.TimeoutMS = 4000 })
		b, img := shown(t, out)
		b.wantColor(img, 10, 125, red)
		if !slices.Contains(out.Evidence.TimedOut, "load") {
			t.Errorf("timed out: %v", out.Evidence.TimedOut)
		}
		b.wantWell()
	})
	t.Run("a frame whose process ends", func(t *testing.T) {
		rendered := make(chan capture.Outcome, 1)
		go func() {
			rendered <- s.embed(t, "ends", frame+`<img src="/held.svg">`, `<script>window.fat=new Uint8Array(200<<20).fill(1);fetch('/here/fat')</script>`, nil)
		}()
		<-s.here
		fattest, most := 0, 0
		for _, pid := range s.group()["renderer"] {
			stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
			if f := strings.Fields(string(stat)); len(f) > 1 {
				if pages, _ := strconv.Atoi(f[1]); pages > most {
					fattest, most = pid, pages
				}
			}
		}
		fd, err := unix.PidfdOpen(fattest, 0)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Kill(fattest, syscall.SIGKILL)
		ended(t, fd)
		unix.Close(fd)
		s.held <- struct{}{}
		out := <-rendered
		b, img := shown(t, out)
		b.wantColor(img, 10, 110, red)
		if want := (job.Resource{URL: s.two + "/ends-frame", Reason: "crashed"}); !slices.Contains(out.Evidence.FailedResources, want) {
			t.Errorf("failed_resources are %v, want %v", out.Evidence.FailedResources, want)
		}
		b.wantWell()
	})
}
