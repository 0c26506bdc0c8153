package capture

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/worker/browser"
)

// A4 in inches, the unit of the print call. A page that names its own size
// with @page gets that.
const (
	paperWidth  = 8.27
	paperHeight = 11.69
)

// maxDocument bounds a PDF in bytes.
const maxDocument = 100 << 20

// print makes a PDF. A print that failed is never tried again in its tab: the
// second try ends the whole browser.
func (a *attempt) print(ctx context.Context) (*Artifact, *job.Failure) {
	a.still(ctx)
	width, height := paperWidth, paperHeight
	res, err := proto.PagePrintToPDF{
		PrintBackground: true, PreferCSSPageSize: true, PaperWidth: &width, PaperHeight: &height,
		TransferMode: proto.PagePrintToPDFTransferModeReturnAsStream,
	}.Call(a.tab.Within(ctx, max(time.Until(a.end), 50*time.Millisecond)))
	if err != nil {
		a.odd = "print"
		if pe, ok := errors.AsType[*browser.ProtocolError](err); ok {
			return nil, job.Fail(job.Internal, job.StageCapture, "the page could not be printed: %s", pe.Message)
		}
		return nil, a.broken(ctx, job.StageCapture, err)
	}
	body, fail := a.fetch(ctx, res.Stream)
	if fail != nil {
		return nil, fail
	}
	pages, err := countPages(body)
	if err != nil {
		a.odd = "protocol"
		return nil, job.Fail(job.Internal, job.StageCapture, "the browser made a document that cannot be read: %v", err)
	}
	return &Artifact{Body: body, Pages: pages}, nil
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
