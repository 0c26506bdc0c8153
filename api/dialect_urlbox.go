package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/wire"
)

// urlbox tells of renders and requests in headers in small letters, and of the
// render itself in a few more.
type urlbox struct{}

func (urlbox) face(f *fault.Error, ours face) face {
	switch f.Kind {
	case fault.Invalid, fault.TooLarge, fault.KeyReused, fault.RenderFailed, fault.Timeout:
		ours.status = http.StatusBadRequest // of its errors of requests and of pages there is one status
	case fault.Unauthenticated:
		ours.status = http.StatusUnauthorized
	case fault.RateLimited, fault.ThreadsFull, fault.QuotaExceeded: // 429, as the plan has it
	case fault.Forbidden, fault.Blocked, fault.NotFound, fault.Conflict, fault.Gone, fault.QueueFull, fault.Unavailable, fault.Canceled, fault.Internal:
	}
	return ours
}

func (urlbox) say(q refusalOf) said {
	to := sayJSON(members{
		{"error", members{{"message", q.detail()}, {"code", urlboxCode(q)}}},
		{"requestId", q.id},
	})
	to.header = map[string]string{"x-urlbox-error-message": headerText(q.detail())}
	return to
}

// urlboxCode is the nearest of the service's codes.
func urlboxCode(q refusalOf) string {
	switch q.Kind {
	case fault.Unauthenticated:
		switch {
		case q.Code == "missing_key":
			return "NoApiKeySupplied"
		case errors.Is(q.Err, account.ErrKey):
			return "ApiKeyWrongFormat"
		}
		return "ApiKeyNotFound"
	case fault.Invalid:
		if q.Code == "invalid_url" {
			return "InvalidURLError"
		}
		return "InvalidOptions"
	case fault.TooLarge, fault.KeyReused:
		return "InvalidInput"
	case fault.Forbidden:
		if q.Code == "suspended" {
			return "NotActive"
		}
	case fault.RateLimited, fault.ThreadsFull:
		return "RateLimitExceededError"
	case fault.QuotaExceeded:
		return "TrialUsageReached"
	case fault.RenderFailed:
		if q.Code == string(job.NameNotResolved) {
			return "URLDoesNotResolveError"
		}
		return "EngineResponseNotOkError"
	case fault.Timeout:
		return "RenderTimeoutError"
	case fault.Blocked, fault.NotFound, fault.Conflict, fault.Gone, fault.QueueFull, fault.Unavailable, fault.Canceled, fault.Internal:
	}
	return q.code() // it has none
}

func (urlbox) limits(h http.Header, l left) {
	respell(h, "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
	if l.rate != nil && l.rate.ResetUs > 0 {
		spell(h, "x-ratelimit-resetdate", ceilSecond(l.rate.ResetUs).Format(http.TimeFormat))
	}
	for _, ours := range []string{"X-Quota-Limit", "X-Quota-Remaining", "X-Quota-Resets-At"} {
		h.Del(ours)
	}
	if q := l.quota; q != nil {
		allowed, remaining := fullCredits(max(q.Limit, 0)), fullCredits(max(q.Remaining, 0))
		spell(h, "x-renders-used", strconv.FormatInt(max(allowed-remaining, 0), 10))
		spell(h, "x-renders-allowed", strconv.FormatInt(allowed, 10))
		spell(h, "x-renders-remaining", strconv.FormatInt(remaining, 10))
		if q.ResetUs > 0 {
			spell(h, "x-renders-reset", javaScriptDate(ceilSecond(q.ResetUs)))
		}
	}
}

// ceilSecond is the first whole second that is not before a moment.
func ceilSecond(us int64) time.Time {
	return wire.Time(us + 999_999).Truncate(time.Second).UTC()
}

// javaScriptDate is what Date.prototype.toString gives (ECMA-262 section
// 21.4.4.41) on a machine whose time is UTC.
func javaScriptDate(t time.Time) string {
	return t.UTC().Format("Mon Jan 02 2006 15:04:05 GMT+0000 (Coordinated Universal Time)")
}

// render says who made the picture. The id is the job's, as the UUID that it
// spells.
func (urlbox) render(h http.Header, j *job.Job, node string) {
	if id, err := job.ParseID(string(j.ID)); err == nil {
		spell(h, "x-urlbox-request-id", id.UUID().String())
	}
	spell(h, "x-urlbox-accepted-by", node)
	spell(h, "x-urlbox-rendered-by", "chromium")
	ms := int64(0)
	if j.Timings != nil {
		ms = max(j.Timings.TotalMS, 0)
	}
	spell(h, "x-urlbox-render-time", strconv.FormatInt(ms, 10))
	status := "MISS"
	if j.Cached {
		status = "HIT"
	}
	spell(h, "x-urlbox-cache-status", status)
}

// headerText is a text that a header can hold.
func headerText(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, strings.ReplaceAll(s, "…", "..."))
}
