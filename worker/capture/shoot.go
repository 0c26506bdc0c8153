package capture

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	_ "image/jpeg" // to read the size of what was captured
	_ "image/png"
	"strconv"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"
	_ "golang.org/x/image/webp"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/picture"
)

// shoot captures a picture of the viewport, the full page or a part of it.
func (a *attempt) shoot(ctx context.Context) (*Artifact, *job.Failure) {
	r, fail := a.region(ctx)
	if fail != nil {
		return nil, fail
	}
	size, fit, fail := a.fit(r)
	if fail != nil {
		return nil, fail
	}
	stitch := a.spec.FullPageMode == "stitch" && r.whole
	var missing []frame
	if !stitch {
		missing = a.holes(ctx, r)
	}
	var patches []patch
	if missing != nil && !r.oneShot() {
		if r, patches, fail = a.patchesFirst(ctx, r, missing); fail != nil {
			return nil, fail
		}
		if size, fit, fail = a.fit(r); fail != nil {
			return nil, fail
		}
		missing = nil
	}
	if !stitch && fit == nil && missing == nil && patches == nil && (r.oneShot() || a.spec.Format == job.WebP) {
		return a.once(ctx, r)
	}
	to := a.file(r.w, r.h)
	if fit != nil {
		to = picture.NewSmall(r.w, r.h, *fit, a.file)
	}
	if stitch {
		fail = a.stitch(ctx, r, to)
	} else {
		fail = a.pixels(ctx, r, to, missing, patches)
	}
	if fail != nil {
		return nil, fail
	}
	body, err := to.Close()
	if err != nil {
		return nil, a.unwritten(err)
	}
	if a.spec.Format == job.WebP {
		if body, fail = a.webp(ctx, body); fail != nil {
			return nil, fail
		}
	}
	return &Artifact{Body: body, Width: size.X, Height: size.Y}, nil
}

// file starts the file of a picture; one that is to be WebP is a PNG first.
func (a *attempt) file(w, h int) picture.Writer {
	if a.spec.Format == job.JPEG {
		return picture.NewJPEG(w, h, a.spec.Quality, maxFile)
	}
	alpha := a.spec.Transparent || a.spec.ImgFit == "contain"
	return picture.NewPNG(w, h, alpha, a.careful(), maxFile)
}

// fit is the size of the picture, and how what was captured becomes it; nil if
// it is as it was captured. What cannot come out right is refused.
func (a *attempt) fit(r region) (image.Point, *picture.Fit, *job.Failure) {
	s, size := a.spec, image.Pt(r.w, r.h)
	captured := s.Format
	_, longest := s.Format.Bounds()
	var fit *picture.Fit
	if s.ThumbWidth > 0 || s.ThumbHeight > 0 {
		captured = job.PNG
		fit = &picture.Fit{Width: s.ThumbWidth, Height: s.ThumbHeight, Mode: s.ImgFit, Position: s.ImgPosition, Background: background(s.ImgBG)}
		var pixels int
		if size, pixels = fit.Result(r.w, r.h); pixels > job.MaxThumb || max(size.X, size.Y) > longest {
			return size, nil, job.Fail(job.PageTooLarge, job.StageCapture,
				"the picture of %d by %d pixels would be made %d by %d; a thumbnail has at most %d a side and %d million in all: lower thumb_width or thumb_height, or give both with img_fit cover",
				r.w, r.h, size.X, size.Y, longest, job.MaxThumb/1_000_000)
		}
	}
	switch area, side := captured.Bounds(); {
	case r.w*r.h > area || max(r.w, r.h) > side:
		return size, nil, job.Fail(job.PageTooLarge, job.StageCapture,
			"the picture would be %d by %d device pixels; a %s has at most %d a side and %d million in all: give max_height, lower width or device_scale_factor, or ask for format %s",
			r.w, r.h, captured, side, area/1_000_000, elsewhere(captured))
	case s.FullPageMode == "native" && r.whole && !r.oneShot():
		return size, nil, job.Fail(job.PageTooLarge, job.StageCapture,
			"the picture would be %d by %d device pixels; native captures at most %d a side and %d million in all: leave full_page_mode out, or give max_height",
			r.w, r.h, job.MaxSide, maxOne/1_000_000)
	}
	return size, fit, nil
}

// background reads the colour that a picture is padded with: RGB, RRGGBB or
// RRGGBBAA in hex. Empty is white.
func background(hex string) color.NRGBA {
	hex = strings.TrimPrefix(hex, "#")
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	if len(hex) == 6 {
		hex += "ff"
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		return color.NRGBA{R: 255, G: 255, B: 255, A: 255}
	}
	return color.NRGBA{R: uint8(n >> 24), G: uint8(n >> 16), B: uint8(n >> 8), A: uint8(n)}
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
	const maxTries, maxEmpty = 20, 5
	share := time.Until(a.end) / 2 // the first try leaves time for a second
	stopped, empty := false, 0
	for try := 1; ; try++ {
		body, err := a.callUnlessMoved(ctx, max(share, 50*time.Millisecond), call)
		share = time.Until(a.end)
		over := try == maxTries || share <= 0
		if isEmpty(err) {
			empty++
		}
		switch {
		case err == nil:
			return body, nil
		case errors.Is(err, browser.ErrUnanswered) && !stopped && !over:
			stopped, a.odd = true, "unanswered"
			a.stopScripts(ctx)
			a.stopLoading(ctx)
		case (errors.Is(err, errMoved) || notActive(err)) && over:
			return nil, a.restless(job.StageCapture)
		case errors.Is(err, errMoved): // it is held now
		case notActive(err), isEmpty(err) && empty < maxEmpty && !over:
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

// isEmpty knows Chromium's text for a capture that came out without a pixel: its
// document was on its way out.
func isEmpty(err error) bool {
	pe, ok := errors.AsType[*browser.ProtocolError](err)
	return ok && strings.Contains(pe.Message, "Unable to capture screenshot")
}
