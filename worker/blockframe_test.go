package worker_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

// TestFramesAreBlocked: frames of the page's own site, of another, and objects
// that are documents are not asked for, whatever process would have them; the
// page is, wherever it leads, and so is what is not a frame.
func TestFramesAreBlocked(t *testing.T) {
	for _, own := range []bool{false, true} {
		t.Run(fmt.Sprintf("own process %t", own), func(t *testing.T) { testFramesAreBlocked(t, newStreet(t, own)) })
	}
}

func testFramesAreBlocked(t *testing.T, s *street) {
	s.mux.HandleFunc("GET /in/{name}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/moves/"+r.PathValue("name"), http.StatusFound)
	})
	s.mux.HandleFunc("GET /moves/{name}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<script>location.replace('/%s')</script>`, r.PathValue("name"))
	})
	for _, path := range []string{"/inner", "/object"} {
		s.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, `<body style="background:#00ff00">`)
		})
	}
	const page = `<iframe FRAME></iframe><iframe src="/inner"></iframe><object data="/object" type="text/html" style="display:block;width:200px;height:100px"></object>
		<iframe srcdoc="<body style='background:#00ff00'>"></iframe><img src="/red.svg" style="display:block">`
	const frame = `<body style="background:#00ff00"><script>fetch('/here/frame')</script>`
	render := func(name string, kinds ...string) *job.Evidence {
		out := s.embed(t, name, page, frame, func(spec *job.Spec) {
			spec.URL, spec.WaitUntil, spec.BlockResources, spec.Width, spec.Height = s.one+"/in/"+name, job.NetworkIdle0, kinds, 300, 460
		})
		if out.Failure != nil {
			t.Fatalf("render: %v (evidence %+v)", out.Failure, out.Evidence)
		}
		if out.Evidence.FinalURL != s.one+"/"+name {
			t.Errorf("the page is %s", out.Evidence.FinalURL)
		}
		b := &bench{TB: t, seat: s.seat, dir: s.dir}
		img := decode(b, out)
		for y, blocked := range map[int]bool{50: true, 150: true, 250: true, 350: false} {
			want := green
			if blocked && kinds != nil {
				want = blue
			}
			b.wantColor(img, 180, y, want)
		}
		b.wantColor(img, 20, 420, red)
		b.wantColor(img, 250, 50, blue)
		if kinds != nil {
			wantPicture(t, img, "block_resources frame")
		}
		return out.Evidence
	}
	if e := render("plain"); len(e.BlockedRequests) > 0 || len(s.here) == 0 {
		t.Errorf("without options %v is blocked, and %d frames came", e.BlockedRequests, len(s.here))
	}
	for len(s.here) > 0 {
		<-s.here
	}
	var told []string
	for _, r := range render("framed", "frame").BlockedRequests {
		told = append(told, r.URL+" "+r.Reason)
	}
	slices.Sort(told)
	if want := []string{s.one + "/inner block_resources", s.one + "/object block_resources", s.two + "/framed-frame block_resources"}; !slices.Equal(told, want) {
		t.Errorf("blocked: %q, want %q", told, want)
	}
	if len(s.here) > 0 {
		t.Error("the frame came")
	}
}
