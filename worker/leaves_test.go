package worker_test

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// TestLeavesInTheCapture: a page that leaves for an error page of Chromium's
// while it is captured never ends as a picture of that.
func TestLeavesInTheCapture(t *testing.T) {
	b := newBench(t, nil)
	<-b.seat.Ready()
	for after := 0; after <= 152; after += 4 {
		out := b.render(func(s *job.Spec) {
			s.HTML = fmt.Sprintf(`<body style="margin:0;background:#00ff00"><script>onload=()=>setTimeout(()=>{location='http://127.0.0.1:1/'},%d)</script>`, after)
		})
		if out.Failure != nil {
			if out.Failure.Code != job.AddressRefused {
				t.Errorf("after %d ms: %v", after, out.Failure)
			}
			continue
		}
		b.wantColor(decode(b, out), 10, 10, green)
		if out.Evidence.FinalURL != "" { // that of markup is not shown
			t.Errorf("after %d ms: final url %s", after, out.Evidence.FinalURL)
		}
	}
}

// TestLeavesForNothing: an empty page that a page moves on to is no result.
func TestLeavesForNothing(t *testing.T) {
	b := newBench(t, nil)
	<-b.seat.Ready()
	for name, html := range map[string]string{
		"at once":        `<script>location='about:blank'</script>`,
		"after the load": `<body style="background:#0000ff"><script>onload=()=>setTimeout(()=>{location='about:blank#x'},0)</script>`,
	} {
		for _, format := range []job.Format{job.PNG, job.PDF, job.PlainText} {
			b := &bench{TB: t, seat: b.seat, dir: b.dir}
			f := b.wantFailure(job.EmptyResponse, func(s *job.Spec) { s.HTML, s.Format, s.DelayMS = html, format, 500 })
			if !strings.Contains(f.Detail, "about:blank") {
				t.Errorf("%s, %s: %s", name, format, f.Detail)
			}
		}
	}
}

// TestOneDocument: what is put together of many captures shows one document,
// and the evidence is of the same, when the page moves on between them.
func TestOneDocument(t *testing.T) {
	b := newBench(t, nil)
	<-b.seat.Ready()
	var whole, other int
	for _, mode := range []string{"", "stitch"} {
		for after := 200; after <= 1800; after += 800 {
			out := b.render(func(s *job.Spec) {
				s.HTML = fmt.Sprintf(`<title>first</title><body style="margin:0;background:#0000ff"><div style="height:30000px"></div>
					<script>const next=URL.createObjectURL(new Blob(['<title>second</title><body style="margin:0;background:#ff0000"><div style="height:30000px">'],{type:'text/html'}))
					onload=()=>setTimeout(()=>{location=next},%d)</script>`, after)
				s.FullPage, s.SkipScroll, s.FullPageMode, s.TimeoutMS, s.Height = true, true, mode, 30_000, 2000
			})
			if out.Failure != nil {
				t.Errorf("%q, after %d ms: %v", mode, after, out.Failure)
				continue
			}
			want, title := blue, "first"
			if strings.HasPrefix(out.Evidence.FinalURL, "blob:") {
				want, title = red, "second"
				other++
			} else {
				whole++
			}
			if out.Evidence.Title != title {
				t.Errorf("%q, after %d ms: the title is %q, want %q", mode, after, out.Evidence.Title, title)
			}
			img := decode(b, out)
			if img.Bounds() != image.Rect(0, 0, 320, 30_000) {
				t.Errorf("%q, after %d ms: the picture is %v", mode, after, img.Bounds())
			}
			for y := 50; y < img.Bounds().Dy(); y += 100 {
				if r, g, bl, a := img.At(10, y).RGBA(); (color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(bl >> 8), uint8(a >> 8)}) != want {
					t.Errorf("%q, after %d ms: row %d is not of the document that the evidence names", mode, after, y)
					break
				}
			}
		}
	}
	t.Logf("%d of the first document, %d of the second", whole, other)
}

// TestLeavesWhileWritten: a page that moves on while its picture is made WebP of
// does no harm to it.
func TestLeavesWhileWritten(t *testing.T) {
	b := newBench(t, nil)
	<-b.seat.Ready()
	for after := 0; after <= 400; after += 40 {
		out := b.render(func(s *job.Spec) {
			s.HTML = fmt.Sprintf(`<body style="background:#0000ff"><script>onload=()=>setTimeout(()=>{location='https://127.0.0.1:1/'},%d)</script>`, after)
			s.Format, s.ThumbWidth = job.WebP, 100
		})
		if out.Failure != nil && out.Failure.Code != job.AddressRefused {
			t.Errorf("after %d ms: %v", after, out.Failure)
		}
	}
}

// TestMainDocumentIsFollowed: however many requests a page makes, what becomes of
// its document is known.
func TestMainDocumentIsFollowed(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /many", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<script>(async()=>{for(let i=0;i<45;i++)await Promise.all([...Array(100)].map(()=>fetch('data:,x')));location='/missing'})()</script>`)
	})
	url, address := serve(t, mux)
	b := newBench(t, nil, address)
	<-b.seat.Ready()
	out := b.render(func(s *job.Spec) {
		s.URL, s.FailOn4xx, s.WaitUntil, s.TimeoutMS = url+"/many", true, job.NetworkIdle0, 30_000
	})
	if out.Failure == nil || out.Failure.Code != job.FailOn || out.Evidence.StatusCode != http.StatusNotFound {
		t.Errorf("ended with %v, status %d, at %s", out.Failure, out.Evidence.StatusCode, out.Evidence.FinalURL)
	}
}

// TestOwnLimitsAreNamed: a limit of the job's that ended it is told, also where
// the attempt's own time is shorter than timeout_ms.
func TestOwnLimitsAreNamed(t *testing.T) {
	b := newBench(t, nil)
	<-b.seat.Ready()
	spec := job.Defaults()
	spec.HTML, spec.TimeoutMS, spec.WaitFor, spec.WaitTimeoutMS = "<p>", 120_000, "#never", 300
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out := b.seat.Render(ctx, job.NewID(), &spec)
	if out.Failure == nil || out.Failure.Code != job.WaitTimeout || !strings.Contains(out.Failure.Detail, "wait_timeout_ms") {
		t.Errorf("ended with %v", out.Failure)
	}
}
