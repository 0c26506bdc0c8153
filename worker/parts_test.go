package worker_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"syscall"
	"testing"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/needtest"
)

// TestPartsOfABrowserFail kills what Chromium starts again by itself, and stops
// what it does not notice, in the middle of a render that waits for its image:
// the attempt ends within its time, and the next is right.
func TestPartsOfABrowserFail(t *testing.T) {
	needtest.Browser(t)
	arrived := make(chan struct{}, 16)
	url, address := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, `<!doctype html><body style="background:#0000ff">text<img src=/pending>`)
			return
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	b := newBench(t, nil, address)
	b.wantWell()
	for _, c := range []struct {
		name, kind string
		signal     syscall.Signal
		ends       []job.Code // "" is a picture
	}{
		{"kill the GPU process", "gpu-process", syscall.SIGKILL, []job.Code{""}},
		{"kill the network service", "utility", syscall.SIGKILL, []job.Code{"", job.ConnectionReset, job.LoadTimeout}},
		{"stop the renderer", "renderer", syscall.SIGSTOP, []job.Code{job.LoadTimeout, job.CaptureTimeout}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &bench{TB: t, seat: b.seat, dir: b.dir}
			<-b.seat.Ready()
			spec := job.Defaults()
			spec.URL, spec.TimeoutMS = url, 6000
			ended := make(chan job.Code, 1)
			go func() {
				out := b.seat.Render(context.Background(), job.NewID(), &spec)
				if out.Failure == nil {
					ended <- ""
					return
				}
				ended <- out.Failure.Code
			}()
			<-arrived
			pids := b.group()[c.kind]
			if len(pids) == 0 {
				t.Fatalf("no process of kind %q in %v", c.kind, b.group())
			}
			for _, pid := range pids {
				syscall.Kill(pid, c.signal)
			}
			if code := <-ended; !slices.Contains(c.ends, code) {
				t.Errorf("ended with %q, want one of %q", code, c.ends)
			}
			for len(arrived) > 0 {
				<-arrived
			}
			b.wantWell()
		})
	}
}
