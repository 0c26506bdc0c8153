package capture

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/go-rod/rod/lib/proto"

	"github.com/tintype/tintype/pkg/job"
)

// shownScript is a function of the page's text as one sees it.
//
//go:embed shown.js
var shownScript string

// extractScript is called with (what, most characters, whether the page's host
// is made up, shownScript) and returns an extract, or a job.Page for what "about". It is the
// page's own process that walks the page: that one has bounds of its own, and
// knows what is shown.
//
//go:embed extract.js
var extractScript string

// An extract is what a page is besides its look.
type extract struct {
	Text   string `json:"text"`
	Over   bool   `json:"over"`   // it is too long
	Failed string `json:"failed"` // what the script met
}

// maxText bounds html, markdown and text in characters.
const maxText = 10_000_000

// extractCall is the expression that runs extractScript.
func (a *attempt) extractCall(what string) string {
	return fmt.Sprintf("(%s\n)(%q, %d, %t, %s)", strings.TrimSpace(extractScript), what, maxText, a.spec.URL == "", strings.TrimSpace(shownScript))
}

// write makes a document of the page's markup or words.
func (a *attempt) write(ctx context.Context) (*Artifact, *job.Failure) {
	if a.spec.Format == job.MHTML {
		return a.archive(ctx)
	}
	var got extract
	_, fail := a.insist(ctx, func(ctx context.Context, limit time.Duration) ([]byte, error) {
		return nil, a.evaluate(ctx, a.extractCall(string(a.spec.Format)), limit, &got)
	})
	switch {
	case fail != nil:
		return nil, fail
	case got.Failed != "":
		return nil, job.Fail(job.Internal, job.StageCapture, "the page could not be read as %s: %s", a.spec.Format, job.CleanText(got.Failed))
	case got.Over:
		return nil, job.Fail(job.PageTooLarge, job.StageCapture, "the page comes to more than %d million characters of %s", maxText/1_000_000, a.spec.Format)
	}
	body := []byte(got.Text)
	if len(body) == 0 { // an empty page is one, but an artifact has bytes
		body = []byte("\n")
	}
	return &Artifact{Body: body}, nil
}

// archive makes a file of the page with all that it shows (RFC 2557).
func (a *attempt) archive(ctx context.Context) (*Artifact, *job.Failure) {
	body, fail := a.insist(ctx, func(ctx context.Context, limit time.Duration) ([]byte, error) {
		res, err := proto.PageCaptureSnapshot{Format: proto.PageCaptureSnapshotFormatMhtml}.Call(a.tab.Within(ctx, limit))
		if err != nil {
			return nil, err
		}
		return []byte(res.Data), nil
	})
	switch {
	case fail != nil:
		return nil, fail
	case len(body) > maxDocument:
		return nil, job.Fail(job.PageTooLarge, job.StageCapture, "the page and what it shows come to more than %d MB", maxDocument>>20)
	}
	return &Artifact{Body: body}, nil
}

// describe notes what the page says of itself. A page that says nothing, or
// does not answer, is none the worse.
func (a *attempt) describe(ctx context.Context) {
	if !a.spec.SaveMetadata {
		return
	}
	var p job.Page
	if a.evaluate(ctx, a.extractCall("about"), time.Second, &p) == nil {
		a.evidence.Page = &p
	}
}
