package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// lostPrefix begins the id of an event that gives a job's charge back.
const lostPrefix = "lost_"

// listUsageEvents is GET /v1/usage/events.
func (s *Server) listUsageEvents(w http.ResponseWriter, r *http.Request, c *call) error {
	p, err := spanFrom(c, time.Now())
	if err != nil {
		return err
	}
	return s.writeEvents(w, r, c, "usage-events-"+p.text(), func(ctx context.Context, after account.UsageCursor, limit int) ([]account.UsageEvent, error) {
		if after != (account.UsageCursor{}) && (after.Account != c.account.ID || !after.Period.Equal(p.start)) {
			return nil, badCursor()
		}
		return s.deps.Store.UsageEvents(ctx, c.account.ID, p.start, after, limit)
	})
}

// listAllUsageEvents is GET /admin/v1/usage/events.
func (s *Server) listAllUsageEvents(w http.ResponseWriter, r *http.Request, c *call) error {
	from, to, err := monthFrom(c, time.Now())
	if err != nil {
		return err
	}
	of, _ := c.query.members["account"].(string)
	return s.writeEvents(w, r, c, "usage-events-"+from.Format(monthLayout), func(ctx context.Context, after account.UsageCursor, limit int) ([]account.UsageEvent, error) {
		return s.deps.Store.AllUsageEvents(ctx, of, from, to, after, limit)
	})
}

// monthFrom reads the ?period= of an admin: all periods that begin in a month.
func monthFrom(c *call, now time.Time) (from, to time.Time, err error) {
	from, to = account.MonthUTC.Span(now, 1)
	text, ok := c.query.members["period"].(string)
	if !ok {
		return from, to, nil
	}
	present := from
	if from, err = time.Parse(monthLayout, text); err != nil {
		return from, to, err // the contract's pattern let only months through
	}
	if from.Year() < firstYear || from.After(present) {
		return from, to, invalid(fault.Field{Pointer: "period", Detail: "must be from 1970-01 to the present one, " + present.Format(monthLayout)})
	}
	return from, from.AddDate(0, 1, 0), nil
}

// writeEvents answers with a ledger of charges.
func (s *Server) writeEvents(w http.ResponseWriter, r *http.Request, c *call, name string, read func(context.Context, account.UsageCursor, int) ([]account.UsageEvent, error)) error {
	l := table[UsageEvent]{
		name: name, head: usageEventHead, cursor: UsageEvent.cursor, cells: UsageEvent.cells,
		page: func(after string, limit int) ([]UsageEvent, error) {
			at, err := parseCursor(after)
			if err != nil {
				return nil, err
			}
			ctx, cancel := adminCall(r)
			defer cancel()
			events, err := read(ctx, at, limit)
			if err != nil {
				return nil, archiveDown(err)
			}
			rows := make([]UsageEvent, len(events))
			for i, e := range events {
				rows[i] = presentEvent(e)
			}
			return rows, nil
		},
	}
	f := format(w, r, c, "json", "csv", "jsonl")
	switch all, err := unpaged(c, f); {
	case err != nil:
		return err
	case all:
		return l.stream(w, r, f)
	}
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	rows, err := l.page(after, limit+1)
	if err != nil {
		return err
	}
	out := UsageEventList{HasMore: len(rows) > limit, Data: rows[:min(limit, len(rows))], NextCursor: orNull(after)}
	if n := len(out.Data); n > 0 { // also on the last page: later events come behind it
		cursor := out.Data[n-1].cursor()
		out.NextCursor = &cursor
	}
	return writeJSON(w, http.StatusOK, out)
}

func presentEvent(e account.UsageEvent) UsageEvent {
	v := UsageEvent{
		Id: e.ID, Account: e.Account, Reason: e.Reason, Units: e.Units, Count: e.Count, Period: e.Period.Format(time.DateOnly),
		HappenedAt: Time{e.Happened},
	}
	if id, err := job.ParseID(strings.TrimPrefix(e.ID, lostPrefix)); err == nil {
		v.Job = orNull(string(id))
	}
	return v
}

var usageEventHead = []string{"id", "account", "job", "reason", "units", "count", "period", "happened_at"}

func (e UsageEvent) cells() []string {
	return []string{
		cell(e.Id), cell(e.Account), cell(deref(e.Job)), cell(e.Reason), digits(e.Units), digits(e.Count), e.Period,
		e.HappenedAt.text(),
	}
}

// cursor is the place behind the event, for a client to show again: period,
// account, microseconds and id.
func (e UsageEvent) cursor() string {
	return e.Period + "." + e.Account + "." + digits(e.HappenedAt.UnixMicro()) + "." + e.Id
}

func parseCursor(text string) (account.UsageCursor, error) {
	if text == "" {
		return account.UsageCursor{}, nil
	}
	part := strings.SplitN(text, ".", 4)
	if len(part) != 4 {
		return account.UsageCursor{}, badCursor()
	}
	period, err := time.Parse(time.DateOnly, part[0])
	us, usErr := strconv.ParseInt(part[2], 10, 64)
	if err != nil || usErr != nil || us < 0 || us > maxMicros || part[1] == "" || part[3] == "" {
		return account.UsageCursor{}, badCursor()
	}
	return account.UsageCursor{Period: period, Account: part[1], Happened: time.UnixMicro(us).UTC(), ID: part[3]}, nil
}

// maxMicros is the year 9999 in microseconds: beyond it no row is, and the
// archive need not be asked.
const maxMicros = 253_402_300_799_999_999

// listUsage is GET /admin/v1/usage.
func (s *Server) listUsage(w http.ResponseWriter, r *http.Request, c *call) error {
	from, to, err := monthFrom(c, time.Now())
	if err != nil {
		return err
	}
	l := table[AccountUsage]{
		name: "usage-" + from.Format(monthLayout), head: accountUsageHead, cursor: AccountUsage.cursor, cells: AccountUsage.cells,
		page: func(after string, limit int) ([]AccountUsage, error) {
			at, err := parseBillCursor(after)
			if err != nil {
				return nil, err
			}
			ctx, cancel := adminCall(r)
			defer cancel()
			bills, err := s.deps.Store.Bills(ctx, from, to, at, limit)
			if err != nil {
				return nil, archiveDown(err)
			}
			rows := make([]AccountUsage, len(bills))
			for i, b := range bills {
				rows[i] = AccountUsage{
					Account: b.Account, Name: orNull(b.Name), Period: b.Period.Format(time.DateOnly), Used: credits(b.Units), Units: b.Units,
					Events: b.Events, EventsUnits: b.Sum,
				}
			}
			return rows, nil
		},
	}
	f := format(w, r, c, "json", "csv", "jsonl")
	switch all, err := unpaged(c, f); {
	case err != nil:
		return err
	case all:
		return l.stream(w, r, f)
	}
	limit, after, err := page(c.query)
	if err != nil {
		return err
	}
	rows, err := l.page(after, limit+1)
	if err != nil {
		return err
	}
	out := AccountUsageList{HasMore: len(rows) > limit, Data: rows[:min(limit, len(rows))]}
	if out.HasMore {
		cursor := out.Data[limit-1].cursor()
		out.NextCursor = &cursor
	}
	return writeJSON(w, http.StatusOK, out)
}

var accountUsageHead = []string{"account", "name", "period", "used", "units", "events", "events_units"}

func (u AccountUsage) cells() []string {
	return []string{cell(u.Account), cell(deref(u.Name)), u.Period, number(u.Used), digits(u.Units), digits(u.Events), digits(u.EventsUnits)}
}

func (u AccountUsage) cursor() string { return u.Period + "." + u.Account }

func parseBillCursor(text string) (account.UsageCursor, error) {
	if text == "" {
		return account.UsageCursor{}, nil
	}
	day, id, _ := strings.Cut(text, ".")
	period, err := time.Parse(time.DateOnly, day)
	if err != nil || id == "" {
		return account.UsageCursor{}, badCursor()
	}
	return account.UsageCursor{Period: period, Account: id}, nil
}
