package worker_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// TestGiants: what a page makes the browser say may be longer than what is
// listened to. That is no fault of the farm's, and the next render is right.
func TestGiants(t *testing.T) {
	needtest.Browser(t)
	site, address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, `<!doctype html><body style="margin:0;background:#00ff00"><script>
			console.error('\x01'.repeat(6e6))</script>`) // six bytes each in JSON
	}))
	b := newBench(t, nil, address)
	for _, tt := range []struct {
		fail bool // fail_on_console_error
		code job.Code
	}{
		{false, ""},
		{true, job.FailOn},
	} {
		<-b.seat.Ready()
		out := b.render(at(site, func(s *job.Spec) { s.FailOnConsoleError, s.TimeoutMS = tt.fail, 20_000 }))
		switch {
		case tt.code == "" && out.Failure != nil, tt.code != "" && (out.Failure == nil || out.Failure.Code != tt.code):
			t.Errorf("ended with %v, want %q", out.Failure, tt.code)
		case tt.code == "":
			b.wantColor(decode(b, out), 310, 190, green)
		}
		b.wantWell()
	}
}
