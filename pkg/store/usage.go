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
SELECT d.day, d.units, d.renders, m.units AS month
FROM usage_month m
JOIN usage_day d USING (account, period)
WHERE account = @account AND period = @period
ORDER BY d.day`

const selectCharges = `
SELECT (happened AT TIME ZONE 'UTC')::date AS day, sum(units)::bigint AS units, count(*) FILTER (WHERE reason = 'render') AS renders
FROM usage_events
WHERE account = @account AND period = @period
GROUP BY 1
ORDER BY 1`

// Usage lists what an account was charged for in the month that begins at
// period, by the day of the charge; days without one are left out. A charge
// at the turn of the month belongs to the period its job was accepted in.
//
// The days sum up to the month. Where they do not, a release that knew no days
// has filed some of it, and the charges themselves are read.
func (s *Store) Usage(ctx context.Context, accountID string, period time.Time) ([]account.UsageDay, error) {
	args := pgx.NamedArgs{"account": accountID, "period": period}
	rows, _ := s.pool.Query(ctx, selectUsage, args)
	var days []account.UsageDay
	var d account.UsageDay
	var sum, month int64
	if _, err := pgx.ForEachRow(rows, []any{&d.Day, &d.Units, &d.Renders, &month}, func() error {
		days, sum = append(days, d), sum+d.Units
		return nil
	}); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	if len(days) > 0 && sum == month {
		return days, nil
	}
	rows, _ = s.pool.Query(ctx, selectCharges, args)
	days, err := pgx.CollectRows(rows, pgx.RowToStructByName[account.UsageDay])
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	return days, nil
}
