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
)

// shoot captures a picture of the viewport, the full page or a part of it.
func (a *attempt) shoot(ctx context.Context) (*Artifact, *job.Failure) {
	r, fail := a.region(ctx)
	if fail != nil {
		return nil, fail
	}
	if fail := fits(job.StageCapture, r.w, r.h); fail != nil {
		return nil, fail
	}
	var clip *proto.PageViewport
	if !r.viewport {
		clip = r.clip(0, 0, r.w, r.h)
	}
	body, fail := a.snap(ctx, a.spec.Format, clip)
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
func (a *attempt) snap(ctx context.Context, format job.Format, clip *proto.PageViewport) ([]byte, *job.Failure) {
	shot := proto.PageCaptureScreenshot{
		Format: proto.PageCaptureScreenshotFormat(format), Clip: clip, CaptureBeyondViewport: clip != nil,
	}
	switch format {
	case job.PNG:
		shot.OptimizeForSpeed = a.spec.OptimizeForSpeed == nil || *a.spec.OptimizeForSpeed
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
