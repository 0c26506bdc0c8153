package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
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
