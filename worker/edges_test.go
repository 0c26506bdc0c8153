package worker_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// TestEdges holds what docs/options.md says of where options end.
func TestEdges(t *testing.T) {
	needtest.Browser(t)
	var mu sync.Mutex
	seen := map[string]string{} // the job's header by path
	note := func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.URL.Path] = r.Header.Get("X-Job")
	}
	m := http.NewServeMux()
	page := func(path string, body func() string) {
		m.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			note(r)
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, `<!doctype html><body style="margin:0;background:#00ff00">`+body())
		})
	}
	var site, other string
	page("/panel", func() string {
		return `<div id=panel style="height:100vh;overflow:auto"><div style="height:900px"></div><div id=end style="height:100px;background:#0000ff"></div></div>`
	})
	page("/page", func() string { return `<iframe src="` + other + `/frame"></iframe>` })
	page("/frame", func() string {
		return `<img src="` + site + `/plain"><script>fetch('` + site + `/fetched').catch(() => {})</script>`
	})
	page("/plain", func() string { return "" })
	page("/fetched", func() string { return "" })
	m.HandleFunc("GET /hop/{n}", func(w http.ResponseWriter, r *http.Request) {
		if n, _ := strconv.Atoi(r.PathValue("n")); n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/hop/%d", n-1), http.StatusFound)
			return
		}
		io.WriteString(w, "there")
	})
	site, address := serve(t, m)
	other, otherAddress := serve(t, m)
	whole := newBench(t, nil, address, otherAddress)
	run := func(name string, test func(*bench)) {
		t.Run(name, func(t *testing.T) { test(&bench{TB: t, seat: whole.seat, dir: whole.dir}) })
	}

	run("redirects", func(b *bench) {
		_, e := b.picture(at(site + "/hop/19"))
		if len(e.Redirects) != 19 {
			b.Errorf("%d redirects", len(e.Redirects))
		}
		b.wantFailure(job.RedirectLoop, at(site+"/hop/20"))
	})
	run("a panel that scrolls by itself", func(b *bench) {
		img, _ := b.picture(at(site+"/panel", func(s *job.Spec) { s.FullPage = true }))
		if h := img.Bounds().Dy(); h != 200 {
			b.Errorf("%d pixels high", h)
		}
		grown := func(s *job.Spec) { s.CSS = "#panel{height:auto!important;overflow:visible!important}" }
		img, _ = b.picture(at(site+"/panel", grown, func(s *job.Spec) { s.FullPage = true }))
		if h := img.Bounds().Dy(); h != 1000 {
			b.Fatalf("grown it is %d pixels high", h)
		}
		b.wantColor(img, 160, 950, blue)
		img, _ = b.picture(at(site+"/panel", grown, func(s *job.Spec) { s.Selector = "#panel" }))
		if h := img.Bounds().Dy(); h != 1000 {
			b.Fatalf("grown and by itself it is %d pixels high", h)
		}
		b.wantColor(img, 160, 950, blue)
	})
	run("headers of other sites' frames", func(b *bench) {
		b.picture(at(site+"/page", func(s *job.Spec) {
			s.Secrets.Headers, s.WaitUntil = map[string]string{"X-Job": "mine"}, job.NetworkIdle0
		}))
		mu.Lock()
		defer mu.Unlock()
		for path, want := range map[string]string{"/page": "mine", "/frame": "", "/plain": "mine", "/fetched": ""} {
			if got, asked := seen[path]; !asked || got != want {
				b.Errorf("%s was asked for (%t) with %q, want %q", path, asked, got, want)
			}
		}
	})
}
