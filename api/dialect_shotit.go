package api

import (
	"net/http"

	"github.com/tintype/tintype/pkg/fault"
)

// shotit answers as trace.moe and its kin do: one text under error.
type shotit struct{ plain }

func (shotit) face(f *fault.Error, ours face) face {
	switch f.Kind {
	case fault.Unauthenticated:
		ours.status = http.StatusForbidden
	case fault.QuotaExceeded:
		ours.mute = true // until the first of the next month
	case fault.ThreadsFull, fault.QueueFull, fault.RateLimited: // as the plan has it
	case fault.Invalid, fault.Forbidden, fault.Blocked, fault.NotFound, fault.Conflict, fault.Gone, fault.TooLarge,
		fault.KeyReused, fault.RenderFailed, fault.Unavailable, fault.Timeout, fault.Canceled, fault.Internal: // nothing is known of them
	}
	return ours
}

func (shotit) say(q refusalOf) said {
	text := q.detail()
	switch {
	case q.Kind == fault.QuotaExceeded:
		text = "Search quota depleted"
	case q.Kind == fault.ThreadsFull:
		text = "Concurrency limit exceeded"
	case q.Kind == fault.QueueFull:
		text = "Error: Search queue is full"
	case q.Kind == fault.RateLimited:
		text = "Too many requests, please try again later."
	case q.Kind == fault.Unauthenticated:
		text = "Invalid API key"
	}
	return sayJSON(members{{"error", text}})
}

func (shotit) limits(h http.Header, _ left) {
	respell(h, "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
}
