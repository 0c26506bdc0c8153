package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
)

const selectUsageEvents = `
SELECT id, account, period, units, reason, count, happened
FROM usage_events
WHERE account = @account AND period = @period AND (happened, id) > (@happened, @id)
ORDER BY happened, id
LIMIT @limit`

// UsageEvents lists an account's charges of the period that begins at period,
// in the order in which they happened, from behind a cursor on. Later ones come
// behind all that there are: the projector writes in ledger order.
func (s *Store) UsageEvents(ctx context.Context, accountID string, period time.Time, after account.UsageCursor, limit int) ([]account.UsageEvent, error) {
	return s.usageEvents(ctx, selectUsageEvents, pgx.NamedArgs{
		"account": accountID, "period": period, "happened": after.Happened, "id": after.ID, "limit": limit,
	})
}

const selectAllUsageEvents = `
SELECT id, account, period, units, reason, count, happened
FROM usage_events
WHERE period >= @from AND period < @to AND (@of = '' OR account = @of) AND (period, account, happened, id) > (@period, @account, @happened, @id)
ORDER BY period, account, happened, id
LIMIT @limit`

// AllUsageEvents lists the charges of every account, or of one, and of the
// periods that begin from "from" on and before "to", by period and account,
// from behind a cursor on.
func (s *Store) AllUsageEvents(ctx context.Context, of string, from, to time.Time, after account.UsageCursor, limit int) ([]account.UsageEvent, error) {
	return s.usageEvents(ctx, selectAllUsageEvents, pgx.NamedArgs{
		"of": of, "from": from, "to": to, "limit": limit,
		"period": after.Period, "account": after.Account, "happened": after.Happened, "id": after.ID,
	})
}

func (s *Store) usageEvents(ctx context.Context, sql string, args pgx.NamedArgs) ([]account.UsageEvent, error) {
	rows, _ := s.pool.Query(ctx, sql, args)
	events, err := pgx.CollectRows(rows, pgx.RowToStructByName[account.UsageEvent])
	if err != nil {
		return nil, fmt.Errorf("usage events: %w", err)
	}
	for i := range events {
		events[i].Happened = events[i].Happened.UTC()
	}
	return events, nil
}

const selectBills = `
SELECT m.account, COALESCE(a.name, '') AS name, m.period, m.units, COALESCE(e.events, 0) AS events, COALESCE(e.sum, 0) AS sum
FROM (
    SELECT account, period, units
    FROM usage_month
    WHERE period >= @from AND period < @to AND (period, account) > (@period, @account)
    ORDER BY period, account
    LIMIT @limit
) m
LEFT JOIN accounts a ON a.id = m.account
LEFT JOIN LATERAL (
    SELECT count(*) AS events, sum(units)::bigint AS sum
    FROM usage_events
    WHERE account = m.account AND period = m.period
) e ON true
ORDER BY m.period, m.account`

// Bills lists what every account owes for the periods that begin from "from"
// on and before "to", by period and account, from behind those of the cursor
// on. One statement reads the sums and the events: they are of one moment.
func (s *Store) Bills(ctx context.Context, from, to time.Time, after account.UsageCursor, limit int) ([]account.Bill, error) {
	rows, _ := s.pool.Query(ctx, selectBills, pgx.NamedArgs{
		"from": from, "to": to, "period": after.Period, "account": after.Account, "limit": limit,
	})
	bills, err := pgx.CollectRows(rows, pgx.RowToStructByName[account.Bill])
	if err != nil {
		return nil, fmt.Errorf("bills: %w", err)
	}
	return bills, nil
}

const selectStandings = `
SELECT asked.account, COALESCE(m.units, 0) AS units, (
    SELECT count(*)
    FROM api_keys k
    WHERE k.account = asked.account AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
) AS keys
FROM unnest(@accounts::text[], @periods::date[]) AS asked (account, period)
LEFT JOIN usage_month m USING (account, period)`

// Standings reads what each account has used of its period, and how many keys
// of it work, in no order.
func (s *Store) Standings(ctx context.Context, accounts []string, periods []time.Time) (map[string]account.Standing, error) {
	rows, _ := s.pool.Query(ctx, selectStandings, pgx.NamedArgs{"accounts": accounts, "periods": periods})
	out := make(map[string]account.Standing, len(accounts))
	var id string
	var st account.Standing
	if _, err := pgx.ForEachRow(rows, []any{&id, &st.Units, &st.Keys}, func() error {
		out[id] = st
		return nil
	}); err != nil {
		return nil, fmt.Errorf("standings: %w", err)
	}
	return out, nil
}
