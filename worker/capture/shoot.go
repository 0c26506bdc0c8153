package capture

import (
	"bytes"
	"context"
	"errors"
	"image"
	_ "image/jpeg" // to read the size of what was captured
	_ "image/png"
	"math"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

// shoot captures a picture of the viewport or of the full page.
func (a *attempt) shoot(ctx context.Context) (*Artifact, *job.Failure) {
	shot := proto.PageCaptureScreenshot{Format: proto.PageCaptureScreenshotFormatPng, OptimizeForSpeed: true}
	if a.spec.Format == job.JPEG {
		shot.Format, shot.Quality = proto.PageCaptureScreenshotFormatJpeg, &a.spec.Quality
	}
	if a.spec.FullPage {
		clip, fail := a.fullPage(ctx)
		if fail != nil {
			return nil, fail
		}
		shot.Clip, shot.CaptureBeyondViewport = clip, true
	}
	body, fail := a.twice(ctx, func(limit time.Duration) ([]byte, error) { return a.tab.Screenshot(ctx, limit, shot) })
	if fail != nil {
		return nil, fail
	}
	conf, _, err := image.DecodeConfig(bytes.NewReader(body))
	if err != nil {
		a.odd = "protocol"
		return nil, job.Fail(job.Internal, job.StageCapture, "the browser sent a picture that cannot be read: %v", err)
	}
	return &Artifact{Body: body, Width: conf.Width, Height: conf.Height}, nil
}

// fullPage measures the page at the width of the viewport.
func (a *attempt) fullPage(ctx context.Context) (*proto.PageViewport, *job.Failure) {
	var m *proto.PageGetLayoutMetricsResult
	_, fail := a.twice(ctx, func(limit time.Duration) (_ []byte, err error) {
		m, err = proto.PageGetLayoutMetrics{}.Call(a.tab.Within(ctx, limit))
		return nil, err
	})
	if fail != nil {
		return nil, fail
	}
	height := float64(a.spec.Height)
	if m.CSSContentSize != nil {
		height = max(1, math.Ceil(m.CSSContentSize.Height))
	}
	if side := height * a.spec.DeviceScaleFactor; side > maxSide {
		return nil, tooLarge(job.StageCapture, side)
	}
	return &proto.PageViewport{Width: float64(a.spec.Width), Height: height, Scale: 1}, nil
}

// twice makes one call that needs the page's process, and again after stopping
// what may keep it from answering: a script that never ends, or a navigation
// under way, which leaves no frame to capture.
func (a *attempt) twice(ctx context.Context, call func(limit time.Duration) ([]byte, error)) ([]byte, *job.Failure) {
	if a.track.restless() {
		a.hold(ctx)
	}
	body, err := call(max(time.Until(a.end)/2, 50*time.Millisecond))
	if errors.Is(err, browser.ErrUnanswered) {
		a.odd = "unanswered"
		a.stopScripts(ctx)
		a.stopLoading(ctx)
		body, err = call(max(time.Until(a.end), 50*time.Millisecond))
	}
	for try := 0; notActive(err) && try < maxMoves && time.Now().Before(a.end); try++ {
		a.hold(ctx)
		a.stopLoading(ctx)
		pause, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		a.track.wait(pause, a.tab, func(t *tracker) bool { return t.reached("load") })
		cancel()
		body, err = call(max(time.Until(a.end), 50*time.Millisecond))
	}
	switch {
	case err == nil:
		return body, nil
	case notActive(err):
		return nil, job.Fail(job.CaptureTimeout, job.StageCapture, "the page goes on replacing its document and never stands still")
	}
	return nil, a.broken(ctx, job.StageCapture, err)
}

// notActive knows Chromium's text for a tab that is between two documents.
func notActive(err error) bool {
	pe, ok := errors.AsType[*browser.ProtocolError](err)
	return ok && strings.Contains(pe.Message, "Not attached to an active page")
}
