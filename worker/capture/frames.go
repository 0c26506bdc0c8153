package capture

import (
	"context"
	_ "embed"
	"image"
	"image/draw"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
)

// Chromium does not draw a frame of another origin while it is out of view,
// and a camera that no page notices does not bring it there: it would be a
// hole in every picture of a full page. Such frames are captured by themselves,
// in a viewport that is high enough for all of them, and put into their places.
// The page has been captured by then, so that it may notice. Nobody pays for it
// whose page has no such frame.

// framesScript is called in our world with nothing and returns what frame
// describes, of each frame of the document in its order.
//
//go:embed frames.js
var framesScript string

const (
	maxFrames   = 50              // of one page that are put in
	framesLimit = 2 * time.Second // for one question about them
)

// A frame is where one of another origin shows what is in it, in CSS pixels of
// the document.
type frame struct {
	X, Y, Width, Height float64
	Far                 bool // out of view
	Covered             bool // by something that is fixed to the viewport
}

// in is where the frame stands in the pixels of a region.
func (f frame) in(r region) image.Rectangle {
	x, y := int(math.Round(f.X*r.scale)), int(math.Round(f.Y*r.scale))
	return image.Rect(x, y, x+int(math.Round(f.Width*r.scale)), y+int(math.Round(f.Height*r.scale))).Sub(image.Pt(r.x, r.y))
}

func (a *attempt) frames(ctx context.Context) (list []frame, err error) {
	return list, a.evaluate(ctx, calling(framesScript), framesLimit, &list)
}

// holes lists the frames of the page, when some will be missing in a picture of
// the region.
func (a *attempt) holes(ctx context.Context, r region) (list []frame) {
	if !a.framed || r.viewport || r.zoom != 1 || !r.oneShot() {
		return nil
	}
	list, err := a.frames(ctx)
	if err != nil || !slices.ContainsFunc(list, func(f frame) bool { return f.missing(r) }) {
		return nil
	}
	return list
}

func (f frame) missing(r region) bool { return f.Far && f.in(r).Overlaps(image.Rect(0, 0, r.w, r.h)) }

// fill draws the frames that are missing in the picture of a region. What cannot
// be had stays as it is.
func (a *attempt) fill(ctx context.Context, r region, all *image.NRGBA, before []frame) *job.Failure {
	m := a.screen()
	for _, f := range before {
		if f.missing(r) {
			m.Height = max(m.Height, int(math.Ceil(f.Y+f.Height)))
		}
	}
	a.hold(ctx)
	m.Height = min(m.Height, int(job.MaxSide/a.spec.DeviceScaleFactor))
	m.ScreenWidth, m.ScreenHeight = nil, nil // a screen is never smaller than what is shown on it
	limit := max(min(time.Until(a.end)/2, framesLimit), 50*time.Millisecond)
	if err := m.Call(a.tab.Within(ctx, limit)); err != nil {
		return a.ended(ctx, job.StageCapture)
	}
	half := time.Now().Add(time.Until(a.end) / 2)        // the rest is for the captures
	if _, err := a.stand(ctx, 0, half, ""); err != nil { // what comes into view loads, and is drawn
		return a.ended(ctx, job.StageCapture)
	}
	a.framesReady(ctx, max(min(time.Until(a.end)/4, framesLimit), 50*time.Millisecond))
	after, err := a.frames(ctx)
	if err != nil {
		return a.ended(ctx, job.StageCapture)
	}
	for i, f := range before {
		if i >= min(len(after), maxFrames) || time.Until(a.end) < limit/2 {
			break
		}
		to, now := f.in(r), after[i]
		from := now.in(r)
		if !f.missing(r) || now.Far || now.Covered || from.Size() != to.Size() {
			continue
		}
		tile, fail := a.tile(ctx, r, from.Min.X, from.Min.Y, from.Dx(), from.Dy())
		switch {
		case fail == nil:
		case fail.Code == job.CaptureTimeout: // the page itself was captured in time
			return nil
		default:
			return fail
		}
		draw.Draw(all, to, tile, image.Point{}, draw.Src)
	}
	return nil
}

// frameReadyScript is called with a budget in ms in the world of a frame that
// has a process of its own, and returns whether it is in view.
//
//go:embed frameready.js
var frameReadyScript string

// framesReady waits until the frames of the page that have processes of their
// own have drawn what is in view: the page knows of their load and no more.
func (a *attempt) framesReady(ctx context.Context, budget time.Duration) {
	list := a.tab.Frames()
	if len(list) > maxFrames {
		list = list[:maxFrames]
	}
	var wg sync.WaitGroup
	for _, f := range list {
		wg.Go(func() {
			c := a.tab.WithinFrame(ctx, f, budget+500*time.Millisecond)
			world, err := proto.PageCreateIsolatedWorld{FrameID: f.ID, WorldName: world}.Call(c)
			if err != nil { // it is gone
				return
			}
			// One that does not answer is shown as it is.
			_, _ = proto.RuntimeEvaluate{
				Expression: calling(frameReadyScript, budget.Milliseconds()), ContextID: world.ExecutionContextID, AwaitPromise: true, ReturnByValue: true,
			}.Call(c)
		})
	}
	wg.Wait()
}
