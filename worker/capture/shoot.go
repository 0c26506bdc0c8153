package capture

import (
	"bytes"
	"context"
	"errors"
	"image"
	_ "image/jpeg" // to read the size of what was captured
	_ "image/png"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"
	_ "golang.org/x/image/webp"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/picture"
)

// maxPixels are the largest pictures by format: area, and longest side, in
// device pixels. A PNG is written as it is captured, a JPEG keeps 1.5 bytes a
// pixel, a WebP is made by the browser alone; the sides of the two have 16 and
// 14 bits in their files.
var maxPixels = map[job.Format]struct{ area, side int }{
	job.PNG:  {300_000_000, 1_000_000},
	job.JPEG: {150_000_000, picture.MaxJPEG},
	job.WebP: {maxArea, 1<<14 - 1},
}

// shoot captures a picture of the viewport, the full page or a part of it.
func (a *attempt) shoot(ctx context.Context) (*Artifact, *job.Failure) {
	r, fail := a.region(ctx)
	if fail != nil {
		return nil, fail
	}
	format := a.spec.Format
	switch most := maxPixels[format]; {
	case r.w*r.h > most.area || max(r.w, r.h) > most.side:
		return nil, job.Fail(job.PageTooLarge, job.StageCapture,
			"the picture would be %d by %d device pixels; a %s has at most %d a side and %d million in all: give max_height, lower width or device_scale_factor, or ask for format %s",
			r.w, r.h, format, most.side, most.area/1_000_000, elsewhere(format))
	case a.spec.FullPageMode == "native" && !r.oneShot():
		return nil, job.Fail(job.PageTooLarge, job.StageCapture,
			"the picture would be %d by %d device pixels; native captures at most %d a side and %d million in all: leave full_page_mode out, or give max_height",
			r.w, r.h, maxSide, maxOne/1_000_000)
	}
	stitch := a.spec.FullPageMode == "stitch" && r.whole
	if r.oneShot() && !stitch || format == job.WebP && r.w*r.h <= maxArea && !stitch {
		return a.once(ctx, r)
	}
	var to picture.Writer
	if format == job.JPEG {
		to = picture.NewJPEG(r.w, r.h, a.spec.Quality, maxFile)
	} else {
		to = picture.NewPNG(r.w, r.h, a.spec.Transparent, a.careful(), maxFile)
	}
	if stitch {
		fail = a.stitch(ctx, r, to)
	} else {
		fail = a.pixels(ctx, r, to)
	}
	if fail != nil {
		return nil, fail
	}
	body, err := to.Close()
	if err != nil {
		return nil, a.unwritten(err)
	}
	if format == job.WebP {
		if body, fail = a.webp(ctx, body); fail != nil {
			return nil, fail
		}
	}
	return &Artifact{Body: body, Width: r.w, Height: r.h}, nil
}

// elsewhere is a format that takes larger pictures.
func elsewhere(f job.Format) job.Format {
	if f == job.PNG {
		return job.PDF
	}
	return job.PNG
}

// careful reports whether the job wants its PNG small rather than soon.
func (a *attempt) careful() bool { return a.spec.OptimizeForSpeed != nil && !*a.spec.OptimizeForSpeed }

// once has the browser make the file itself.
func (a *attempt) once(ctx context.Context, r region) (*Artifact, *job.Failure) {
	var clip *proto.PageViewport
	if !r.viewport {
		clip = r.clip(0, 0, r.w, r.h)
	}
	body, fail := a.snap(ctx, a.spec.Format, clip, a.careful())
	if fail != nil {
		return nil, fail
	}
	conf, _, err := image.DecodeConfig(bytes.NewReader(body))
	if err != nil {
		return nil, a.unreadable(err)
	}
	return &Artifact{Body: body, Width: conf.Width, Height: conf.Height}, nil
}

// snap has the browser make a picture of the viewport, or of the clip.
func (a *attempt) snap(ctx context.Context, format job.Format, clip *proto.PageViewport, careful bool) ([]byte, *job.Failure) {
	shot := proto.PageCaptureScreenshot{
		Format: proto.PageCaptureScreenshotFormat(format), Clip: clip, CaptureBeyondViewport: clip != nil,
	}
	switch format {
	case job.PNG:
		shot.OptimizeForSpeed = !careful
	case job.JPEG, job.WebP:
		shot.Quality = &a.spec.Quality
	}
	return a.insist(ctx, func(ctx context.Context, limit time.Duration) ([]byte, error) {
		return a.tab.Screenshot(ctx, limit, shot)
	})
}

func (a *attempt) unreadable(err error) *job.Failure {
	a.odd = "protocol"
	return job.Fail(job.Internal, job.StageCapture, "the browser sent a picture that cannot be read: %v", err)
}

// insist makes one call that needs the page's process, and makes it again
// after removing what may have kept it from an answer: a script that never
// ends, which is stopped, or a navigation, which takes the frame that the call
// waits for with it, so that the page is held where it is.
func (a *attempt) insist(ctx context.Context, call func(ctx context.Context, limit time.Duration) ([]byte, error)) ([]byte, *job.Failure) {
	const maxTries = 20
	share := time.Until(a.end) / 2 // the first try leaves time for a second
	stopped := false
	for try := 1; ; try++ {
		body, err := a.callUnlessMoved(ctx, max(share, 50*time.Millisecond), call)
		share = time.Until(a.end)
		over := try == maxTries || share <= 0
		switch {
		case err == nil:
			return body, nil
		case errors.Is(err, browser.ErrUnanswered) && !stopped && !over:
			stopped, a.odd = true, "unanswered"
			a.stopScripts(ctx)
			a.stopLoading(ctx)
		case (errors.Is(err, errMoved) || notActive(err)) && over:
			return nil, job.Fail(job.CaptureTimeout, job.StageCapture, "the page goes on replacing its document and never stands still")
		case errors.Is(err, errMoved): // it is held now
		case notActive(err):
			a.hold(ctx)
			pause, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			a.track.wait(pause, a.tab, func(*tracker) bool { return false })
			cancel()
		default:
			return nil, a.broken(ctx, job.StageCapture, err)
		}
	}
}

// callUnlessMoved gives the call up with errMoved, and holds the page, when
// that goes on replacing its document, or replaced it under the call and a
// quarter of the limit later there is no answer: a capture may be lost with
// the document it was of.
func (a *attempt) callUnlessMoved(ctx context.Context, limit time.Duration, call func(ctx context.Context, limit time.Duration) ([]byte, error)) ([]byte, error) {
	held := a.isHeld || a.holdIfRestless(ctx)
	before := a.track.documentCount()
	callCtx, giveUp := context.WithCancelCause(ctx)
	moved := make(chan bool, 1)
	go func() {
		lost := a.track.wait(callCtx, a.tab, func(t *tracker) bool { return t.commits > before })
		if lost {
			grace, cancel := context.WithTimeout(callCtx, limit/4)
			a.track.wait(grace, a.tab, func(t *tracker) bool { return !held && t.restless() })
			cancel()
			lost = callCtx.Err() == nil
		}
		giveUp(errMoved)
		moved <- lost
	}()
	body, err := call(callCtx, limit)
	giveUp(nil)
	if <-moved {
		a.hold(ctx)
	}
	return body, err
}

// notActive knows Chromium's text for a tab that is between two documents.
func notActive(err error) bool {
	pe, ok := errors.AsType[*browser.ProtocolError](err)
	return ok && strings.Contains(pe.Message, "Not attached to an active page")
}
