package main

import (
	"bytes"
	"context"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker"
	"github.com/tintype/tintype/worker/capture"
)

// nullSeat is a worker's seat without a browser: it returns one fixed picture
// at once, or after a fixed time, whatever the job, so that what is measured is the control plane. It
// lives here, and the binary that ships cannot link it (main_test.go).
type nullSeat struct {
	picture []byte
	ready   chan struct{} // closed
	slow    time.Duration // what a render takes
}

func nullSeats(n int, slow time.Duration) []worker.Renderer {
	s := &nullSeat{picture: nullPicture(), ready: make(chan struct{}), slow: slow}
	close(s.ready)
	seats := make([]worker.Renderer, n)
	for i := range seats {
		seats[i] = s // it has no state
	}
	return seats
}

// nullPicture is a PNG of one white pixel: 67 bytes or so, the same each time.
func nullPicture() []byte {
	img := image.NewGray(image.Rect(0, 0, 1, 1))
	img.Pix[0] = 0xff
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic("loadtest: one pixel does not encode: " + err.Error())
	}
	return b.Bytes()
}

// Run has nothing to keep ready.
func (s *nullSeat) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// Ready is always.
func (s *nullSeat) Ready() <-chan struct{} { return s.ready }

// Render is the fixed picture, with the evidence that a plain page leaves; a
// page below failing does not answer.
func (s *nullSeat) Render(ctx context.Context, _ job.ID, spec *job.Spec) capture.Outcome {
	if s.slow > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(s.slow):
		}
	}
	if u, err := url.Parse(spec.URL); err == nil && strings.HasPrefix(u.Path, "/"+failing) {
		return capture.Outcome{Failure: job.Fail(job.ConnectionRefused, job.StageNavigate, "null")}
	}
	return capture.Outcome{
		Artifact: &capture.Artifact{Body: s.picture, Width: 1, Height: 1},
		Evidence: &job.Evidence{FinalURL: spec.URL, StatusCode: http.StatusOK, Title: "null"},
	}
}

// failing is where the pages are, of any host, that no null seat renders.
const failing = "fail/"

// swallowing answers uploads itself, as the bucket would, and stores nothing.
type swallowing struct{ next http.RoundTripper }

func (s swallowing) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPut {
		return s.next.RoundTrip(r)
	}
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
		if err := r.Body.Close(); err != nil {
			return nil, err
		}
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Body: http.NoBody, Request: r,
	}, nil
}
