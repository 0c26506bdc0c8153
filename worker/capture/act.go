package capture

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

var (
	// actScript is called with (what to do, selector, argument) in our world
	// and returns what acted describes.
	//
	//go:embed act.js
	actScript string
	// dressScript is called with the style sheets of the job in our world when
	// a document begins.
	//
	//go:embed dress.js
	dressScript string
	// runScript is called with the script of the job in the page's own world.
	//
	//go:embed run.js
	runScript string
)

const (
	// findLimit is how long an element that is acted upon may keep the job
	// waiting when it is not there yet.
	findLimit = time.Second
	// inputLimit is for one event of the mouse; a page that does not answer it
	// by then is busy, and is captured so.
	inputLimit = 2 * time.Second
)

// acted is what the page says of something done to it.
type acted struct {
	Found bool    `json:"found"`
	Bad   bool    `json:"bad"` // the selector is none
	X     float64 `json:"x"`   // where the mouse hits the element, in CSS px of the window
	Y     float64 `json:"y"`
	Here  corner  `json:"here"` // where the window is scrolled to
	Back  corner  `json:"back"` // where it was
}

// A corner is where the window's top left one lies on the page.
type corner struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// sheets are the style sheets of the job that can be adopted by a document,
// and those that must be elements since they import others.
func (a *attempt) sheets() (adopted, elements []string) {
	if a.spec.CSS != "" {
		if strings.Contains(strings.ToLower(a.spec.CSS), "@import") {
			elements = append(elements, a.spec.CSS)
		} else {
			adopted = append(adopted, a.spec.CSS)
		}
	}
	if a.spec.HideSelector != "" {
		adopted = append(adopted, a.spec.HideSelector+"{display:none!important}")
	}
	return adopted, elements
}

// dress gives every document of the main frame the job's style sheets from its
// beginning, so that it is laid out with them once. A document without any
// script gets them later: it has no world in which something could run sooner.
func (a *attempt) dress(ctx context.Context) *job.Failure {
	adopted, _ := a.sheets()
	if adopted == nil {
		return nil
	}
	return a.before(ctx, func(c proto.Client) error {
		_, err := proto.PageAddScriptToEvaluateOnNewDocument{Source: calling(dressScript, adopted), WorldName: world}.Call(c)
		return err
	})
}

// act does to a loaded page what the job asks for: its style sheets, its
// script, clicks, scrolling, the mouse over an element; then it waits for what
// should come and go.
func (a *attempt) act(ctx, waits context.Context) *job.Failure {
	s := a.spec
	var steps []func(ctx, waits context.Context) *job.Failure
	if s.CSS != "" || s.HideSelector != "" {
		steps = append(steps, a.wear)
	}
	if s.JS != "" {
		steps = append(steps, a.runJS)
	}
	for _, selector := range s.Click {
		steps = append(steps, func(ctx, waits context.Context) *job.Failure { return a.click(ctx, waits, selector) })
	}
	if s.ScrollTo != "" {
		steps = append(steps, a.scroll)
	}
	if s.Hover != "" {
		steps = append(steps, a.hover)
	}
	if s.WaitFor != "" {
		steps = append(steps, func(ctx, waits context.Context) *job.Failure {
			return a.waitFor(ctx, waits, "come", "wait_for", s.WaitFor)
		})
	}
	if s.WaitToLeave != "" {
		steps = append(steps, func(ctx, waits context.Context) *job.Failure {
			return a.waitFor(ctx, waits, "leave", "wait_to_leave", s.WaitToLeave)
		})
	}
	for _, step := range steps {
		if fail := step(ctx, waits); fail != nil {
			return fail
		}
		if fail := a.pass(ctx, waits, firstSecond); fail != nil {
			return fail
		}
	}
	return nil
}

// acts reports whether act will have something to do.
func (a *attempt) acts() bool {
	s := a.spec
	return s.CSS != "" || s.HideSelector != "" || s.JS != "" || len(s.Click) > 0 || s.ScrollTo != "" || s.Hover != "" || s.WaitFor != "" || s.WaitToLeave != ""
}

// do asks the page for one act. limit is what the act itself may wait for. A
// page that moves on under it is asked again in its new document.
func (a *attempt) do(ctx, waits context.Context, limit time.Duration, what, selector string, arg any) (acted, *job.Failure) {
	for range 2 * maxMoves {
		var got acted
		before := a.track.mark()
		// When the time for the waits is over there is still a moment to ask: it
		// is taken from the capture's share.
		left := max(time.Until(a.loadEnd), 0) + max(a.end.Sub(a.loadEnd)/4, 50*time.Millisecond)
		err := a.evaluate(ctx, calling(actScript, what, selector, arg), min(limit+inputLimit, left), &got)
		switch {
		case err == nil:
			return got, nil
		case errors.Is(err, errMoved):
			if fail := a.follow(ctx, waits, before); fail != nil {
				return acted{}, fail
			}
		case errors.Is(err, browser.ErrUnanswered): // it is busy, which its readiness will tell
			return acted{}, nil
		default:
			return acted{}, a.broken(ctx, job.StageWait, err)
		}
		if waits.Err() != nil {
			break
		}
	}
	return acted{}, nil
}

// follow waits for the document that something done to the page led to: when
// the page is leaving, until the next document stands and has loaded.
func (a *attempt) follow(ctx, waits context.Context, before mark) *job.Failure {
	if a.track.mark().commits == before.commits {
		// What a script or a form asks for begins within a frame.
		var got acted
		if err := a.evaluate(ctx, calling(actScript, "frame", "", nil), time.Second, &got); err != nil && !errors.Is(err, errMoved) && !errors.Is(err, browser.ErrUnanswered) {
			return a.broken(ctx, job.StageWait, err)
		}
	}
	a.track.wait(waits, a.tab, func(t *tracker) bool { return !t.leaving || t.commits > before.commits })
	now := a.track.mark()
	if now.commits > before.commits {
		return a.load(ctx, waits)
	}
	if now.request != before.request {
		// The proxy answers what it refuses in a way that leaves the page as it
		// is: what was asked for is not shown, and that is no success.
		if why, ok := a.proxy.Marked(now.marker); ok {
			return a.blame(why, now.url)
		}
	}
	return a.ended(ctx, job.StageWait)
}

// missing is the end of an act whose element is not there: a failure when the
// job says so, or when no page could have it.
func (a *attempt) missing(got acted, option, selector string) *job.Failure {
	switch {
	case got.Bad:
		return job.Fail(job.SelectorNotFound, job.StageWait, "%s %q is not a selector that the browser understands", option, selector)
	case a.spec.FailIfSelectorMissing:
		return job.Fail(job.SelectorNotFound, job.StageWait, "%s %q finds nothing to see on the page and fail_if_selector_missing is set", option, selector)
	}
	return nil
}

// wear sees to it that the page has the job's style sheets still.
func (a *attempt) wear(ctx, waits context.Context) *job.Failure {
	adopted, elements := a.sheets()
	got, fail := a.do(ctx, waits, 5*time.Second, "dress", a.spec.HideSelector, map[string][]string{"adopted": adopted, "elements": elements})
	if fail == nil && got.Bad {
		fail = a.missing(got, "hide_selector", a.spec.HideSelector)
	}
	return fail
}

// runJS runs the job's script in the page and waits for its promise. What it
// throws is told in the evidence.
func (a *attempt) runJS(ctx, waits context.Context) *job.Failure {
	before := a.track.mark()
	began, limit := time.Now(), max(time.Until(a.loadEnd), 100*time.Millisecond)
	res, err := proto.RuntimeEvaluate{
		Expression: calling(runScript, a.spec.JS), AwaitPromise: true, UserGesture: true,
		Timeout: proto.RuntimeTimeDelta(limit.Milliseconds()), // of what does not come to its first await
	}.Call(a.tab.Within(ctx, limit+100*time.Millisecond))
	late := false
	switch _, refused := errors.AsType[*browser.ProtocolError](err); {
	case refused && time.Since(began) >= limit, errors.Is(err, browser.ErrUnanswered):
		late = true
	case refused: // it led to another document
	case err != nil:
		return a.broken(ctx, job.StageWait, err)
	case res.ExceptionDetails != nil:
		a.track.noteError("js: " + exceptionText(res.ExceptionDetails))
	}
	if late && a.spec.FailOnTimeout {
		return job.Fail(job.WaitTimeout, job.StageWait, "js did not come to its end within %s and fail_on_timeout is set", limit.Round(time.Millisecond))
	}
	if late {
		a.late("js")
		return nil
	}
	return a.follow(ctx, waits, before)
}

// click presses the mouse on the first element that the selector finds, and
// follows where that leads. The page is scrolled to the element for it, and back.
func (a *attempt) click(ctx, waits context.Context, selector string) *job.Failure {
	got, fail := a.do(ctx, waits, findLimit, "aim", selector, findLimit.Milliseconds())
	if fail != nil || !got.Found {
		if fail == nil {
			fail = a.missing(got, "click", selector)
		}
		return fail
	}
	before := a.track.mark()
	if fail := a.mouse(ctx, got, "mouseMoved", "mousePressed", "mouseReleased"); fail != nil {
		return fail
	}
	if fail := a.follow(ctx, waits, before); fail != nil {
		return fail
	}
	if got.Here == got.Back || a.track.mark().commits != before.commits {
		return nil
	}
	_, fail = a.do(ctx, waits, 0, "back", "", got)
	return fail
}

// hover holds the mouse over the first element that the selector finds.
func (a *attempt) hover(ctx, waits context.Context) *job.Failure {
	got, fail := a.do(ctx, waits, findLimit, "aim", a.spec.Hover, findLimit.Milliseconds())
	switch {
	case fail != nil:
		return fail
	case !got.Found:
		return a.missing(got, "hover", a.spec.Hover)
	}
	return a.mouse(ctx, got, "mouseMoved")
}

// scroll scrolls to the element or the place that the job names.
func (a *attempt) scroll(ctx, waits context.Context) *job.Failure {
	if top, ok := a.spec.ScrollTop(); ok {
		_, fail := a.do(ctx, waits, 0, "top", "", top)
		return fail
	}
	got, fail := a.do(ctx, waits, findLimit, "scroll", a.spec.ScrollTo, findLimit.Milliseconds())
	if fail == nil && !got.Found {
		fail = a.missing(got, "scroll_to", a.spec.ScrollTo)
	}
	return fail
}

// mouse makes events of the mouse where the element was found. An event that
// the page does not answer is noted; its handler may go on.
func (a *attempt) mouse(ctx context.Context, at acted, events ...proto.InputDispatchMouseEventType) *job.Failure {
	for _, kind := range events {
		e := proto.InputDispatchMouseEvent{Type: kind, X: at.X, Y: at.Y, Button: proto.InputMouseButtonNone}
		if kind != proto.InputDispatchMouseEventTypeMouseMoved {
			e.Button, e.ClickCount = proto.InputMouseButtonLeft, 1
		}
		err := e.Call(a.tab.Within(ctx, min(inputLimit, max(time.Until(a.loadEnd), 100*time.Millisecond))))
		switch _, refused := errors.AsType[*browser.ProtocolError](err); {
		case err == nil, refused: // the document went away under it
		case errors.Is(err, browser.ErrUnanswered):
			a.late("mouse")
			return nil
		default:
			return a.broken(ctx, job.StageWait, err)
		}
	}
	return nil
}

// waitFor waits until the selector finds something to see, or nothing.
func (a *attempt) waitFor(ctx, waits context.Context, what, option, selector string) *job.Failure {
	limit, name := max(time.Until(a.loadEnd), 0), "timeout_ms"
	if own := time.Duration(a.spec.WaitTimeoutMS) * time.Millisecond; own > 0 && own < limit {
		limit, name = own, "wait_timeout_ms"
	}
	began := time.Now()
	for {
		left := max(limit-time.Since(began), 0)
		if a.spec.Deterministic { // what comes, comes with the page's own time
			left = 0
		}
		got, fail := a.do(ctx, waits, left, what, selector, left.Milliseconds())
		switch {
		case fail != nil:
			return fail
		case got.Bad:
			return a.missing(got, option, selector)
		case got.Found:
			return nil
		}
		if time.Since(began) >= limit {
			break
		}
		if fail := a.ended(ctx, job.StageWait); fail != nil {
			return fail
		}
		if fail := a.pass(ctx, waits, clockStep); fail != nil {
			return fail
		}
	}
	verb := map[string]string{"come": "found nothing to see", "leave": "still found something to see"}[what]
	return job.Fail(job.WaitTimeout, job.StageWait, "%s %q %s after %s: raise %s, or check the selector", option, selector, verb, limit.Round(time.Millisecond), name)
}
