package api

import (
	"net/http"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// getAccount is GET /v1/account.
func (s *Server) getAccount(w http.ResponseWriter, _ *http.Request, c *call) error {
	out := Self{
		Id: c.account.ID, Name: orNull(c.account.Name), Anonymous: account.Anonymous(c.account.ID), CreatedAt: timeOrNull(c.account.CreatedAt),
		Plan: presentPlan(c.plan), Limits: presentMeters(c.left()),
	}
	if k := c.shown; k.ID != "" {
		out.Key = &OwnKey{Id: k.ID, Name: k.Name, Scopes: texts(k.Scopes), CreatedAt: Time{k.CreatedAt}, ExpiresAt: timeOrNull(k.ExpiresAt)}
	}
	return writeJSON(w, http.StatusOK, out)
}

// presentMeters is what is left, in the order of the leader's answer. A quota is
// told in whole credits, as in the headers.
func presentMeters(meters []*pb.Meter) []Meter {
	out := []Meter{}
	for _, m := range meters {
		v := Meter{Name: m.Name, Limit: m.Limit, Remaining: m.Remaining}
		switch m.Kind {
		case pb.Meter_KIND_RATE:
			v.Kind = "rate"
		case pb.Meter_KIND_REQUESTS:
			v.Kind = "requests"
		case pb.Meter_KIND_QUOTA:
			v.Kind = "quota"
			v.Limit, v.Remaining = fullCredits(v.Limit), fullCredits(v.Remaining)
		case pb.Meter_KIND_THREADS:
			v.Kind = "threads"
		default: // of a newer release
			continue
		}
		if m.Kind != pb.Meter_KIND_THREADS {
			v.WindowS, v.ResetsAt = orNull(m.WindowS), timeOrNull(fromMicros(m.ResetUs))
		}
		out = append(out, v)
	}
	return out
}

// fromMicros is the zero time for 0.
func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}
