package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// monthLayout is how a period that is a calendar month is written.
const monthLayout = "2006-01"

// firstYear is the earliest that anybody may ask about.
const firstYear = 1970

// span is one period of an account.
type span struct {
	start, end time.Time
	present    bool
}

// text is how the API writes the period.
func (p span) text() string {
	if p.start.Day() == 1 {
		return p.start.Format(monthLayout)
	}
	return p.start.Format(time.DateOnly)
}

// presentSpan is the period of an account at a moment, by its plan.
func presentSpan(a account.Account, plan account.Plan, now time.Time) span {
	start, end := plan.Quota.Period.Span(now, a.BillingDay)
	return span{start, end, true}
}

// spanFrom reads ?period=: a month, in which a period begins, or its first day.
// The latter finds periods too that began under another plan.
func spanFrom(c *call, now time.Time) (span, error) {
	present := presentSpan(c.account, c.plan, now)
	text, ok := c.query.members["period"].(string)
	if !ok {
		return present, nil
	}
	var p span
	if month, err := time.Parse(monthLayout, text); err == nil {
		lastDay := month.AddDate(0, 1, -1)
		p.start, p.end = c.plan.Quota.Period.Span(lastDay, c.account.BillingDay)
	} else if day, err := time.Parse(time.DateOnly, text); err == nil {
		p.start = day
		_, p.end = account.BillingDay.Span(day, day.Day())
	} else {
		return p, invalid(fault.Field{Pointer: "period", Detail: "is no day of the calendar"})
	}
	if p.start.Equal(present.start) {
		return present, nil
	}
	if p.start.Year() < firstYear || p.start.After(now) {
		return p, invalid(fault.Field{Pointer: "period", Detail: "must be from 1970-01 to the present one, " + present.text()})
	}
	return p, nil
}

// getUsage is GET /v1/usage.
func (s *Server) getUsage(w http.ResponseWriter, r *http.Request, c *call) error {
	p, err := spanFrom(c, time.Now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(r.Context(), storeWithin, errors.New("the archive did not answer in time"))
	defer cancel()
	days, err := s.deps.Store.Usage(ctx, c.account.ID, p.start)
	if err != nil {
		return archiveDown(err)
	}
	out := presentUsage(c.plan, p, days, c.left())
	if format(w, r, c, "json", "csv") == "csv" {
		rows := make([][]string, len(out.ByDay))
		for i, d := range out.ByDay {
			rows[i] = d.cells()
		}
		return writeCSV(w, "usage-"+out.Period, usageDayHead, rows)
	}
	return writeJSON(w, http.StatusOK, out)
}

// presentUsage adds up a period. What the leader says is left of the present one
// is what the headers of the answer say too.
func presentUsage(plan account.Plan, p span, days []account.UsageDay, meters []*pb.Meter) *Usage {
	out := &Usage{Period: p.text(), StartsAt: Time{p.start}, ResetsAt: Time{p.end}, Plan: plan.Name, ByDay: make([]UsageDay, len(days))}
	for i, d := range days {
		o := Outcomes{
			Succeeded: d.Succeeded, Cached: d.Cached, Failed: d.Failed, Canceled: d.Canceled, Expired: d.Expired, Calls: d.Calls,
		}
		out.ByDay[i] = UsageDay{Date: d.Day.Format(time.DateOnly), Used: credits(d.Units), Units: d.Units, Renders: d.Renders, Outcomes: o}
		out.Units += d.Units
		out.Renders += d.Renders
		out.Outcomes.add(o)
	}
	out.Used = credits(out.Units)
	if !plan.Quota.Limited() {
		return out
	}
	limit := plan.Quota.Limit
	left := max(limit*account.UnitsPerCredit-out.Units, 0)
	if m := meterOf(meters, pb.Meter_KIND_QUOTA); m != nil && p.present {
		limit, left = fullCredits(m.Limit), m.Remaining
		if left > 0 { // else how far beyond it is cannot be told
			pending := credits(max(m.Limit-m.Remaining-out.Units, 0))
			out.Pending = &pending
		}
	}
	left /= account.UnitsPerCredit
	out.Unit, out.Limit, out.Remaining = orNull(string(plan.Quota.Unit)), &limit, &left
	if o := plan.Quota.Overage; o.Allowed {
		over, cost := o.Overrun(out.Units)
		out.Overage = &Overage{
			Above: o.Above, Used: credits(over), PricePerUnit: account.Decimal(account.Nano(o.PriceNano)), Cost: account.Decimal(cost),
		}
	}
	return out
}

func meterOf(meters []*pb.Meter, kind pb.Meter_Kind) *pb.Meter {
	for _, m := range meters {
		if m.Kind == kind {
			return m
		}
	}
	return nil
}

func (o *Outcomes) add(d Outcomes) {
	o.Succeeded += d.Succeeded
	o.Cached += d.Cached
	o.Failed += d.Failed
	o.Canceled += d.Canceled
	o.Expired += d.Expired
	o.Calls += d.Calls
}

var usageDayHead = []string{"date", "used", "units", "renders", "succeeded", "cached", "failed", "canceled", "expired", "calls"}

func (d UsageDay) cells() []string {
	return []string{
		d.Date, number(d.Used), digits(d.Units), strconv.Itoa(d.Renders), strconv.Itoa(d.Outcomes.Succeeded), strconv.Itoa(d.Outcomes.Cached), strconv.Itoa(d.Outcomes.Failed),
		strconv.Itoa(d.Outcomes.Canceled), strconv.Itoa(d.Outcomes.Expired), strconv.Itoa(d.Outcomes.Calls),
	}
}

// fullCredits is an amount of units as the credits that it fills.
func fullCredits(units int64) int64 { return units / account.UnitsPerCredit }

func credits(units int64) float64 { return float64(units) / account.UnitsPerCredit }

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func digits(n int64) string { return strconv.FormatInt(n, 10) }
