package capture

import (
	"context"
	_ "embed"
	"errors"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/job"
)

// judgeScript is called in our world with (shownScript, a selector that must
// find nothing, texts that must not be there, texts that must) and returns what
// verdict describes.
//
//go:embed judge.js
var judgeScript string

// verdict is what the page's document breaks of the job's rules.
type verdict struct {
	Bad      bool `json:"bad"` // the selector is none
	Present  bool `json:"present"`
	Contains int  `json:"contains"` // index of the first such text; -1: none
	Missing  int  `json:"missing"`
}

// judge holds a page that is ready against what the job calls a failure.
func (a *attempt) judge(ctx context.Context) *job.Failure {
	if fail := a.judgeStatus(); fail != nil {
		return fail
	}
	if fail := a.judgeResources(); fail != nil {
		return fail
	}
	if fail := a.judgeDocument(ctx); fail != nil {
		return fail
	}
	return a.judgeConsole(ctx)
}

// judgeStatus holds the status of the document that stands there now: a page
// that led on to another one has that one's.
func (a *attempt) judgeStatus() *job.Failure {
	status := a.track.document().status
	class, name := status/100, ""
	switch {
	case class == 4 && a.spec.FailOn4xx:
		name = "fail_on_4xx"
	case class == 5 && a.spec.FailOn5xx:
		name = "fail_on_5xx"
	default:
		return nil
	}
	return job.Fail(job.FailOn, job.StageWait, "the page's status is %d and %s is set", status, name)
}

// judgeResources holds what the page asked for and did not get. What the job
// itself did not want loaded is no failure.
func (a *attempt) judgeResources() *job.Failure {
	if !a.spec.FailOnResourceError && len(a.spec.FailIfRequestFailed) == 0 {
		return nil
	}
	var seen job.Evidence
	a.track.testify(&seen, a.proxy)
	for _, list := range [][]job.Resource{seen.FailedResources, seen.BlockedRequests} {
		for _, r := range list {
			if strings.HasPrefix(r.Reason, "block_") || r.Reason == "hide_cookie_banners" { // an option's name
				continue
			}
			if a.spec.FailOnResourceError {
				return job.Fail(job.FailOn, job.StageWait, "something that the page asks for could not be had (see failed_resources and blocked_requests of the evidence) and fail_on_resource_error is set")
			}
			for i, pattern := range a.spec.FailIfRequestFailed {
				if wild(pattern, r.URL) {
					return job.Fail(job.FailOn, job.StageWait, "something that the page asks for could not be had (see failed_resources and blocked_requests of the evidence) and fail_if_request_failed/%d, %q, matches it", i, pattern)
				}
			}
		}
	}
	return nil
}

// watched reports whether a request that failed must be kept whatever else
// failed: rules of the job may be about it.
func (a *attempt) watched(url string) bool {
	for _, pattern := range a.spec.FailIfRequestFailed {
		if wild(pattern, url) {
			return true
		}
	}
	return false
}

// wild reports whether the pattern is the whole of text; an asterisk stands for
// anything, also nothing.
func wild(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	rest, ok := strings.CutPrefix(text, first)
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		_, after, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = after
	}
	return strings.HasSuffix(rest, last)
}

// judgeDocument holds what stands in the page.
func (a *attempt) judgeDocument(ctx context.Context) *job.Failure {
	s := a.spec
	if s.FailIfSelectorPresent == "" && len(s.FailIfContentContains)+len(s.FailIfContentMissing) == 0 {
		return nil
	}
	waits, cancel := context.WithDeadlineCause(ctx, a.loadEnd, errDeadline)
	defer cancel()
	var v verdict
	var err error
	for range maxMoves {
		before := a.track.mark()
		limit := min(inputLimit, max(time.Until(a.end)/4, 50*time.Millisecond))
		err = a.evaluate(ctx, calling(judgeScript, code(shownScript), s.FailIfSelectorPresent, some(s.FailIfContentContains), some(s.FailIfContentMissing)), limit, &v)
		if !errors.Is(err, errMoved) {
			break
		}
		if fail := a.follow(ctx, waits, before); fail != nil {
			return fail
		}
	}
	switch {
	case err != nil:
		if fail := a.ended(ctx, job.StageWait); fail != nil {
			return fail
		}
		return job.Fail(job.WaitTimeout, job.StageWait, "the page kept its process busy and could not be held against the rules of the job")
	case v.Bad:
		return job.Fail(job.SelectorNotFound, job.StageWait, "fail_if_selector_present %q is not a selector that the browser understands", s.FailIfSelectorPresent)
	case v.Present:
		return job.Fail(job.FailOn, job.StageWait, "fail_if_selector_present %q finds something on the page", s.FailIfSelectorPresent)
	case v.Contains >= 0 && v.Contains < len(s.FailIfContentContains):
		return job.Fail(job.FailOn, job.StageWait, "the page's text has what fail_if_content_contains/%d says: %q", v.Contains, s.FailIfContentContains[v.Contains])
	case v.Missing >= 0 && v.Missing < len(s.FailIfContentMissing):
		return job.Fail(job.FailOn, job.StageWait, "the page's text lacks what fail_if_content_missing/%d says: %q", v.Missing, s.FailIfContentMissing[v.Missing])
	}
	return nil
}

// some is a list that JSON does not write as null.
func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
