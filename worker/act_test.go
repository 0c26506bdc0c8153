package worker_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

// stage is a site of pages that are told how to be, and acted upon.
func stage() *http.ServeMux {
	m := http.NewServeMux()
	page := func(path, body string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, `<!doctype html><body style="margin:0;background:#0000ff">`+body)
		})
	}
	page("/media", `<style>
		div {width:100px;height:50px;background:#ff0000}
		@media (prefers-color-scheme: dark) {#dark {background:#00ff00}}
		@media (prefers-reduced-motion: reduce) {#still {background:#00ff00}}
		@media print {#print {background:#00ff00}}
		</style><div id=dark></div><div id=still></div><div id=print></div>`)
	m.HandleFunc("GET /status/{code}", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.PathValue("code"))
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		io.WriteString(w, `<!doctype html><body style="margin:0;background:#0000ff">`+r.URL.Query().Get("body"))
	})
	m.HandleFunc("GET /silence", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return m
}

// at asks for a page of the site, with changes to the defaults.
func at(url string, changes ...func(*job.Spec)) func(*job.Spec) {
	return func(s *job.Spec) {
		s.URL = url
		for _, change := range changes {
			change(s)
		}
	}
}

// wantFailure renders what must fail with code, and words in the detail.
func (b *bench) wantFailure(code job.Code, change func(*job.Spec)) *job.Failure {
	b.Helper()
	out := b.render(change)
	if out.Failure == nil || out.Failure.Code != code {
		b.Fatalf("ended with %v, want %s", out.Failure, code)
	}
	return out.Failure
}

func TestStateOfThePage(t *testing.T) {
	needBrowser(t)
	site, address := serve(t, stage())
	whole := newBench(t, nil, address)
	run := func(name string, test func(*bench)) {
		t.Run(name, func(t *testing.T) { test(&bench{TB: t, seat: whole.seat, dir: whole.dir}) })
	}

	run("media", func(b *bench) {
		for name, change := range map[string]func(*job.Spec){
			"nothing": func(*job.Spec) {},
			"dark":    func(s *job.Spec) { s.DarkMode = true },
			"still":   func(s *job.Spec) { s.ReducedMotion = true },
			"print":   func(s *job.Spec) { s.Media = "print" },
			"all":     func(s *job.Spec) { s.DarkMode, s.ReducedMotion, s.Media = true, true, "print" },
		} {
			img, _ := b.picture(at(site+"/media", change))
			for i, of := range []string{"dark", "still", "print"} {
				want := red
				if of == name || name == "all" {
					want = green
				}
				b.wantColor(img, 50, 50*i+25, want)
			}
			b.wantColor(img, 200, 100, blue)
		}
	})
	run("status", func(b *bench) {
		on4xx := func(s *job.Spec) { s.FailOn4xx = true }
		on5xx := func(s *job.Spec) { s.FailOn5xx = true }
		for _, tt := range []struct {
			path  string
			rules func(*job.Spec)
			fails bool
		}{
			{"/status/404", on4xx, true},
			{"/status/404", on5xx, false},
			{"/status/500", on5xx, true},
			{"/status/500", on4xx, false},
			{"/status/499", on4xx, true},
			{"/status/200", func(s *job.Spec) { s.FailOn4xx, s.FailOn5xx = true, true }, false},
			// What counts is the page that stands there in the end.
			{"/status/404?body=<script>location='/status/200'</script>", on4xx, false},
			{"/status/200?body=<script>location='/status/404'</script>", on4xx, true},
		} {
			out := b.render(at(site+tt.path, tt.rules))
			if failed := out.Failure != nil; failed != tt.fails || failed && (out.Failure.Code != job.FailOn || out.Evidence.StatusCode/100 < 4) {
				b.Errorf("%s: %v, evidence %+v", tt.path, out.Failure, out.Evidence)
			}
		}
	})
	run("navigation timeout", func(b *bench) {
		f := b.wantFailure(job.NavigationTimeout, at(site+"/silence", func(s *job.Spec) { s.NavigationTimeoutMS = 300 }))
		if want := "raise navigation_timeout_ms"; !strings.Contains(f.Detail, want) {
			b.Errorf("detail %q, want %q in it", f.Detail, want)
		}
		img, _ := b.picture(at(site+"/media", func(s *job.Spec) { s.NavigationTimeoutMS = 5000 }))
		b.wantColor(img, 200, 100, blue)
	})
}
