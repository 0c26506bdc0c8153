package worker_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/tintype/tintype/pkg/job"
)

// TestGiants: what a page makes the browser say may be longer than what is
// listened to. That is no fault of the farm's, and the next render is right.
func TestGiants(t *testing.T) {
	needBrowser(t)
	site, address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, `<!doctype html><body style="margin:0;background:#00ff00"><script>`+map[string]string{
			"/console": `console.error('\x01'.repeat(6e7))`, // six bytes each in JSON
			"/image":   `new Image().src = 'http://127.0.0.1:1/' + 'x'.repeat(4e7)`,
			"/title":   `document.title = '\x01'.repeat(4e7)`,
		}[r.URL.Path]+`</script>`)
	}))
	b := newBench(t, nil, address)
	for _, tt := range []struct {
		path string
		fail bool // fail_on_console_error
		code job.Code
	}{
		{"/console", false, ""},
		{"/console", true, job.FailOn},
		{"/image", false, ""},
		{"/title", false, ""},
	} {
		<-b.seat.Ready()
		out := b.render(at(site+tt.path, func(s *job.Spec) { s.FailOnConsoleError, s.TimeoutMS = tt.fail, 20_000 }))
		switch {
		case tt.code == "" && out.Failure != nil, tt.code != "" && (out.Failure == nil || out.Failure.Code != tt.code):
			t.Errorf("%s ended with %v, want %q", tt.path, out.Failure, tt.code)
		case tt.code == "":
			b.wantColor(decode(b, out), 310, 190, green)
		}
		b.wantWell()
	}
}
