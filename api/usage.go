package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tintype/tintype/pkg/account"
)

// monthLayout is how a period is written.
const monthLayout = "2006-01"

// getUsage is GET /v1/usage.
func (s *Server) getUsage(w http.ResponseWriter, r *http.Request, c *call) error {
	now := time.Now().UTC()
	period := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if text, ok := c.query.members["period"].(string); ok {
		var err error
		if period, err = time.Parse(monthLayout, text); err != nil {
			return err // the contract's pattern let only months through
		}
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	days, err := s.deps.Store.Usage(ctx, c.account.ID, period)
	if err != nil {
		return unavailable(err, "the archive does not answer at the moment; try again")
	}
	out := Usage{
		Period: period.Format(monthLayout), StartsAt: Time{period}, ResetsAt: Time{period.AddDate(0, 1, 0)}, ByDay: make([]UsageDay, len(days)),
	}
	var units int64
	for i, d := range days {
		units += d.Units
		out.Renders += d.Renders
		out.ByDay[i] = UsageDay{Date: d.Day.Format(time.DateOnly), Used: credits(d.Units), Renders: d.Renders}
	}
	out.Used = credits(units)
	return writeJSON(w, http.StatusOK, out)
}

func credits(units int64) float64 { return float64(units) / account.UnitsPerCredit }
