package job

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of evidence: a page must not be able to fill the ledger or to put
// bytes into it that the archive refuses.
const (
	maxEvidenceBytes = 16 << 10
	maxEvidenceText  = 2 << 10
	maxEvidenceItems = 50

	maxPageText    = 1 << 10 // bytes of a text that a page says of itself
	maxPageMembers = 20      // of its Open Graph, and of its Twitter card
	maxPageName    = 64
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
	e.Page.clean()
	for n := maxEvidenceItems / 2; e.size() > maxEvidenceBytes; n /= 2 {
		e.ConsoleErrors = e.ConsoleErrors[:min(n, len(e.ConsoleErrors))]
		e.FailedResources = e.FailedResources[:min(n, len(e.FailedResources))]
		e.BlockedRequests = e.BlockedRequests[:min(n, len(e.BlockedRequests))]
		e.Redirects = e.Redirects[:min(n, len(e.Redirects))]
		e.TimedOut = e.TimedOut[:min(n, len(e.TimedOut))]
		if n == 0 {
			if e.Page != nil && e.size() > maxEvidenceBytes { // without these, texts are below the bound
				e.Page.OpenGraph, e.Page.Twitter = map[string]string{}, map[string]string{}
			}
			return
		}
	}
}

// clean bounds what a page says of itself to a few KiB.
func (p *Page) clean() {
	if p == nil {
		return
	}
	for _, text := range []*string{&p.Title, &p.Description, &p.Author, &p.Language, &p.Canonical, &p.Icon} {
		*text = cutText(CleanText(*text), maxPageText)
	}
	p.OpenGraph, p.Twitter = cleanMap(p.OpenGraph), cleanMap(p.Twitter)
}

// cleanMap keeps the first members by name, so that it is the same each time.
func cleanMap(in map[string]string) map[string]string {
	out := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if len(out) == maxPageMembers {
			break
		}
		out[cutText(CleanText(name), maxPageName)] = cutText(CleanText(in[name]), maxPageText/2)
	}
	return out
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
	return cutText(s, maxEvidenceText)
}

// cutText is at most n bytes of s, which are whole characters.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[:n]
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
