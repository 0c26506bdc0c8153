package capture

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
	"github.com/tintype/tintype/worker/font"
)

// readyScript is called with (budget in ms, every image or those in view, wait
// at all, what beyond gives, calmScript or null) and returns what look describes.
//
//go:embed ready.js
var readyScript string

// calmScript is called with a limit in ms and returns whether what moves and ends
// has ended by then. It is handed to the scripts that wait for that.
//
//go:embed calm.js
var calmScript string

// glyphsScript is called with what a character class of known characters holds
// and returns how many characters of the page have no glyph.
//
//go:embed glyphs.js
var glyphsScript string

// look is what the page says of itself.
type look struct {
	Title    string   `json:"title"`
	Unloaded int      `json:"unloaded"` // images that should show and do not
	Missing  int      `json:"missing"`  // characters that no font has
	Late     []string `json:"late"`     // waits that ended by the budget: frame, images, fonts, animations
	Errors   []string `json:"errors"`   // what its scripts threw and nobody caught
	Framed   bool     `json:"framed"`   // it has frames
}

var (
	errDeadline = errors.New("the time for the waits is over")
	errMoved    = errors.New("the page moved on to another document")
)

// maxMoves bounds how often a page may replace its document while it is being
// waited for; after that it is held where it is.
const maxMoves = 5

// settle waits until the page is ready: the load, a frame, images and fonts,
// the quiet, the delay. Waits that end by their deadline are noted.
func (a *attempt) settle(ctx context.Context) *job.Failure {
	waits, cancel := context.WithDeadlineCause(ctx, a.loadEnd, errDeadline)
	defer cancel()
	a.acting = a.acts() || a.spec.Deterministic
	seen, fail, err := a.rest(ctx, waits)
	if fail != nil {
		return fail
	}
	a.thrown = seen.Errors
	a.rejected(waits)
	if a.acting {
		if fail := a.pass(ctx, waits, firstSecond); fail != nil {
			return fail
		}
		if fail := a.act(ctx, waits); fail != nil {
			return fail
		}
		// What was done may have brought another document, or images into view.
		a.acting = false
		late := seen.Late
		if seen, fail, err = a.rest(ctx, waits); fail != nil {
			return fail
		}
		seen.Late = append(late, seen.Late...)
	}
	if fail := a.quiet(ctx, waits); fail != nil {
		return fail
	}
	moved, fail := a.pause(ctx, waits)
	if fail != nil {
		return fail
	}
	a.freeze(ctx)
	if moved || err != nil {
		if later, err := a.ask(ctx, 0); err == nil {
			seen.Title, seen.Unloaded, seen.Missing, seen.Errors, seen.Framed = later.Title, later.Unloaded, later.Missing, later.Errors, later.Framed
		}
	}
	a.keep(seen)
	for _, what := range seen.Late {
		a.late(what)
	}
	return a.ownPage()
}

// keep puts down what the document said of itself.
func (a *attempt) keep(seen look) {
	a.framed, a.thrown = seen.Framed, seen.Errors
	a.evidence.Title, a.evidence.UnloadedImages, a.evidence.MissingGlyphs = seen.Title, seen.Unloaded, seen.Missing
}

// rest waits until the document that stands in the main frame has loaded and is
// ready. err tells a page that did not answer, which is captured as it is.
func (a *attempt) rest(ctx, waits context.Context) (seen look, fail *job.Failure, err error) {
	for range 2 * maxMoves {
		if fail := a.load(ctx, waits); fail != nil {
			return look{}, fail, nil
		}
		if seen, err = a.ready(ctx); !errors.Is(err, errMoved) {
			break
		}
	}
	if err != nil {
		fail = a.unready(ctx, err)
	}
	return seen, fail, err
}

// late notes a wait that ended by its deadline, once.
func (a *attempt) late(what string) {
	if !slices.Contains(a.evidence.TimedOut, what) {
		a.evidence.TimedOut = append(a.evidence.TimedOut, what)
	}
}

// load waits for the lifecycle event the job names, of the document that
// stands in the main frame; a page may replace it while it loads.
func (a *attempt) load(ctx, waits context.Context) *job.Failure {
	phase := "load"
	if a.spec.WaitUntil == job.DOMContentLoaded {
		phase = "DOMContentLoaded"
	}
	var broken bool
	a.track.wait(waits, a.tab, func(t *tracker) bool {
		return t.loader != "" && t.reached(phase) || t.restless() || t.docError != ""
	})
	held := a.holdIfRestless(ctx)
	if held {
		var cancel context.CancelFunc // the load of a document that was leaving may never come
		waits, cancel = context.WithTimeoutCause(waits, heldLimit, errDeadline)
		defer cancel()
	}
	ok := a.track.wait(waits, a.tab, func(t *tracker) bool {
		// The load of a document that broke off never comes: it is shown as
		// far as it got, like a browser shows it.
		broken = t.docError != "" && t.docError != "net::ERR_ABORTED"
		return t.loader != "" && (t.reached(phase) || broken)
	})
	if ok && broken {
		a.late(strings.ToLower(phase))
	}
	if ok {
		return a.ownPage()
	}
	if fail := a.ended(ctx, job.StageWait); fail != nil {
		return fail
	}
	if fail := a.ownPage(); fail != nil {
		return fail
	}
	if held {
		a.replaced = true
		return job.Fail(job.LoadTimeout, job.StageWait, "the page goes on replacing its document before it has loaded")
	}
	a.track.mu.Lock()
	painted := a.track.reached("firstPaint") || a.track.reached("firstContentfulPaint")
	a.track.mu.Unlock()
	waited := a.loadEnd.Sub(a.start).Round(time.Millisecond)
	if !painted {
		return job.Fail(job.LoadTimeout, job.StageWait, "the page answered but had painted nothing after %s: raise timeout_ms, or look for scripts and styles that block it", waited)
	}
	if a.spec.FailOnTimeout {
		return job.Fail(job.LoadTimeout, job.StageWait, "the page had not finished loading after %s and fail_on_timeout is set", waited)
	}
	a.late(strings.ToLower(phase))
	// A request that is still pending must not keep the capture waiting.
	a.stopLoading(ctx)
	return nil
}

// ended tells an end of a wait that is not the waits' own deadline.
func (a *attempt) ended(ctx context.Context, stage job.Stage) *job.Failure {
	select {
	case <-a.tab.Gone():
		return a.broken(ctx, stage, browser.ErrGone)
	case <-a.tab.Crashed():
		return a.broken(ctx, stage, browser.ErrCrashed)
	default:
	}
	if ctx.Err() != nil {
		return job.Fail(job.Internal, stage, "the attempt was called off")
	}
	return nil
}

// ownPage refuses what is not the page's: Chromium's error pages and empty ones,
// and answers of the egress proxy.
func (a *attempt) ownPage() *job.Failure {
	if fail := a.marked(); fail != nil {
		return fail
	}
	t := a.track
	t.mu.Lock()
	isError, text, url, stands := t.errorPage, t.docError, t.requested, t.url
	t.mu.Unlock()
	if strings.HasPrefix(stands, "about:") {
		return job.Fail(job.EmptyResponse, job.StageWait, "the page went on to %s, where nothing is to be seen", stands)
	}
	if !isError {
		return nil
	}
	if why, ok := a.proxy.Failure(url); ok {
		return a.blame(why, url)
	}
	return netFailure(text, job.StageNavigate)
}

// ready runs the readiness script: it returns when a frame was drawn, the
// images are complete and decoded and the fonts are there, or when its budget
// is over.
func (a *attempt) ready(ctx context.Context) (look, error) {
	moving := false
	if (a.spec.FullPage && a.spec.Format.Picture() || a.spec.Format == job.PDF) && !a.spec.SkipScroll && !a.acting && len(a.evidence.TimedOut) == 0 {
		if err := a.walk(ctx); err != nil {
			return look{}, err
		}
	}
	if a.spec.Selector != "" && a.spec.Format.Picture() && len(a.evidence.TimedOut) == 0 {
		e, err := a.element(ctx, min(elementLimit, max(0, time.Until(a.loadEnd))))
		if err != nil {
			return look{}, err
		}
		moving = e.Moving
	}
	budget := min(time.Until(a.loadEnd), readyLimit)
	if len(a.evidence.TimedOut) > 0 { // load overdue: its images may never come
		budget = min(max(budget, 0), 500*time.Millisecond)
	}
	began := time.Now()
	seen, err := a.ask(ctx, max(budget, 100*time.Millisecond))
	if moving {
		seen.Late = append(seen.Late, "animations")
	}
	if left := budget - time.Since(began); err == nil && seen.Framed && left > 0 {
		a.framesReady(ctx, min(left, framesLimit), 0)
	}
	return seen, err
}

// ask runs the readiness script in a world of its own in the current
// document; a budget of zero waits for nothing and just looks.
func (a *attempt) ask(ctx context.Context, budget time.Duration) (look, error) {
	// When the time for the waits is over there is still this much for a look:
	// it is taken from the capture's share.
	limit := budget + 500*time.Millisecond
	all := a.spec.FullPage || a.spec.Format == job.PDF || a.spec.Format == job.MHTML || a.spec.Deterministic
	var l look
	err := a.evaluate(ctx, readyCall(budget, all, a.beyond(), a.calms(), string(a.tab.Session())), limit, &l)
	return l, err
}

// beyond says whether the camera will stand beyond the viewport: it is a
// selector when that depends on where its element is.
func (a *attempt) beyond() any {
	s := a.spec
	switch {
	case !s.Format.Picture():
		return false
	case s.Selector != "":
		return s.Selector
	case s.Clip != "":
		x, y, w, h, _ := job.ParseClip(s.Clip)
		return x+w > float64(s.Width) || y+h > float64(s.Height)
	}
	return s.FullPage
}

// calms says whether what moves is waited for: where more is seen than the
// viewport, things were just made to move by coming into view.
func (a *attempt) calms() bool {
	if a.acting || a.spec.Deterministic { // there is more to come; what moves is brought to its end
		return false
	}
	return a.spec.FullPage && a.spec.Format.Picture() || a.spec.Format == job.PDF || a.spec.Format == job.MHTML
}

// readyCall is the readiness script with its arguments. It also asks for errors,
// if there is a key that they are known by, so that these take no call of their
// own.
func readyCall(budget time.Duration, all bool, beyond any, calms bool, key string) string {
	errors := "[]"
	var calm any
	if calms {
		calm = code(calmScript)
	}
	if key != "" {
		errors = calling(askedScript, key)
	}
	return fmt.Sprintf("%s.then(seen => Object.assign(seen, {missing: (%s)(%q), errors: %s}))",
		calling(readyScript, budget.Milliseconds(), all, budget > 0, beyond, calm), strings.TrimSpace(glyphsScript), font.KnownClass(), errors)
}

// ReadyExpression is the readiness rule for a picture of the viewport, as the
// page evaluates it: whoever measures a bare driver beside this package lets it
// wait for the same.
func ReadyExpression(budget time.Duration) string { return readyCall(budget, false, false, false, "") }

// movedOr tells a document that was replaced under the script from an error.
func movedOr(err error) error {
	if _, ok := errors.AsType[*browser.ProtocolError](err); ok {
		return fmt.Errorf("%w: %w", errMoved, err)
	}
	return err
}

// unready judges a page that did not answer the readiness script. One that
// keeps its process busy is stopped, so that it can be captured as it is.
func (a *attempt) unready(ctx context.Context, err error) *job.Failure {
	switch {
	case errors.Is(err, errMoved): // it reloads for ever
		a.stopLoading(ctx)
		a.late("frame")
	case errors.Is(err, browser.ErrUnanswered):
		a.odd = "unanswered"
		a.stopScripts(ctx)
		a.late("frame")
	default:
		return a.broken(ctx, job.StageWait, err)
	}
	return nil
}

// pause waits the job's delay and reports whether anything may have changed
// since the page was ready.
func (a *attempt) pause(ctx, waits context.Context) (bool, *job.Failure) {
	quiet := a.spec.WaitUntil == job.NetworkIdle0 || a.spec.WaitUntil == job.NetworkIdle2
	if a.spec.DelayMS == 0 {
		return quiet || a.spec.Deterministic, nil
	}
	if a.spec.Deterministic {
		return true, a.pass(ctx, waits, time.Duration(a.spec.DelayMS)*time.Millisecond)
	}
	delay, cancel := context.WithTimeout(waits, time.Duration(a.spec.DelayMS)*time.Millisecond)
	defer cancel()
	a.track.wait(delay, a.tab, func(*tracker) bool { return false })
	if waits.Err() != nil {
		a.late("delay")
	}
	return true, nil
}
