package capture

import (
	"context"
	"time"

	"github.com/go-rod/rod/lib/proto"
)

// What a render does to a page that does not come to rest by itself.

// stopLoading ends the page's navigations and loads.
func (a *attempt) stopLoading(ctx context.Context) {
	proto.PageStopLoading{}.Call(a.tab.Within(ctx, 300*time.Millisecond))
}

// stopScripts ends the script that runs, which Chromium does from outside the
// page's own thread, and lets no other start.
func (a *attempt) stopScripts(ctx context.Context) {
	proto.RuntimeTerminateExecution{}.Call(a.tab.Within(ctx, 300*time.Millisecond))
	proto.EmulationSetScriptExecutionDisabled{Value: true}.Call(a.tab.Within(ctx, 300*time.Millisecond))
}

// hold keeps the document that stands in the main frame, or the one that is
// about to: whatever else the page asks for as a document is aborted, which
// leaves the frame as it is. Nothing is stopped: a document that is stopped
// before it has a body never draws.
func (a *attempt) hold(ctx context.Context) {
	if a.isHeld {
		return
	}
	a.isHeld = true
	proto.FetchEnable{Patterns: []*proto.FetchRequestPattern{{ResourceType: proto.NetworkResourceTypeDocument}}}.Call(a.tab.Within(ctx, time.Second))
}

func (a *attempt) holdIfRestless(ctx context.Context) bool {
	a.track.mu.Lock()
	restless := a.track.restless()
	a.track.mu.Unlock()
	if restless {
		a.hold(ctx)
	}
	return restless
}

// attend answers what stops a page until it is answered: its dialogs, and the
// documents it asks for while it is held. A page that opens more than its
// share of dialogs gets its scripts stopped. The returned function ends it.
func (a *attempt) attend(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case d := <-a.track.dialogs:
				if d.last { // not answered before the dialog is: the page stands still
					a.tab.Post(proto.EmulationSetScriptExecutionDisabled{Value: true})
					a.tab.Post(proto.RuntimeTerminateExecution{})
				}
				proto.PageHandleJavaScriptDialog{Accept: d.leave}.Call(a.tab.Within(ctx, time.Second))
			case id := <-a.track.paused:
				proto.FetchFailRequest{RequestID: id, ErrorReason: proto.NetworkErrorReasonAborted}.Call(a.tab.Within(ctx, time.Second))
			case <-a.tab.Gone():
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}
