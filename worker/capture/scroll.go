package capture

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-rod/rod/lib/proto"
)

const (
	// scrollLimit is the longest that a walk through a page takes, and at most
	// half of what is left for the waits.
	scrollLimit = 15 * time.Second
	// stepLimit is how long one step waits for what came into view, beside the
	// browser's own work; a stream that never ends costs one.
	stepLimit = 1500 * time.Millisecond
	// calmLimit is how long a page, or a view of it, may take until what moves in
	// it has ended.
	calmLimit = 2 * time.Second
	// maxGrowth is how far, in CSS pixels, a page is followed that grows while it
	// is walked through: one without an end is left there.
	maxGrowth = 20_000
)

//go:embed scroll.js
var scrollScript string

// A place is where a walk stands, in CSS pixels of the document.
type place struct {
	Top    float64 `json:"top"`
	Height float64 `json:"height"` // of the document
	View   float64 `json:"view"`   // height of the viewport
	Still  bool    `json:"still"`  // nothing moves that was waited for
}

// walk goes through the page from its top to its end and back, so that it loads
// what it loads only when that comes into view. At each step it waits until the
// requests that the step made are answered, and looks again whether the answers
// made more.
func (a *attempt) walk(ctx context.Context) error {
	end := time.Now().Add(min(time.Until(a.loadEnd)/2, scrollLimit))
	at, err := a.stand(ctx, 0, end, "")
	if err != nil {
		return err
	}
	limit := max(at.Height, maxGrowth)
	if a.spec.MaxHeight > 0 {
		limit = min(limit, float64(a.spec.MaxHeight))
	}
	step := max(at.View, 50)
	if a.spec.ScrollIncrementPX > 0 {
		step = float64(a.spec.ScrollIncrementPX)
	}
	if at.Top+at.View >= min(at.Height, limit) { // all of it was in view
		return nil
	}
	for at.Top+at.View < min(at.Height, limit) {
		if time.Now().After(end) {
			a.late("scroll")
			break
		}
		next, err := a.stand(ctx, at.Top+step, end, "")
		if err != nil {
			return err
		}
		if next.Top <= at.Top { // it does not let itself be scrolled further
			break
		}
		at = next
	}
	_, err = a.stand(ctx, 0, end, "")
	return err
}

// stand scrolls to top and waits there until what came into view has come. view
// is "once" when what stands still is not to be seen again.
func (a *attempt) stand(ctx context.Context, top float64, end time.Time, view string) (place, error) {
	return a.standCalm(ctx, top, end, view, 0)
}

// standCalm is stand that also waits, for calm at most, until what begins to move
// when it comes into view has ended.
func (a *attempt) standCalm(ctx context.Context, top float64, end time.Time, view string, calm time.Duration) (at place, err error) {
	var to, waits any = top, nil
	if calm > 0 {
		waits = code(calmScript)
	}
	pause := a.spec.ScrollDelayMS
	for range 3 { // what was asked for may ask for more
		before := a.track.inFlight()
		call := calling(scrollScript, to, pause, view, waits, calm.Milliseconds())
		err := a.evaluate(ctx, call, stepLimit+time.Duration(pause)*time.Millisecond+calm+3*time.Second, &at)
		if err != nil {
			return at, err
		}
		if !a.track.since(before) {
			break
		}
		patience, cancel := context.WithDeadline(ctx, earlier(end, time.Now().Add(stepLimit)))
		answered := a.track.wait(patience, a.tab, func(t *tracker) bool { return !t.newer(before) })
		cancel()
		if !answered {
			break
		}
		to, pause = nil, 0
	}
	return at, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// evaluate runs an expression of our own in a world of its own in the current
// document, and reads its value.
func (a *attempt) evaluate(ctx context.Context, expression string, limit time.Duration, value any) error {
	page := a.tab.Within(ctx, min(limit, max(time.Until(a.end)/2, 50*time.Millisecond)))
	world, err := proto.PageCreateIsolatedWorld{FrameID: a.tab.Frame(), WorldName: "tintype"}.Call(page)
	if err != nil {
		return movedOr(err)
	}
	res, err := proto.RuntimeEvaluate{
		Expression: expression, ContextID: world.ExecutionContextID, AwaitPromise: true, ReturnByValue: true,
	}.Call(page)
	if err != nil {
		return movedOr(err)
	}
	if res.ExceptionDetails != nil || res.Result == nil {
		return errMoved // the script itself throws nothing; its document went away
	}
	raw, err := res.Result.Value.MarshalJSON()
	if err != nil {
		return fmt.Errorf("a script's value: %w", err)
	}
	if err := json.Unmarshal(raw, value); err != nil {
		return fmt.Errorf("a script's value: %w", err)
	}
	return nil
}

// literal is a text as JavaScript writes it; JSON is a part of that.
func literal(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("capture: a text is always JSON: " + err.Error())
	}
	return string(b)
}
