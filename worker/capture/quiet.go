package capture

import (
	"context"
	"maps"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// idleTime is how long the network is as quiet as it should be, before it is
// called so. Chromium takes the same for the lifecycle events of these names.
const idleTime = 500 * time.Millisecond

// quiet waits until the network is as quiet as the job asks. Chromium's event
// is of the main frame alone: what the other frames ask for is counted beside it.
func (a *attempt) quiet(ctx, waits context.Context) *job.Failure {
	var phase string
	var most int
	switch a.spec.WaitUntil {
	case job.NetworkIdle0:
		phase, most = "networkIdle", 0
	case job.NetworkIdle2:
		phase, most = "networkAlmostIdle", 2
	default:
		return nil
	}
	for {
		var left time.Duration
		quiet := a.track.wait(waits, a.tab, func(t *tracker) bool {
			left = idleTime - time.Since(t.quiet[most])
			if t.events > maxEvents { // it is not counted any more
				left = 0
			}
			return t.reached(phase) && (t.events > maxEvents || !t.quiet[most].IsZero())
		})
		if quiet && left <= 0 {
			return nil
		}
		rest, cancel := context.WithTimeout(waits, left)
		disturbed := quiet && a.track.wait(rest, a.tab, func(t *tracker) bool { return t.quiet[most].IsZero() })
		over := rest.Err() != nil && waits.Err() == nil
		cancel()
		if !quiet || !disturbed && !over {
			break
		}
	}
	if fail := a.ended(ctx, job.StageWait); fail != nil {
		return fail
	}
	if a.spec.FailOnTimeout {
		return job.Fail(job.WaitTimeout, job.StageWait, "the network was not quiet (%s) within %s and fail_on_timeout is set",
			a.spec.WaitUntil, a.loadEnd.Sub(a.start).Round(time.Millisecond))
	}
	a.late("networkidle")
	return nil
}

// begin and finish keep what is under way. Called under mu.
func (t *tracker) begin(id string, r request) {
	t.requests[id] = r
	if !r.endless {
		t.busy++
	}
}

func (t *tracker) finish(id string) {
	if r, known := t.requests[id]; known && !r.endless {
		t.busy--
	}
	delete(t.requests, id)
}

// count notes how quiet the network is, after what is under way has changed.
// Called under mu.
func (t *tracker) count() {
	for most := range t.quiet {
		switch {
		case t.busy > most:
			t.quiet[most] = time.Time{}
		case t.quiet[most].IsZero():
			t.quiet[most] = time.Now()
		}
	}
}

// inFlight are the requests that have no answer yet.
func (t *tracker) inFlight() map[string]request {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.requests)
}

// since reports whether a request is on its way that was not among before.
func (t *tracker) since(before map[string]request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.newer(before)
}

// newer is since, under mu.
func (t *tracker) newer(before map[string]request) bool {
	for id := range t.requests {
		if _, old := before[id]; !old {
			return true
		}
	}
	return false
}
