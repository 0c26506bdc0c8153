package capture

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

const (
	maxDocument = 100 << 20 // bytes of a document
	maxPages    = 2000      // of a PDF
)

// printCall is proto's call with a false that is sent: left out, it is the
// browser's choice, which is to tag.
type printCall struct {
	proto.PagePrintToPDF
	Tagged bool `json:"generateTaggedPDF"`
}

// print makes a PDF. A print that failed is never tried again in its tab: the
// second try ends the whole browser.
func (a *attempt) print(ctx context.Context) (*Artifact, *job.Failure) {
	a.still(ctx)
	call, fail := a.printCall()
	if fail != nil {
		return nil, fail
	}
	var body []byte
	pages := 0
	if a.spec.FullPage {
		body, pages, fail = a.onePage(ctx, call)
	} else if body, fail = a.printed(ctx, call); fail == nil {
		pages, fail = a.countPages(body)
	}
	switch {
	case fail != nil:
		return nil, fail
	case pages > maxPages:
		return nil, job.Fail(job.PageTooLarge, job.StageCapture, "the document has more than %d pages: choose some with pdf_page_range", maxPages)
	}
	if a.spec.Deterministic {
		forgetDates(body)
	}
	return &Artifact{Body: body, Pages: pages}, nil
}

func (a *attempt) countPages(body []byte) (int, *job.Failure) {
	pages, err := countPages(body)
	if err != nil {
		a.odd = "protocol"
		return 0, job.Fail(job.Internal, job.StageCapture, "the browser made a document that cannot be read: %v", err)
	}
	return pages, nil
}

// printCall puts the options on paper.
func (a *attempt) printCall() (*printCall, *job.Failure) {
	s := a.spec
	sheet := s.Sheet()
	call := &printCall{Tagged: s.PDFTagged == nil || *s.PDFTagged}
	call.TransferMode = proto.PagePrintToPDFTransferModeReturnAsStream
	call.PaperWidth, call.PaperHeight = &sheet.Width, &sheet.Height
	call.MarginTop, call.MarginRight, call.MarginBottom, call.MarginLeft = &sheet.Top, &sheet.Right, &sheet.Bottom, &sheet.Left
	call.PreferCSSPageSize = s.PDFPreferCSS == nil || *s.PDFPreferCSS
	call.PrintBackground = s.PDFBackground == nil || *s.PDFBackground
	call.GenerateDocumentOutline = s.PDFOutline
	if s.PDFScale != 0 {
		call.Scale = &s.PDFScale
	}
	runs, err := job.PageRanges(s.PDFPageRange)
	if err != nil {
		return nil, job.Fail(job.Internal, job.StageCapture, "pdf_page_range %s", err)
	}
	call.PageRanges = firstPages(runs, maxPages+1)
	if s.PDFHeader == "" && s.PDFFooter == "" {
		return call, nil
	}
	call.DisplayHeaderFooter = true
	for _, t := range []struct{ markup, to *string }{{&s.PDFHeader, &call.HeaderTemplate}, {&s.PDFFooter, &call.FooterTemplate}} {
		if *t.to, err = job.PrintTemplate(*t.markup); err != nil {
			return nil, job.Fail(job.Internal, job.StageCapture, "the header or footer %s", err)
		}
		// By itself text there has no size at all. An empty template would be
		// the browser's own, of date and title.
		*t.to = `<div style="font-size:8pt;width:100%">` + *t.to + `</div>`
	}
	return call, nil
}

// firstPages writes the first n pages of the runs, or of all pages if there
// are none, as the print call takes them.
func firstPages(runs []job.PageRange, n int) string {
	if len(runs) == 0 {
		runs = []job.PageRange{{First: 1, Last: n}}
	}
	var pieces []string
	for _, run := range runs {
		if n <= 0 {
			break
		}
		last := min(run.Last, run.First+n-1)
		pieces = append(pieces, fmt.Sprintf("%d-%d", run.First, last))
		n -= last - run.First + 1
	}
	return strings.Join(pieces, ",")
}

// printed makes the call, and types what may come of it.
func (a *attempt) printed(ctx context.Context, call *printCall) ([]byte, *job.Failure) {
	tab := a.tab.Within(ctx, max(time.Until(a.end), 50*time.Millisecond))
	raw, err := tab.Call(ctx, string(a.tab.Session()), call.ProtoReq(), call)
	var res proto.PagePrintToPDFResult
	if err == nil {
		err = json.Unmarshal(raw, &res)
	}
	pe, refused := errors.AsType[*browser.ProtocolError](err)
	switch {
	case err == nil:
		return a.fetch(ctx, res.Stream)
	case refused && strings.Contains(pe.Message, "exceeds page count"): // found before anything was printed
		return nil, job.Fail(job.FailOn, job.StageCapture, "the document has none of the pages that pdf_page_range asks for (%s)", a.spec.PDFPageRange)
	case refused:
		a.odd = "print"
		return nil, job.Fail(job.Internal, job.StageCapture, "the page could not be printed: %s", pe.Message)
	}
	fail := a.broken(ctx, job.StageCapture, err)
	if fail.Code == job.CaptureTimeout {
		fail.Detail = "the page was not printed in time; a document of thousands of pages takes minutes: raise timeout_ms, or print less of it"
	}
	return nil, fail
}

// still brings the page to rest: a navigation in the middle of a print makes
// it fail.
func (a *attempt) still(ctx context.Context) {
	a.hold(ctx)
	for range 3 {
		rest, cancel := context.WithTimeout(ctx, min(heldLimit, time.Until(a.end)/4))
		a.track.wait(rest, a.tab, func(t *tracker) bool { return t.reached("load") })
		cancel()
		if _, err := a.ask(ctx, 0); !errors.Is(err, errMoved) {
			return
		}
	}
}

// fetch reads a stream of the browser to its end.
func (a *attempt) fetch(ctx context.Context, handle proto.IOStreamHandle) (body []byte, fail *job.Failure) {
	var buf bytes.Buffer
	size := 1 << 20
	for {
		part, err := proto.IORead{Handle: handle, Size: &size}.Call(a.tab.Within(ctx, max(time.Until(a.end), 50*time.Millisecond)))
		if err != nil {
			return nil, a.broken(ctx, job.StageCapture, err)
		}
		data := []byte(part.Data)
		if part.Base64Encoded {
			if data, err = base64.StdEncoding.DecodeString(part.Data); err != nil {
				return nil, a.broken(ctx, job.StageCapture, err)
			}
		}
		buf.Write(data)
		if buf.Len() > maxDocument {
			return nil, job.Fail(job.PageTooLarge, job.StageCapture, "the document is larger than %d MB: render fewer pages", maxDocument>>20)
		}
		if part.EOF {
			return buf.Bytes(), nil // the stream goes with its context
		}
	}
}
