package capture

import (
	"context"
	_ "embed"
	"math"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// elementScript is called with (a CSS selector, how long to wait in ms, calmScript
// or null and its limit) and returns what element describes.
//
//go:embed element.js
var elementScript string

// elementLimit is how long the element that is captured may take to load what
// it shows.
const elementLimit = 1500 * time.Millisecond

// An element is where the one stands that the selector finds, in CSS pixels of
// the document.
type element struct {
	Wrong               bool // the selector is none
	Moving              bool // something of it does that was waited for
	X, Y, Width, Height float64
}

// element finds what the selector means, and with wait brings it into view.
func (a *attempt) element(ctx context.Context, wait time.Duration) (e element, err error) {
	var calm any
	if wait > 0 && !a.acting && !a.spec.Deterministic && !a.calms() {
		calm = code(calmScript)
	}
	limit := min(calmLimit, max(0, time.Until(a.loadEnd)))
	call := calling(elementScript, a.spec.Selector, wait.Milliseconds(), calm, limit.Milliseconds())
	return e, a.evaluate(ctx, call, wait+limit+3*time.Second, &e)
}

// elementRegion is the region of that element; ok is false when there is none
// that can be seen.
func (a *attempt) elementRegion(ctx context.Context, scale float64) (r region, ok bool, fail *job.Failure) {
	e, err := a.element(ctx, 0)
	switch {
	case err != nil:
		return r, false, a.unready(ctx, err)
	case e.Wrong:
		return r, false, job.Fail(job.SelectorNotFound, job.StageCapture, "selector is not a CSS selector: %q", a.spec.Selector)
	}
	// Boxes are painted from and to the nearest pixel.
	r.x, r.y = max(0, int(math.Round(e.X*scale))), max(0, int(math.Round(e.Y*scale)))
	r.w, r.h = int(math.Round((e.X+e.Width)*scale))-r.x, int(math.Round((e.Y+e.Height)*scale))-r.y
	if r.w > 0 && r.h > 0 {
		return r, true, nil
	}
	if a.spec.FailIfSelectorMissing {
		return r, false, job.Fail(job.SelectorNotFound, job.StageCapture, "selector finds nothing on the page that has a size: %q", a.spec.Selector)
	}
	return r, false, nil
}
