package capture

import (
	"context"
	"math"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
)

// A region is what a picture shows: a rectangle of the document in whole
// device pixels, counted from the document's top left corner. A camera that
// stands there is not noticed by the page: what is as high as the viewport
// stays so, and what is fixed to it is seen once, where it stands.
type region struct {
	viewport   bool    // what the viewport shows, wherever that is; x and y are not known
	whole      bool    // the full page
	x, y, w, h int     // device pixels
	zoom       float64 // of the page within the viewport; below 1 when a phone shows a wide page
	scale      float64 // device pixels per CSS pixel of the document
}

// clip is the part of the region that begins dx, dy within it, in the words of
// the browser.
func (r region) clip(dx, dy, w, h int) *proto.PageViewport {
	return &proto.PageViewport{
		X: float64(r.x+dx) / r.scale, Y: float64(r.y+dy) / r.scale,
		Width: float64(w) / r.scale, Height: float64(h) / r.scale, Scale: r.zoom,
	}
}

// region finds what the job wants to see.
func (a *attempt) region(ctx context.Context) (region, *job.Failure) {
	s := a.spec
	view := region{viewport: true, zoom: 1, scale: s.DeviceScaleFactor, w: s.DevicePixels(float64(s.Width)), h: s.DevicePixels(float64(s.Height))}
	if s.Clip == "" && s.Selector == "" && !s.FullPage {
		return view, nil
	}
	r := region{zoom: 1, scale: s.DeviceScaleFactor}
	var content proto.DOMRect
	if s.FullPage || s.Mobile != nil && *s.Mobile {
		m, fail := a.metrics(ctx)
		if fail != nil {
			return r, fail
		}
		if v := m.CSSVisualViewport; v != nil && v.Scale > 0 && s.Mobile != nil && *s.Mobile {
			r.zoom = v.Scale
			r.scale *= v.Scale
		}
		content.Height = float64(s.Height)
		if m.CSSContentSize != nil {
			content = *m.CSSContentSize
		}
	}
	if s.Selector != "" {
		e, ok, fail := a.elementRegion(ctx, r.scale)
		if fail != nil || ok {
			e.zoom, e.scale = r.zoom, r.scale
			return e, fail
		}
	}
	switch {
	case s.Clip != "":
		x, y, w, h, _ := job.ParseClip(s.Clip)
		r.x, r.y = int(math.Round(x*r.scale)), int(math.Round(y*r.scale))
		r.w, r.h = max(1, int(math.Round(w*r.scale))), max(1, int(math.Round(h*r.scale)))
	case s.FullPage:
		r.whole, r.w = true, view.w
		if s.FullWidth {
			r.w = max(r.w, job.WholePixels(math.Ceil(content.Width)*r.scale))
		}
		r.h = job.WholePixels(math.Ceil(content.Height) * r.scale)
		if s.MaxHeight > 0 {
			r.h = min(r.h, job.WholePixels(float64(s.MaxHeight)*s.DeviceScaleFactor))
		}
	default:
		return view, nil
	}
	return r, nil
}

// metrics measures the page.
func (a *attempt) metrics(ctx context.Context) (m *proto.PageGetLayoutMetricsResult, fail *job.Failure) {
	_, fail = a.insist(ctx, func(ctx context.Context, limit time.Duration) (_ []byte, err error) {
		m, err = proto.PageGetLayoutMetrics{}.Call(a.tab.Within(ctx, limit))
		return nil, err
	})
	return m, fail
}
