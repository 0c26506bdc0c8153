// Package capture turns the options of a job into a picture or a document of
// a page: it navigates a tab, waits until the page is ready, and captures it.
//
// It promises:
//
//  1. One deadline model. The context's deadline is the wall. The spec's
//     timeout_ms runs from the start of the attempt to the end of the capture;
//     the earlier of the two is the end. The last quarter of that time, at
//     most 5 s, is kept for the capture: navigation and every wait end before
//     it. Each call to the browser has a deadline inside these, so that no
//     path outlives the end by more than a second.
//  2. What did not arrive is never a picture: refusals of the egress proxy,
//     Chromium's own error pages, downloads and empty answers are typed
//     failures. An origin's error page is a page: it is rendered, and its
//     status is in the evidence.
//  3. No response committed by then is navigation_timeout. Committed and
//     painted, but the load overdue, is captured and says so in
//     evidence.timed_out, unless fail_on_timeout makes it load_timeout.
//     Committed and nothing painted is load_timeout; a page that cannot be
//     captured in the time kept for it is capture_timeout.
//  4. A page is ready when it loaded, drew a frame, the images in view (all
//     images, for full pages and documents) are complete and decoded and its
//     fonts are there; then come the quiet and the delay that the job asks
//     for. Every script of ours runs in a world of its own, out of the page's
//     reach; but for those that keep its errors and its clock, which stand before
//     any of the page's.
//
// It leaves to its caller the tab, its end, and whether the browser may serve
// another job.
package capture

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/egress"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

const (
	maxReserve = 5 * time.Second // kept for the capture
	readyLimit = 5 * time.Second // for frame, images and fonts
	heldLimit  = time.Second     // for the load of a document that wanted to leave
	freshLimit = 2 * time.Second // for calls to a tab that no page has seen; they take milliseconds
)

// An attempt is one run of Render.
type attempt struct {
	tab   *browser.Tab
	proxy *egress.Proxy
	spec  *job.Spec
	track *tracker

	start   time.Time
	loadEnd time.Time // end of navigation and waits
	end     time.Time // end of the capture
	wall    bool      // end is the context's deadline, not the spec's

	target    string // URL that is navigated to
	evidence  job.Evidence
	committed time.Time // zero until a document was committed
	waited    time.Time // zero until the waits were over
	framed    bool      // the page has frames
	isHeld    bool      // the page may not move on to another document
	replaced  bool      // what failed did so because the page moved on to another document
	pieces    bool      // what is captured is put together of more than one capture
	acting    bool      // something is to be done to the page yet, after which it comes to rest again
	closers   []func()  // what the stages began, to be ended with the attempt
	thrown    []string  // what the document threw and nobody caught, when it was last asked
	console   bool      // the page's whole console was read
	odd       string
}

// Render makes the artifact of spec with a fresh tab whose way out is proxy.
// start is when the attempt began. odd is not empty when the browser did not
// behave and should not serve another job; it says in one word why.
func Render(ctx context.Context, tab *browser.Tab, proxy *egress.Proxy, spec *job.Spec, start time.Time) (out Outcome, odd string) {
	a := &attempt{tab: tab, proxy: proxy, spec: spec, start: start}
	a.end = start.Add(time.Duration(spec.TimeoutMS) * time.Millisecond)
	if wall, ok := ctx.Deadline(); ok && wall.Before(a.end) {
		a.end, a.wall = wall, true
	}
	a.loadEnd = a.end.Add(-min(a.end.Sub(start)/4, maxReserve))
	a.track = newTracker(tab.Frame())
	if len(spec.FailIfRequestFailed) > 0 {
		a.track.watch = a.watched
	}
	tab.Listen(a.track.handle)
	defer tab.Listen(nil)
	stop := a.attend(ctx)
	defer stop()
	defer func() {
		for _, end := range a.closers {
			end()
		}
	}()

	art, fail := a.run(ctx)
	a.evidence.Timings = a.milestones(art != nil)
	if fail != nil {
		fail = a.refine(ctx, fail)
	}
	a.testify()
	return Outcome{Artifact: art, Failure: fail, Evidence: &a.evidence, Timings: a.timings()}, a.odd
}

// run goes through the stages.
func (a *attempt) run(ctx context.Context) (*Artifact, *job.Failure) {
	if a.spec.Format.Picture() {
		if fail := fits(job.StageNavigate, a.spec.DevicePixels(float64(a.spec.Width)), a.spec.DevicePixels(float64(a.spec.Height))); fail != nil {
			return nil, fail
		}
	}
	for _, prepare := range []func(context.Context) *job.Failure{a.size, a.pose, a.introduce} {
		if fail := prepare(ctx); fail != nil {
			return nil, fail
		}
	}
	if fail := a.navigate(ctx); fail != nil {
		return nil, fail
	}
	a.committed = time.Now()
	if fail := a.settle(ctx); fail != nil {
		return nil, fail
	}
	return a.captureOne(ctx)
}

// captureOne holds one document against the job's rules and captures it. When the
// page replaced it meanwhile, the other might be in the picture or in the
// evidence: that one is judged and captured, then.
func (a *attempt) captureOne(ctx context.Context) (*Artifact, *job.Failure) {
	const maxTries = 3
	for try := 1; ; try++ {
		before := a.track.documentCount()
		a.replaced, a.pieces = false, false
		if fail := a.judge(ctx); fail != nil {
			return nil, fail
		}
		a.describe(ctx)
		a.waited = time.Now()
		art, fail := a.capture(ctx)
		last := try == maxTries || time.Until(a.end) <= 0
		switch {
		case fail != nil && (last || !a.replaced):
			return nil, fail
		case fail != nil:
		// The browser tells of a new document before it answers with a capture of
		// it: if there was none, the one that stands there was captured.
		case a.track.endAt(before), last && !a.pieces:
			a.track.end()
			return art, a.ownPage()
		case last:
			return nil, a.restless(job.StageCapture)
		}
		a.hold(ctx)
		if a.pieces { // the viewport may be another
			_ = a.screen().Call(a.tab.Within(ctx, framesLimit))
		}
		rest, cancel := context.WithTimeout(ctx, max(min(heldLimit, time.Until(a.end)/4), 0))
		a.track.wait(rest, a.tab, func(t *tracker) bool { return t.reached("load") })
		cancel()
		if fail := a.ownPage(); fail != nil {
			return nil, fail
		}
		if seen, err := a.ask(ctx, 0); err == nil {
			a.keep(seen)
		}
	}
}

func (a *attempt) capture(ctx context.Context) (*Artifact, *job.Failure) {
	switch {
	case a.spec.Format == job.PDF:
		return a.print(ctx)
	case !a.spec.Format.Picture():
		return a.write(ctx)
	}
	return a.shoot(ctx)
}

// fits refuses a picture that would not come out right, or for which there is
// not the memory. Its sides are in device pixels.
func fits(stage job.Stage, w, h int) *job.Failure {
	if max(w, h) <= job.MaxSide && w*h <= job.MaxArea {
		return nil
	}
	return job.Fail(job.PageTooLarge, stage,
		"the picture would be %d by %d device pixels; at most %d a side and %d million in all are captured right: lower width, height or device_scale_factor, or ask for format pdf",
		w, h, job.MaxSide, job.MaxArea/1_000_000)
}

// navigate opens the page and returns when its document is committed.
func (a *attempt) navigate(ctx context.Context) *job.Failure {
	a.target = a.spec.URL
	if doc, own, fail := a.source(ctx); fail != nil {
		return fail
	} else if own {
		a.target = a.proxy.ServeHTML(doc)
	} else if !strings.HasPrefix(a.target, "http://") && !strings.HasPrefix(a.target, "https://") {
		// The API let nothing else pass; Chromium would open files here.
		return job.Fail(job.AddressRefused, job.StageNavigate, "only http and https pages are rendered")
	}
	limit, name := time.Until(a.loadEnd), "timeout_ms"
	if own := time.Duration(a.spec.NavigationTimeoutMS) * time.Millisecond; own > 0 && own < limit {
		limit, name = own, "navigation_timeout_ms"
	}
	began := time.Now()
	res, err := proto.PageNavigate{URL: a.target}.Call(a.tab.Within(ctx, limit))
	switch {
	case errors.Is(err, browser.ErrUnanswered) && a.track.hasCommitted():
		return nil
	case errors.Is(err, browser.ErrUnanswered):
		return job.Fail(job.NavigationTimeout, job.StageNavigate,
			"the server sent no response within %s: raise %s, or check that the page answers", time.Since(began).Round(time.Millisecond), name)
	case err != nil:
		return a.broken(ctx, job.StageNavigate, err)
	case res.ErrorText != "":
		return a.unreached(ctx, res.ErrorText)
	}
	return a.marked()
}

// unreached types a navigation that did not end in a document.
func (a *attempt) unreached(ctx context.Context, text string) *job.Failure {
	if fail := a.marked(); fail != nil {
		return fail
	}
	url := a.track.requestedURL(a.target)
	if why, ok := a.proxy.Failure(url); ok {
		return a.blame(why, url)
	}
	if doc := a.track.document(); text == "net::ERR_ABORTED" && doc.status != 204 && doc.status != 205 {
		// The announcement of a download follows its navigation's end closely.
		grace, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		defer cancel()
		a.track.wait(grace, a.tab, func(t *tracker) bool { return t.download })
		if a.track.isDownload() {
			return job.Fail(job.Download, job.StageNavigate, "the URL answers with a file to download, not with a page")
		}
	}
	return netFailure(text, job.StageNavigate)
}

// marked types a document that the proxy answered in its origin's place.
func (a *attempt) marked() *job.Failure {
	doc := a.track.document()
	if why, ok := a.proxy.Marked(doc.marker); ok && strings.HasPrefix(doc.url, "http://") {
		return a.blame(why, doc.url)
	}
	return nil
}

func (a *attempt) blame(why egress.Reason, url string) *job.Failure {
	return job.Fail(why.Code(), job.StageNavigate, "%s", why.Words(hostOf(url)))
}

// broken types an error of a call to the browser that no page should cause.
func (a *attempt) broken(ctx context.Context, stage job.Stage, err error) *job.Failure {
	switch {
	case errors.Is(err, browser.ErrGone):
		a.odd = "gone"
		return job.Fail(job.BrowserCrashed, stage, "the browser ended while it rendered the page")
	case errors.Is(err, browser.ErrCrashed):
		a.odd = "crash"
		return job.Fail(job.PageCrashed, stage, "the page's process crashed")
	case errors.Is(err, browser.ErrTooLong):
		return job.Fail(job.PageTooLarge, stage, "what the page holds came to more than can be taken from a browser at once: ask for less of it, by selector, clip or max_height, or for another format")
	case ctx.Err() != nil:
		return job.Fail(job.Internal, stage, "the attempt was called off")
	case errors.Is(err, errMoved):
		return a.restless(stage)
	case errors.Is(err, browser.ErrUnanswered):
		a.odd = "unanswered"
		return job.Fail(job.CaptureTimeout, stage, "the page kept its process busy and could not be captured in time")
	}
	a.odd = "protocol"
	return job.Fail(job.Internal, stage, "the browser refused a call: %v", err)
}

// restless is the failure of a page that moved on to another document wherever
// it was looked at.
func (a *attempt) restless(stage job.Stage) *job.Failure {
	a.replaced = true
	code := job.CaptureTimeout
	if stage != job.StageCapture {
		code = job.LoadTimeout
	}
	return job.Fail(code, stage, "the page goes on replacing its document and never stands still")
}

// refine gives a failure the cause that stands behind it: the wall, a crash,
// or the end of the browser.
func (a *attempt) refine(ctx context.Context, f *job.Failure) *job.Failure {
	select {
	case <-a.tab.Gone():
		a.odd = "gone"
		return job.Fail(job.BrowserCrashed, f.Stage, "the browser ended while it rendered the page")
	default:
	}
	if c := a.tab.Crash(); c != nil && a.odd != "unhealthy" {
		a.odd = "crash"
		if c.Full || c.Status == "oom" {
			return job.Fail(job.OutOfMemory, f.Stage, "the page needed more memory than a page may have: %d MB of JavaScript heap", browser.HeapMB)
		}
		return job.Fail(job.PageCrashed, f.Stage, "the page's process crashed")
	}
	if a.wall && (f.Code.Timeout() && a.outOfTime(f.Stage) || errors.Is(ctx.Err(), context.DeadlineExceeded)) {
		return job.Fail(job.WallTimeout, f.Stage, "the attempt used up its wall budget: %s", f.Detail)
	}
	return f
}

// outOfTime tells a time-out of the whole attempt from one by a limit of the job's
// own, or from a page that was given up before.
func (a *attempt) outOfTime(stage job.Stage) bool {
	const late = 50 * time.Millisecond // timers are a little early or late
	return !a.replaced && (stage == job.StageCapture || time.Until(a.loadEnd) < late)
}

// testify fills the evidence with what was seen.
func (a *attempt) testify() {
	a.track.testify(&a.evidence, a.proxy)
	a.confess()
	if a.spec.URL == "" && strings.HasPrefix(a.evidence.FinalURL, a.target) {
		a.evidence.FinalURL = "" // the host is made up for this job
	}
	a.evidence.Clean()
}

// milestones are when the document that stands there got how far; nil where
// there is none.
func (a *attempt) milestones(captured bool) *job.Milestones {
	if a.committed.IsZero() {
		return nil
	}
	after := func(at time.Time) int64 {
		if at.IsZero() {
			return 0
		}
		return max(at.Sub(a.start).Milliseconds(), 1) // 0 is never
	}
	t := a.track
	t.mu.Lock()
	reached := t.phases[t.loader]
	m := &job.Milestones{
		CommittedMS: after(a.committed), ParsedMS: after(reached["DOMContentLoaded"]), PaintedMS: after(reached["firstPaint"]),
		LoadedMS: after(reached["load"]), ReadyMS: after(a.waited),
	}
	t.mu.Unlock()
	if captured {
		m.CapturedMS = after(time.Now())
	}
	return m
}

func (a *attempt) timings() job.Timings {
	now := time.Now()
	t := job.Timings{TotalMS: now.Sub(a.start).Milliseconds()}
	switch {
	case a.committed.IsZero():
		t.NavigateMS = t.TotalMS
	case a.waited.IsZero():
		t.NavigateMS = a.committed.Sub(a.start).Milliseconds()
		t.WaitMS = now.Sub(a.committed).Milliseconds()
	default:
		t.NavigateMS = a.committed.Sub(a.start).Milliseconds()
		t.WaitMS = a.waited.Sub(a.committed).Milliseconds()
		t.CaptureMS = now.Sub(a.waited).Milliseconds()
	}
	return t
}
