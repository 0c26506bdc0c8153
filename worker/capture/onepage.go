package capture

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
)

// onePageScript is called with a step and the paper of an @page rule.
//
//go:embed onepage.js
var onePageScript string

// maxLength is the longest page in inches, margins included. Readers need not
// know pages of more than 200 (ISO 32000-1, annex C); all but Acrobat do.
const maxLength = 2000

// onePage prints the page on a sheet as long as it needs. It is laid out as it
// will be printed, as wide as the paper's print area, and measured.
func (a *attempt) onePage(ctx context.Context, call *printCall) ([]byte, int, *job.Failure) {
	sheet, scale := a.spec.Sheet(), 1.0
	if call.Scale != nil {
		scale = *call.Scale
	}
	width := max(1, int((sheet.Width-sheet.Left-sheet.Right)*96/scale))
	if fail := a.layOut(ctx, width); fail != nil {
		return nil, 0, fail
	}
	a.freezeHeights(ctx, width) // what is as high as the paper would grow with it
	pages := 0
	for try := range 3 {
		content, fail := a.contentHeight(ctx)
		if fail != nil {
			return nil, 0, fail
		}
		// The print rounds lines on its own: a little more each time.
		content += 1 + content*0.01*float64(try)
		length := content*scale/96 + sheet.Top + sheet.Bottom
		if length > maxLength {
			return nil, 0, job.Fail(job.PageTooLarge, job.StageCapture,
				"the page would be %.0f inches long; at most %d are printed on one sheet: leave full_page out, or lower pdf_scale", length, maxLength)
		}
		call.PaperHeight, call.PreferCSSPageSize = &length, true
		// The page's own @page rules would go before the call's numbers.
		paper := fmt.Sprintf("size: %.4fin %.4fin !important; margin: %.4fin %.4fin %.4fin %.4fin !important",
			sheet.Width, length, sheet.Top, sheet.Right, sheet.Bottom, sheet.Left)
		if err := a.onePageStep(ctx, "paper", paper, nil); err != nil {
			return nil, 0, a.broken(ctx, job.StageCapture, err)
		}
		body, fail := a.printed(ctx, call)
		if fail != nil {
			return nil, 0, fail
		}
		if pages, fail = a.countPages(body); fail != nil {
			return nil, 0, fail
		}
		if pages == 1 {
			return body, 1, nil
		}
	}
	return nil, 0, job.Fail(job.PageTooLarge, job.StageCapture, "the page could not be laid out on one sheet, and came to %d: leave full_page out", pages)
}

// layOut shows the page as it will be printed, and lets what comes with that
// load.
func (a *attempt) layOut(ctx context.Context, width int) *job.Failure {
	media := a.media()
	if media.Media == "" {
		media.Media = "print"
	}
	tab := a.tab.Within(ctx, max(time.Until(a.end)/4, 50*time.Millisecond))
	if err := media.Call(tab); err != nil {
		return a.broken(ctx, job.StageCapture, err)
	}
	if fail := a.resize(ctx, width, a.spec.Height); fail != nil {
		return fail
	}
	if seen, err := a.ask(ctx, min(readyLimit, time.Until(a.end)/4)); err == nil {
		a.evidence.UnloadedImages = seen.Unloaded
		for _, what := range seen.Late {
			a.late(what)
		}
	}
	return nil
}

func (a *attempt) resize(ctx context.Context, width, height int) *job.Failure {
	err := proto.EmulationSetDeviceMetricsOverride{Width: width, Height: height, DeviceScaleFactor: a.spec.DeviceScaleFactor}.
		Call(a.tab.Within(ctx, max(time.Until(a.end)/4, 50*time.Millisecond)))
	if err != nil {
		return a.broken(ctx, job.StageCapture, err)
	}
	return nil
}

// contentHeight is the height of the page in CSS pixels, at least that of the
// viewport.
func (a *attempt) contentHeight(ctx context.Context) (float64, *job.Failure) {
	m, err := proto.PageGetLayoutMetrics{}.Call(a.tab.Within(ctx, max(time.Until(a.end)/4, 50*time.Millisecond)))
	if err != nil {
		return 0, a.broken(ctx, job.StageCapture, err)
	}
	if m.CSSContentSize == nil {
		return float64(a.spec.Height), nil
	}
	return math.Ceil(m.CSSContentSize.Height), nil
}

// freezeHeights finds what is as high as the viewport, by making that higher,
// and keeps it as it was. It does what it can: the print shows whether it did.
func (a *attempt) freezeHeights(ctx context.Context, width int) {
	for range 3 { // what stands in something frozen, or around it
		frozen := 0
		if a.onePageStep(ctx, "look", "", nil) != nil || a.resize(ctx, width, a.spec.Height+211) != nil ||
			a.onePageStep(ctx, "freeze", "", &frozen) != nil || a.resize(ctx, width, a.spec.Height) != nil || frozen == 0 {
			return
		}
	}
}

func (a *attempt) onePageStep(ctx context.Context, step, paper string, value *int) error {
	if value == nil {
		value = new(int)
	}
	return a.evaluate(ctx, fmt.Sprintf("(%s\n)(%s, %s)", strings.TrimSpace(onePageScript), literal(step), literal(paper)), time.Until(a.end), value)
}
