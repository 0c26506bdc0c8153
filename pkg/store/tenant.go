package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
)

// A Tenant is an account and its bill, as they were at one moment.
type Tenant struct {
	ID      string
	Account *account.Account // nil: there is none of this id
	Periods []Period
	Seq     uint64 // how far the ledger was projected at that moment
}

// A Period is what one of an account's periods has come to.
type Period struct {
	Begins  time.Time
	Units   int64 // 1/120 credit
	Reached []int // percent of the quota, that it was told of
}

// selectTenants is one statement, so that it sees one moment: the sums are of
// exactly the frames that the projection has.
const selectTenants = `
SELECT asked.id, p.ledger_seq, a.name, a.plan, a.suspended, a.billing_day, a.created_at, m.period, m.units,
    (SELECT array_agg(q.percent) FROM quota_events q WHERE q.account = m.account AND q.period = m.period) AS reached
FROM unnest(@ids::text[]) AS asked (id)
CROSS JOIN projection p
LEFT JOIN accounts a ON a.id = asked.id
LEFT JOIN usage_month m ON m.account = asked.id AND m.period >= @since::date
WHERE p.shard = @shard
ORDER BY asked.id, m.period`

// Tenants reads accounts with what they used in the periods that begin at
// since or later. It names each id once, also those of nobody.
func (s *Store) Tenants(ctx context.Context, ids []string, since time.Time) ([]Tenant, error) {
	rows, _ := s.pool.Query(ctx, selectTenants, pgx.NamedArgs{"ids": ids, "since": since, "shard": shard})
	var out []Tenant
	var (
		id              string
		seq             int64
		name, plan      *string
		suspended       *bool
		day             *int
		created, begins *time.Time
		units           *int64
		reached         []int
	)
	if _, err := pgx.ForEachRow(rows, []any{&id, &seq, &name, &plan, &suspended, &day, &created, &begins, &units, &reached}, func() error {
		if n := len(out); n == 0 || out[n-1].ID != id {
			t := Tenant{ID: id, Seq: uint64(seq)}
			if name != nil {
				a := accountRow{ID: id, Name: *name, Plan: *plan, Suspended: *suspended, BillingDay: *day, CreatedAt: *created}.account()
				t.Account = &a
			}
			out = append(out, t)
		}
		if begins != nil {
			t := &out[len(out)-1]
			t.Periods = append(t.Periods, Period{Begins: *begins, Units: *units, Reached: reached})
		}
		reached = nil
		return nil
	}); err != nil {
		return nil, fmt.Errorf("tenants: %w", err)
	}
	return out, nil
}
