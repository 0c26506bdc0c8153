package worker_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

// What docs/options.md says of a click and of a clip is so.
func TestWordsOfOptions(t *testing.T) {
	m := http.NewServeMux()
	pressed, ended := make(chan struct{}, 1), make(chan struct{})
	m.HandleFunc("GET /never", func(_ http.ResponseWriter, r *http.Request) { // while the render lasts
		select {
		case <-ended:
		case <-r.Context().Done():
		}
	})
	m.HandleFunc("GET /asked", func(_ http.ResponseWriter, r *http.Request) { // until the page is seen to go on
		select {
		case <-pressed:
		case <-r.Context().Done():
		}
	})
	m.HandleFunc("GET /press", func(http.ResponseWriter, *http.Request) { pressed <- struct{}{} })
	page := func(path string) {
		m.HandleFunc("GET /"+path+".html", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, `<body style="margin:0;background:#0000ff"><div id=b style="width:100px;height:50px;background:#ff0000"></div><script>b.onclick = async () => {
				b.style.background = '#ffff00'; setTimeout(() => fetch('/press'), 700); await fetch('/`+path+`'); b.style.background = '#00ff00' }</script>`)
		})
	}
	page("never")
	page("asked")
	site, address := serve(t, m)
	s := &studio{bench: newBench(t, nil, address)}
	click := func(path string, wait job.WaitUntil) func(*job.Spec) {
		return func(spec *job.Spec) {
			spec.URL, spec.WaitUntil, spec.Click, spec.Width, spec.Height = site+path, wait, []string{"#b"}, 200, 100
		}
	}
	img, _ := s.picture(click("/never.html", job.Load))
	close(ended)
	yellow := red
	yellow.G = 255
	s.wantColor(img, 50, 25, yellow) // clicked, and what was asked for not waited for
	for len(pressed) > 0 {
		<-pressed
	}
	img, _ = s.picture(click("/asked.html", job.NetworkIdle0))
	s.wantColor(img, 50, 25, green)

	for background, want := range map[string]bool{"background:#0000ff": true, "": false} {
		img, _ = s.picture(func(spec *job.Spec) {
			spec.HTML, spec.Width, spec.Height, spec.Clip = `<body style="margin:0;`+background+`"><p>x`, 200, 100, "100,50,300,3000"
		})
		beyond := blue
		if !want {
			beyond = white
		}
		s.wantColor(img, 280, 2900, beyond)
		s.wantColor(img, 5, 45, beyond)
	}
}
