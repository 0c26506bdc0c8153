package worker_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// TestPageBreaks: a document of 100,000 pages ends in words within its time,
// which is all that is promised of it, and the next render is right.
func TestPageBreaks(t *testing.T) {
	b := newBench(t, nil)
	b.wantWell()
	page := "<!doctype html><body style='margin:0;background:#0000ff'>" + strings.Repeat("<p style='break-after:page'>x</p>", 100_000)
	// On a slow machine it is not even laid out in the shorter one.
	for _, limit := range []time.Duration{3 * time.Second, 12 * time.Second} {
		<-b.seat.Ready()
		began := time.Now()
		out := b.render(func(s *job.Spec) { s.HTML, s.Format, s.TimeoutMS = page, job.PDF, int(limit.Milliseconds()) })
		took := time.Since(began)
		f := out.Failure
		if f == nil || f.Detail == "" || out.Artifact != nil || !slices.Contains([]job.Code{job.PageTooLarge, job.CaptureTimeout, job.LoadTimeout, job.OutOfMemory}, f.Code) {
			t.Errorf("in %s: ended with %v", limit, f)
		}
		if took > limit+2*time.Second {
			t.Errorf("it took %s, and had %s", took, limit)
		}
		t.Logf("%s of %s: %v", took.Round(time.Millisecond), limit, f)
		b.wantWell()
	}
}
