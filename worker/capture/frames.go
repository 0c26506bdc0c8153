package capture

import (
	"context"
	_ "embed"
	"image"
	"image/draw"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
)

// Chromium does not draw a frame of another origin while it is out of view,
// and a camera that no page notices does not bring it there: it would be a
// hole in every picture of a full page. Such frames are captured by themselves,
// in a viewport that is high enough for many of them, and put into their places.
// The page notices that: it is captured before, unless its picture is one that is
// put together and written as it comes. Nobody pays for it whose page has no such
// frame.

// framesScript is called in our world with nothing and returns what frame
// describes, of each frame of the document in its order.
//
//go:embed frames.js
var framesScript string

// roomScript is called in our world with a height in CSS pixels.
//
//go:embed room.js
var roomScript string

const (
	maxFrames   = 50              // of one page that are put in
	framesLimit = 2 * time.Second // for one question about them
	viewLimit   = time.Second     // for one to notice that it came into view
	overhead    = 300             // CSS pixels above and below one, for what stands still at the ends of the view
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
	if !a.framed || r.viewport || r.zoom != 1 {
		return nil
	}
	list, err := a.frames(ctx)
	if err != nil || !slices.ContainsFunc(list, func(f frame) bool { return f.missing(r) }) {
		return nil
	}
	return list
}

func (f frame) missing(r region) bool { return f.Far && f.in(r).Overlaps(image.Rect(0, 0, r.w, r.h)) }

// A patch is the picture of a frame.
type patch struct {
	index int         // of the frame among those of the page
	at    image.Point // where it stands in the region
	img   *image.NRGBA
}

// mend draws the patches into rows of a region's picture, from row y on.
func mend(rows *image.NRGBA, y int, patches []patch) {
	for _, p := range patches {
		draw.Draw(rows, p.img.Rect.Add(p.at).Sub(image.Pt(0, y)), p.img, image.Point{}, draw.Src)
	}
}

// patches captures the frames that are missing in a picture of the region. What
// cannot be had by until is left out. The page's viewport is another afterwards.
func (a *attempt) patches(ctx context.Context, r region, before []frame, until time.Time) (got []patch, fail *job.Failure) {
	m := a.screen()
	for _, f := range before {
		if f.missing(r) {
			m.Height = max(m.Height, int(math.Ceil(f.Y+f.Height))+overhead)
		}
	}
	a.pieces = true
	a.hold(ctx)
	m.Height = min(m.Height, int(job.MaxSide/a.spec.DeviceScaleFactor))
	m.ScreenWidth, m.ScreenHeight = nil, nil // a screen is never smaller than what is shown on it
	limit := max(min(time.Until(until)/2, framesLimit), 50*time.Millisecond)
	if err := m.Call(a.tab.Within(ctx, limit)); err != nil {
		return nil, a.ended(ctx, job.StageCapture)
	}
	if err := a.evaluate(ctx, calling(roomScript, m.Height), framesLimit, new(any)); err != nil {
		return nil, a.ended(ctx, job.StageCapture)
	}
	half := time.Now().Add(time.Until(until) / 2) // the rest is for the captures
	now, top, pixels := before, 0.0, 0
	done := make([]bool, len(before))
	for next := -1; ; {
		if next >= 0 {
			top = max(0, now[next].Y-overhead)
		}
		at, err := a.stand(ctx, top, half, "") // what comes into view loads, and is drawn
		if err != nil {
			return got, a.ended(ctx, job.StageCapture)
		}
		near := 0
		if now, err = a.frames(ctx); err == nil {
			for _, f := range now {
				if !f.Far {
					near++
				}
			}
		}
		a.framesReady(ctx, max(min(time.Until(until)/2, framesLimit), 50*time.Millisecond), near)
		if now, err = a.frames(ctx); err != nil || len(now) < len(before) {
			return got, a.ended(ctx, job.StageCapture)
		}
		for i, f := range before {
			to, from := f.in(r), now[i].in(r)
			switch {
			case done[i]:
				continue
			case !f.missing(r), from.Size() != to.Size(), len(got) == maxFrames, pixels+to.Dx()*to.Dy() > maxOne:
				done[i] = true
				continue
			case i != next && (now[i].Y < at.Top || now[i].Y+now[i].Height > at.Top+at.View):
				continue // it is for another turn
			}
			done[i] = true
			if now[i].Far || now[i].Covered {
				continue
			}
			if time.Until(until) < limit/2 {
				return got, nil
			}
			img, fail := a.tile(ctx, r, from.Min.X, from.Min.Y, from.Dx(), from.Dy())
			switch {
			case fail == nil:
			case fail.Code == job.CaptureTimeout: // the page itself is to be had
				return got, nil
			default:
				return got, fail
			}
			got = append(got, patch{index: i, at: to.Min, img: img})
			pixels += to.Dx() * to.Dy()
		}
		if next = slices.Index(done, false); next < 0 || time.Until(until) < limit/2 {
			return got, nil
		}
	}
}

// patchesFirst captures the frames that are missing in a picture which is
// written while it is captured, and brings the page back to where it was: the
// region may be another then.
func (a *attempt) patchesFirst(ctx context.Context, r region, before []frame) (region, []patch, *job.Failure) {
	got, fail := a.patches(ctx, r, before, time.Now().Add(time.Until(a.end)/3))
	if fail != nil {
		return r, nil, fail
	}
	if err := a.screen().Call(a.tab.Within(ctx, framesLimit)); err != nil {
		return r, nil, a.broken(ctx, job.StageCapture, err)
	}
	err := a.evaluate(ctx, calling(roomScript, 0), framesLimit, new(any))
	if err == nil {
		_, err = a.stand(ctx, 0, time.Now().Add(framesLimit), "")
	}
	if err != nil {
		if fail := a.unready(ctx, err); fail != nil {
			return r, nil, fail
		}
	}
	if r, fail = a.region(ctx); fail != nil {
		return r, nil, fail
	}
	after, err := a.frames(ctx)
	if err != nil || len(after) != len(before) {
		return r, nil, a.ended(ctx, job.StageCapture)
	}
	got = slices.DeleteFunc(got, func(p patch) bool { return after[p.index].in(r).Size() != p.img.Rect.Size() })
	for i := range got {
		got[i].at = after[got[i].index].in(r).Min
	}
	return r, got, nil
}

// frameReadyScript is called with a budget and a patience in ms in the world of a
// frame that has a process of its own, and returns whether it is in view.
//
//go:embed frameready.js
var frameReadyScript string

// framesReady waits until the frames of the page that have processes of their
// own have drawn what is in view: the page knows of their load and no more. near
// is how many of the page's frames have just come into view: so many are given
// patience to notice it.
func (a *attempt) framesReady(ctx context.Context, budget time.Duration, near int) {
	list := a.tab.Frames()
	if len(list) > maxFrames {
		list = list[:maxFrames]
	}
	patience := time.Duration(0)
	if near > 0 {
		patience = min(viewLimit, budget)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var drawn atomic.Int64
	for _, f := range list {
		wg.Go(func() {
			c := a.tab.WithinFrame(ctx, f, budget+500*time.Millisecond)
			world, err := proto.PageCreateIsolatedWorld{FrameID: f.ID, WorldName: world}.Call(c)
			if err != nil { // it is gone
				return
			}
			// One that does not answer is shown as it is.
			seen, err := proto.RuntimeEvaluate{
				Expression: calling(frameReadyScript, budget.Milliseconds(), patience.Milliseconds()), ContextID: world.ExecutionContextID, AwaitPromise: true, ReturnByValue: true,
			}.Call(c)
			if err == nil && seen.Result != nil && seen.Result.Value.Bool() && drawn.Add(1) == int64(near) {
				cancel() // the others are out of view
			}
		})
	}
	wg.Wait()
}
