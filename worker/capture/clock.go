package capture

import (
	"context"
	_ "embed"
	"errors"
	"regexp"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

var (
	// clockScript is called with the time that it is, in ms since 1970, in the
	// page's own world when a document begins.
	//
	//go:embed clock.js
	clockScript string
	// freezeScript is called in our world when nothing more is waited for.
	//
	//go:embed freeze.js
	freezeScript string
)

const (
	// deterministicTime is when every deterministic page is opened:
	// 2025-01-01T00:00:00Z.
	deterministicTime = 1_735_689_600_000
	// firstSecond is how much of its own time such a page is given before it
	// is ready, and after each thing that is done to it.
	firstSecond = time.Second
	// clockStep is how much of it passes between two looks at the network.
	clockStep = 100 * time.Millisecond
	// passLimit is for what the page does in a step, in our time.
	passLimit = 10 * time.Second
	// networkLimit is how long what a step has asked for may take.
	networkLimit = 5 * time.Second
)

// fixClock takes time and chance from every document of the page.
func (a *attempt) fixClock(ctx context.Context) *job.Failure {
	if !a.spec.Deterministic {
		return nil
	}
	return a.before(ctx, func(c proto.Client) error {
		_, err := proto.PageAddScriptToEvaluateOnNewDocument{Source: calling(clockScript, deterministicTime)}.Call(c)
		return err
	})
}

// pass lets the page's own time pass, when that is ours to give. A page that
// does not come to the end of it is noted.
func (a *attempt) pass(ctx, waits context.Context, d time.Duration) *job.Failure {
	if !a.spec.Deterministic {
		return nil
	}
	for ; d > 0 && waits.Err() == nil; d -= clockStep {
		before, inFlight := a.track.mark(), a.track.inFlight()
		limit := min(passLimit, max(time.Until(a.loadEnd), 0))
		var whole bool
		err := a.advance(ctx, min(d, clockStep), limit, &whole)
		switch {
		case errors.Is(err, errMoved):
			if fail := a.follow(ctx, waits, before); fail != nil {
				return fail
			}
		case errors.Is(err, browser.ErrUnanswered):
			whole = false
		case err != nil:
			return a.broken(ctx, job.StageWait, err)
		}
		if err == nil {
			patience, cancel := context.WithTimeout(waits, networkLimit)
			a.track.wait(patience, a.tab, func(t *tracker) bool { return !t.newer(inFlight) })
			cancel()
		}
		if err != nil && !errors.Is(err, errMoved) || err == nil && !whole {
			a.late("clock")
			return nil
		}
	}
	if waits.Err() != nil {
		a.late("clock")
	}
	return nil
}

// advance moves the clock of the document that stands there. One without a
// script has none, and no need of it.
func (a *attempt) advance(ctx context.Context, d, limit time.Duration, whole *bool) error {
	res, err := proto.RuntimeEvaluate{
		Expression:   calling("(ms, limit) => window.tintypeClock ? window.tintypeClock.advance(ms, limit) : true", d.Milliseconds(), limit.Milliseconds()),
		AwaitPromise: true, ReturnByValue: true,
	}.Call(a.tab.Within(ctx, limit+inputLimit))
	if err != nil {
		return movedOr(err)
	}
	*whole = res.ExceptionDetails == nil && res.Result != nil && res.Result.Value.Bool()
	return nil
}

// freeze brings what moves by itself to a stand, at a place that is the same
// each time.
func (a *attempt) freeze(ctx context.Context) {
	if !a.spec.Deterministic {
		return
	}
	var done bool
	limit := max(time.Until(a.loadEnd)+a.end.Sub(a.loadEnd)/4, 50*time.Millisecond)
	if err := a.evaluate(ctx, calling(freezeScript), min(passLimit, limit), &done); err != nil || !done {
		a.late("clock")
	}
}

// pdfDate is when a document was made, as its information has it (ISO 32000-1,
// 14.3.3). What pages hold is compressed, and is not found.
var pdfDate = regexp.MustCompile(`/(?:CreationDate|ModDate) \(D:(\d{14})`)

// forgetDates sets the dates of a PDF to that of every deterministic page, in
// place: references into it hold the places of its objects.
func forgetDates(pdf []byte) {
	fixed := time.UnixMilli(deterministicTime).UTC().Format("20060102150405")
	for _, at := range pdfDate.FindAllSubmatchIndex(pdf, -1) {
		copy(pdf[at[2]:at[3]], fixed)
	}
}
