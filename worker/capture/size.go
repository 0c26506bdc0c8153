package capture

import (
	"context"
	"errors"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

// size makes the viewport that the job asks for.
func (a *attempt) size(ctx context.Context) *job.Failure {
	if a.spec.Transparent {
		if fail := a.before(ctx, noBackground.Call); fail != nil {
			return fail
		}
	}
	return a.before(ctx, proto.EmulationSetDeviceMetricsOverride{
		Width: a.spec.Width, Height: a.spec.Height, DeviceScaleFactor: a.spec.DeviceScaleFactor,
	}.Call)
}

// noBackground takes away the white that a page without a background of its own
// is drawn on.
var noBackground = proto.EmulationSetDefaultBackgroundColorOverride{Color: &proto.DOMRGBA{A: new(float64)}}

// before makes a call to a tab that no page has seen.
func (a *attempt) before(ctx context.Context, call func(proto.Client) error) *job.Failure {
	err := call(a.tab.Within(ctx, min(time.Until(a.loadEnd), freshLimit)))
	if errors.Is(err, browser.ErrUnanswered) || errors.Is(err, browser.ErrCrashed) { // there is no page yet that could be at fault
		a.odd = "unhealthy"
		return job.Fail(job.BrowserCrashed, job.StageNavigate, "the browser did not answer before the page was opened")
	}
	if err != nil {
		return a.broken(ctx, job.StageNavigate, err)
	}
	return nil
}
