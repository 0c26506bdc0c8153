package api

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// screenshotAPI puts every refusal into an envelope, {"error": {…}}, and tells
// when to come back of a rate alone.
type screenshotAPI struct{ plain }

func (screenshotAPI) face(f *fault.Error, ours face) face {
	ours.mute = f.Kind != fault.RateLimited
	switch f.Kind {
	case fault.RateLimited, fault.ThreadsFull, fault.QuotaExceeded: // as the plan has it
	case fault.Invalid:
		if urlRefused(f) {
			ours.status = http.StatusForbidden
		}
	case fault.Timeout:
		ours.status = http.StatusUnprocessableEntity // a render that failed
	case fault.Unauthenticated, fault.Forbidden, fault.Blocked, fault.NotFound, fault.Conflict, fault.Gone, fault.TooLarge,
		fault.KeyReused, fault.RenderFailed, fault.QueueFull, fault.Unavailable, fault.Canceled, fault.Internal:
	}
	return ours
}

// urlRefused reports a URL of a scheme that is not rendered.
func urlRefused(f *fault.Error) bool {
	return f.Kind == fault.Invalid && f.Code == "invalid_url" && len(f.Fields) > 0 && strings.HasPrefix(f.Fields[0].Detail, "has the scheme ")
}

func (screenshotAPI) say(q refusalOf) said {
	code, message := screenshotAPICode(q), q.detail()
	var more members
	switch q.Kind {
	case fault.QuotaExceeded:
		if of := q.Quota; of != nil {
			message = fmt.Sprintf("Monthly Quota of %d Billable Renders reached. Resets at %s.", fullCredits(of.Limit), isoDate(of.ResetsAt))
			more = members{{"quota_used", fullCredits(of.Used)}, {"quota_limit", fullCredits(of.Limit)}, {"resets_at", isoDate(of.ResetsAt)}}
			if q.face.upgradeURL != "" {
				more = append(more, member{"upgrade_url", q.face.upgradeURL})
			}
		}
	case fault.Invalid:
		if len(q.Fields) > 0 {
			first := q.Fields[0]
			message = strings.TrimPrefix(first.Pointer, "/") + " " + first.Detail
			more = members{{"field", strings.TrimPrefix(first.Pointer, "/")}, {"issue", first.Detail}}
		}
	case fault.RenderFailed, fault.Timeout:
		if code == "render_failed" {
			more = members{{"reason", q.code()}}
		}
	}
	if q.Kind != fault.Internal {
		for _, name := range slices.Sorted(maps.Keys(q.Extra)) {
			if name != "error" { // which is said already
				more = append(more, member{name, q.Extra[name]})
			}
		}
	}
	return sayJSON(members{{"error", append(members{{"code", code}, {"message", message}, {"request_id", q.id}}, more...)}})
}

// screenshotAPICode is the service's code of a fault; Tintype's where it
// publishes none.
func screenshotAPICode(q refusalOf) string {
	switch q.Kind {
	case fault.Invalid:
		if urlRefused(q.Error) {
			return "url_not_allowed"
		}
		return "invalid_input"
	case fault.Unauthenticated:
		switch {
		case q.Code == "missing_key":
			return "missing_api_key"
		case errors.Is(q.Err, errRevoked):
			return "revoked_api_key"
		}
		return "invalid_api_key"
	case fault.Forbidden:
		if q.Code == string(job.AddressRefused) {
			return "url_not_allowed"
		}
	case fault.RenderFailed:
		if q.Code == string(job.SelectorNotFound) {
			return "selector_not_found"
		}
		return "render_failed"
	case fault.Timeout:
		return "render_failed"
	case fault.RateLimited:
		return "rate_limit_exceeded"
	case fault.ThreadsFull, fault.QuotaExceeded, fault.KeyReused, fault.Blocked, fault.NotFound, fault.Conflict, fault.Gone,
		fault.TooLarge, fault.QueueFull, fault.Unavailable, fault.Canceled, fault.Internal: // the same words, or none
	}
	return q.code()
}

func (screenshotAPI) limits(h http.Header, _ left) {
	respell(h, "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Quota-Limit", "X-Quota-Remaining", "X-Quota-Resets-At")
}
