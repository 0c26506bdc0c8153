package capture

import (
	"context"
	"errors"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/device"
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
	if a.spec.Touch != nil && *a.spec.Touch {
		if fail := a.tell(ctx, []proto.Request{touch}); fail != nil {
			return fail
		}
	}
	return a.before(ctx, a.screen().Call)
}

// screen is what the page is shown on.
func (a *attempt) screen() proto.EmulationSetDeviceMetricsOverride {
	s := a.spec
	m := proto.EmulationSetDeviceMetricsOverride{
		Width: s.Width, Height: s.Height, DeviceScaleFactor: s.DeviceScaleFactor, Mobile: s.Mobile != nil && *s.Mobile,
	}
	if m.Mobile {
		m.ScreenOrientation = &proto.EmulationScreenOrientation{Type: proto.EmulationScreenOrientationTypePortraitPrimary}
		if s.Width > s.Height {
			m.ScreenOrientation = &proto.EmulationScreenOrientation{Type: proto.EmulationScreenOrientationTypeLandscapePrimary, Angle: 90}
		}
	}
	d := device.Find(s.Device)
	if d != nil && s.Landscape {
		*d = d.Sideways()
	}
	// A screen is never smaller than what is shown on it.
	if d != nil && d.ScreenWidth >= s.Width && d.ScreenHeight >= s.Height {
		m.ScreenWidth, m.ScreenHeight = &d.ScreenWidth, &d.ScreenHeight
	}
	return m
}

// touch is a touch screen for five fingers.
var touch = proto.EmulationSetTouchEmulationEnabled{Enabled: true, MaxTouchPoints: new(5)}

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
