package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
)

const selectAudit = `
SELECT count(*), COALESCE(sum(units), 0)::bigint,
       COALESCE((SELECT units FROM usage_month WHERE account = @account AND period = @period), 0)
FROM usage_events
WHERE account = @account AND period = @period`

// Audit adds up an account's charges of the month that begins at period: how
// many there are, their sum, and the month's own figure, in 1/120 credit. The
// two sums are equal (I7).
func (s *Store) Audit(ctx context.Context, accountID string, period time.Time) (events int, sum, month int64, err error) {
	err = s.pool.QueryRow(ctx, selectAudit, pgx.NamedArgs{"account": accountID, "period": period}).Scan(&events, &sum, &month)
	if err != nil {
		return 0, 0, 0, fmt.Errorf("usage: %w", err)
	}
	return events, sum, month, nil
}

const selectUsage = `
SELECT d.day, d.units, d.renders, d.succeeded, d.cached, d.failed, d.canceled, d.expired, d.calls, COALESCE(m.units, 0) AS month
FROM usage_day d
LEFT JOIN usage_month m USING (account, period)
WHERE account = @account AND period = @period
ORDER BY d.day`

const selectCharges = `
SELECT COALESCE(d.day, c.day) AS day, COALESCE(c.units, 0) AS units, COALESCE(c.renders, 0) AS renders, COALESCE(d.succeeded, 0) AS succeeded,
    COALESCE(d.cached, 0) AS cached, COALESCE(d.failed, 0) AS failed, COALESCE(d.canceled, 0) AS canceled, COALESCE(d.expired, 0) AS expired,
    COALESCE(c.calls, 0) AS calls
FROM (
    SELECT (happened AT TIME ZONE 'UTC')::date AS day, sum(units)::bigint AS units, count(*) FILTER (WHERE reason = 'render') AS renders,
        COALESCE(sum(sign(units) * count) FILTER (WHERE reason = 'call'), 0)::bigint AS calls
    FROM usage_events
    WHERE account = @account AND period = @period
    GROUP BY 1
) c
FULL JOIN (SELECT * FROM usage_day WHERE account = @account AND period = @period) d USING (day)
ORDER BY 1`

// Usage lists what an account was charged for in the period that begins at
// that day, and how its jobs ended, by the day; days without either are left
// out. What happens after the turn of the period belongs to the one that its job
// was accepted in.
//
// The days sum up to the month. Where they do not, a release that knew no days
// has filed some of it, and the charges themselves are read.
func (s *Store) Usage(ctx context.Context, accountID string, period time.Time) ([]account.UsageDay, error) {
	args := pgx.NamedArgs{"account": accountID, "period": period}
	rows, _ := s.pool.Query(ctx, selectUsage, args)
	var days []account.UsageDay
	var d account.UsageDay
	var sum, month int64
	into := []any{&d.Day, &d.Units, &d.Renders, &d.Succeeded, &d.Cached, &d.Failed, &d.Canceled, &d.Expired, &d.Calls, &month}
	if _, err := pgx.ForEachRow(rows, into, func() error {
		days, sum = append(days, d), sum+d.Units
		return nil
	}); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	if len(days) > 0 && sum == month { // without a charge both are 0
		return days, nil
	}
	rows, _ = s.pool.Query(ctx, selectCharges, args)
	days, err := pgx.CollectRows(rows, pgx.RowToStructByName[account.UsageDay])
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	return days, nil
}
