package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
)

// Reasons of charges.
const (
	reasonRender = "render" // a job's end, whose id the charge has
	reasonCall   = "call"
	reasonLost   = "lost" // gives back what a job cost
)

// lostPrefix and a job's id is the id of what gives its charge back.
const lostPrefix = "lost_"

// A Charge is one that is no job's end.
type Charge struct {
	ID       string // one that is there already changes nothing
	Account  string
	Period   time.Time // first day of it
	Units    int64     // 1/120 credit; negative gives back
	Reason   string
	Count    int64 // calls that are summed up here
	Happened time.Time
}

// givesBack names the job whose charge this gives back; "" is none.
func (c Charge) givesBack() string {
	if id, ok := strings.CutPrefix(c.ID, lostPrefix); ok && c.Reason == reasonLost {
		return id
	}
	return ""
}

// A QuotaReached is a share of its quota that an account's usage came to.
type QuotaReached struct {
	Account     string
	Period      time.Time // first day of it
	Percent     int
	Used, Limit int64 // 1/120 credit
	ResetsAt    time.Time
	Happened    time.Time
}

// sumUp adds what a statement named charged has inserted to its days and
// months: they are the sum of their charges by construction.
const sumUp = `, days AS (
    INSERT INTO usage_day (account, period, day, units, renders, calls)
    SELECT account, period, (happened AT TIME ZONE 'UTC')::date, sum(units),
        count(*) FILTER (WHERE reason = 'render'), COALESCE(sum(sign(units) * count) FILTER (WHERE reason = 'call'), 0)
    FROM charged
    GROUP BY 1, 2, 3
    ON CONFLICT (account, period, day) DO UPDATE
    SET units = usage_day.units + EXCLUDED.units, renders = usage_day.renders + EXCLUDED.renders, calls = usage_day.calls + EXCLUDED.calls
)
INSERT INTO usage_month (account, period, units)
SELECT account, period, sum(units) FROM charged GROUP BY account, period
ON CONFLICT (account, period) DO UPDATE SET units = usage_month.units + EXCLUDED.units`

// insertCharges adds each charge once.
const insertCharges = `
WITH charged AS (
    INSERT INTO usage_events (id, account, period, units, reason, count, happened)
    SELECT *
    FROM unnest(@ids::text[], @accounts::text[], @periods::date[], @units::bigint[], @reasons::text[], @counts::bigint[], @happened::timestamptz[])
    ON CONFLICT DO NOTHING
    RETURNING account, period, units, reason, count, happened
)` + sumUp

// insertGiveBacks gives back what jobs cost, as it is on their own charges,
// each once; nothing where there is no charge.
const insertGiveBacks = `
WITH charged AS (
    INSERT INTO usage_events (id, account, period, units, reason, happened)
    SELECT back.id, paid.account, paid.period, -paid.units, 'lost', back.happened
    FROM unnest(@ids::text[], @jobs::text[], @accounts::text[], @happened::timestamptz[]) AS back (id, job, account, happened)
    JOIN usage_events paid ON paid.id = back.job AND paid.account = back.account
    WHERE paid.reason = 'render'
    ON CONFLICT DO NOTHING
    RETURNING account, period, units, reason, count, happened
)` + sumUp

// charge files what jobs cost, then all other charges, then what is given back
// of any of them.
func charge(ctx context.Context, tx pgx.Tx, filing Filing) error {
	var charges, back []Charge
	for _, e := range filing.Ends {
		charges = append(charges, Charge{
			ID: string(e.Job.ID), Account: e.Job.Account, Period: e.Period, Units: e.Units, Reason: reasonRender, Count: 1, Happened: e.Job.FinishedAt,
		})
	}
	charges = append(charges, filing.Charges...)
	var ids, accounts, reasons, lost, lostOf, jobs []string
	var periods, happened, lostAt []time.Time
	var units, counts []int64
	for _, c := range charges {
		switch {
		case c.givesBack() != "":
			back = append(back, c)
		case c.Units != 0:
			ids, accounts, reasons = append(ids, c.ID), append(accounts, c.Account), append(reasons, c.Reason)
			periods, units, counts, happened = append(periods, c.Period), append(units, c.Units), append(counts, max(c.Count, 1)), append(happened, c.Happened)
		}
	}
	if len(ids) > 0 {
		if _, err := tx.Exec(ctx, insertCharges, pgx.NamedArgs{
			"ids": ids, "accounts": accounts, "periods": periods, "units": units, "reasons": reasons, "counts": counts, "happened": happened,
		}); err != nil {
			return err
		}
	}
	if len(back) == 0 {
		return nil
	}
	for _, c := range back {
		lost, jobs, lostOf, lostAt = append(lost, c.ID), append(jobs, c.givesBack()), append(lostOf, c.Account), append(lostAt, c.Happened)
	}
	_, err := tx.Exec(ctx, insertGiveBacks, pgx.NamedArgs{"ids": lost, "jobs": jobs, "accounts": lostOf, "happened": lostAt})
	return err
}

// insertOutcomes counts jobs by how they ended, on the day they did.
const insertOutcomes = `
INSERT INTO usage_day (account, period, day, units, renders, succeeded, cached, failed, canceled, expired)
SELECT account, period, (at AT TIME ZONE 'UTC')::date, 0, 0,
    count(*) FILTER (WHERE state = 'succeeded' AND NOT cached), count(*) FILTER (WHERE state = 'succeeded' AND cached),
    count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state = 'canceled'), count(*) FILTER (WHERE state = 'expired')
FROM unnest(@accounts::text[], @periods::date[], @at::timestamptz[], @states::text[], @cached::boolean[]) AS ended (account, period, at, state, cached)
GROUP BY 1, 2, 3
ON CONFLICT (account, period, day) DO UPDATE
SET succeeded = usage_day.succeeded + EXCLUDED.succeeded, cached = usage_day.cached + EXCLUDED.cached, failed = usage_day.failed + EXCLUDED.failed,
    canceled = usage_day.canceled + EXCLUDED.canceled, expired = usage_day.expired + EXCLUDED.expired`

func countOutcomes(ctx context.Context, tx pgx.Tx, ends []Ended) error {
	var accounts, states []string
	var periods, at []time.Time
	var cached []bool
	for _, e := range ends {
		accounts, states, cached = append(accounts, e.Job.Account), append(states, string(e.Job.State)), append(cached, e.Job.Cached)
		periods, at = append(periods, e.Period), append(at, e.Job.FinishedAt)
	}
	if len(accounts) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, insertOutcomes, pgx.NamedArgs{"accounts": accounts, "periods": periods, "at": at, "states": states, "cached": cached})
	return err
}

const insertQuotaEvents = `
INSERT INTO quota_events (account, period, percent, used, "limit", resets_at, happened)
SELECT *
FROM unnest(@accounts::text[], @periods::date[], @percents::integer[], @used::bigint[], @limits::bigint[], @resets::timestamptz[], @happened::timestamptz[])
ON CONFLICT DO NOTHING`

// insertReached notes each step of a period once.
func insertReached(ctx context.Context, tx pgx.Tx, reached []QuotaReached) error {
	var accounts []string
	var periods, resets, happened []time.Time
	var percents, used, limits []int64
	for _, q := range reached {
		accounts, periods, resets, happened = append(accounts, q.Account), append(periods, q.Period), append(resets, q.ResetsAt), append(happened, q.Happened)
		percents, used, limits = append(percents, int64(q.Percent)), append(used, q.Used), append(limits, q.Limit)
	}
	if len(accounts) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, insertQuotaEvents, pgx.NamedArgs{
		"accounts": accounts, "periods": periods, "percents": percents, "used": used, "limits": limits, "resets": resets, "happened": happened,
	})
	return err
}

const selectQuotaEvents = `
SELECT account, period, percent, used, "limit", resets_at, happened
FROM quota_events
WHERE account = @account AND period = @period
ORDER BY percent`

// QuotaEvents lists which shares of its quota an account came to in a period.
func (s *Store) QuotaEvents(ctx context.Context, accountID string, period time.Time) ([]QuotaReached, error) {
	rows, _ := s.pool.Query(ctx, selectQuotaEvents, pgx.NamedArgs{"account": accountID, "period": period})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[QuotaReached])
	if err != nil {
		return nil, fmt.Errorf("quota events: %w", err)
	}
	return list, nil
}

const selectJobCharge = `
SELECT units, period, EXISTS (SELECT FROM usage_events back WHERE back.id = @lost) AS given_back
FROM usage_events
WHERE id = @job AND account = @account AND reason = 'render'`

// JobCharge finds what a job of an account cost.
func (s *Store) JobCharge(ctx context.Context, accountID string, id job.ID) (account.JobCharge, error) {
	rows, _ := s.pool.Query(ctx, selectJobCharge, pgx.NamedArgs{"account": accountID, "job": string(id), "lost": lostPrefix + string(id)})
	paid, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[account.JobCharge])
	if errors.Is(err, pgx.ErrNoRows) {
		return account.JobCharge{}, nil
	}
	if err != nil {
		return account.JobCharge{}, fmt.Errorf("charge of a job: %w", err)
	}
	return paid, nil
}
