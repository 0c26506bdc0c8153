package job

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// Bounds of evidence: a page must not be able to fill the ledger or to put
// bytes into it that the archive refuses.
const (
	maxEvidenceBytes = 16 << 10
	maxEvidenceText  = 2 << 10
	maxEvidenceItems = 50
)

// Clean bounds e in place: valid UTF-8 without U+0000, at most 2 KiB a text,
// 50 entries a list and 16 KiB of JSON in all. The worker cleans what it
// sends and the leader cleans what it got, since the worker runs strangers'
// code.
func (e *Evidence) Clean() {
	if e == nil {
		return
	}
	e.FinalURL, e.Title = CleanText(e.FinalURL), CleanText(e.Title)
	e.Redirects = cleanTexts(e.Redirects)
	e.ConsoleErrors = cleanTexts(e.ConsoleErrors)
	e.TimedOut = cleanTexts(e.TimedOut)
	e.FailedResources = cleanResources(e.FailedResources)
	e.BlockedRequests = cleanResources(e.BlockedRequests)
	for n := maxEvidenceItems / 2; e.size() > maxEvidenceBytes; n /= 2 {
		e.ConsoleErrors = e.ConsoleErrors[:min(n, len(e.ConsoleErrors))]
		e.FailedResources = e.FailedResources[:min(n, len(e.FailedResources))]
		e.BlockedRequests = e.BlockedRequests[:min(n, len(e.BlockedRequests))]
		e.Redirects = e.Redirects[:min(n, len(e.Redirects))]
		e.TimedOut = e.TimedOut[:min(n, len(e.TimedOut))]
		if n == 0 {
			return // two texts are below the bound
		}
	}
}

func (e *Evidence) size() int {
	b, err := json.Marshal(e)
	if err != nil {
		return 0
	}
	return len(b)
}

// CleanText makes a stranger's text safe to keep: valid UTF-8 without U+0000, at
// most 2 KiB.
func CleanText(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "")
	if len(s) <= maxEvidenceText {
		return s
	}
	s = s[:maxEvidenceText]
	for len(s) > 0 && !utf8.ValidString(s) { // the cut may have split a character
		s = s[:len(s)-1]
	}
	return s
}

func cleanTexts(in []string) []string {
	in = in[:min(len(in), maxEvidenceItems)]
	for i := range in {
		in[i] = CleanText(in[i])
	}
	return in
}

func cleanResources(in []Resource) []Resource {
	in = in[:min(len(in), maxEvidenceItems)]
	for i := range in {
		in[i] = Resource{URL: CleanText(in[i].URL), Reason: CleanText(in[i].Reason)}
	}
	return in
}
