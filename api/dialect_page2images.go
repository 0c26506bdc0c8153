package api

import (
	"net/http"

	"github.com/tintype/tintype/pkg/fault"
)

// page2images answers with a status, a number of the error and a text.
type page2images struct{ plain }

func (page2images) face(f *fault.Error, ours face) face {
	switch f.Kind {
	case fault.Unauthenticated, fault.Forbidden, fault.Blocked:
		ours.status = http.StatusForbidden // of a bad key as well
	case fault.Timeout:
		ours.status = http.StatusInternalServerError
	case fault.QuotaExceeded, fault.ThreadsFull, fault.RateLimited: // as the plan has it
	case fault.Invalid, fault.NotFound, fault.Conflict, fault.Gone, fault.TooLarge, fault.KeyReused, fault.RenderFailed,
		fault.QueueFull, fault.Unavailable, fault.Canceled, fault.Internal:
	}
	return ours
}

func (page2images) say(q refusalOf) said {
	number, text := q.face.status, q.detail()
	out := members{{"status", "error"}}
	switch q.Kind {
	case fault.QuotaExceeded:
		number = http.StatusForbidden // there, a key without credits is one that opens nothing
		out = append(out, member{"left_calls", 0})
	case fault.Timeout:
		text = "Time out."
	}
	return sayJSON(append(out, member{"errno", number}, member{"msg", text}))
}
