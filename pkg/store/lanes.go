package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

// claimLanes takes lanes where something may be due, the longest waiting first,
// of no account more than it has room for. It looks at a few times as many as
// are wanted: accounts without room are left out before, so that their lanes do
// not stand in front of all others.
const claimLanes = `
WITH due AS (
    SELECT lane, account, wake_at
    FROM delivery_lanes
    WHERE standing = @standing AND wake_at <= now() AND account <> ALL(@full::text[])
    ORDER BY wake_at
    LIMIT @look
), ranked AS (
    SELECT lane, account, wake_at, row_number() OVER (PARTITION BY account ORDER BY wake_at, lane) AS nth
    FROM due
), picked AS (
    SELECT r.lane
    FROM ranked r
    LEFT JOIN unnest(@some::text[], @rooms::integer[]) AS b (account, room) USING (account)
    WHERE r.nth <= COALESCE(b.room, @most)
    ORDER BY r.nth, r.wake_at
    LIMIT @want
), locked AS (
    SELECT lane
    FROM delivery_lanes
    WHERE lane IN (SELECT lane FROM picked) AND wake_at <= now()
    FOR UPDATE SKIP LOCKED
)
UPDATE delivery_lanes l
SET holder = @holder, wake_at = now() + @lease, touched_at = now()
FROM locked
WHERE l.lane = locked.lane
RETURNING l.lane, l.account, l.standing, l.failures`

// selectDue finds what is due in lanes.
const selectDue = `
SELECT ` + deliveryColumns + `
FROM unnest(@lanes::text[], @most::integer[]) AS held (lane, most)
CROSS JOIN LATERAL (
    SELECT *
    FROM deliveries
    WHERE deliveries.lane = held.lane AND state = 'pending' AND next_at <= now()
    ORDER BY next_at, id
    LIMIT held.most
) d
ORDER BY d.next_at, d.id`

const selectJobsByID = `
SELECT ` + jobColumns + `
FROM jobs
WHERE id = ANY(@ids) AND day = ANY(@days)`

const (
	selectEndpointsByID = `
SELECT id, account, url, events, batch_line_events, secret, old_secret, old_until, disabled_at, disabled_reason
FROM webhook_endpoints
WHERE id = ANY(@ids)`

	selectSecrets = `
SELECT account, secret, old_secret, old_until
FROM webhook_secrets
WHERE account = ANY(@accounts)`
)

// ClaimLanes takes lanes for a sender, with what is due in them, until the end
// of a lease or until Settle gives them back. A lane that comes with nothing is
// to be given back too.
func (s *Store) ClaimLanes(ctx context.Context, holder string, lease time.Duration, wants []webhook.Want) ([]webhook.Bout, error) {
	var bouts []webhook.Bout
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var most []int
		for _, w := range wants {
			got, err := claim(ctx, tx, holder, lease, w)
			if err != nil {
				return err
			}
			bouts = append(bouts, got...)
			for range got {
				most = append(most, w.Deliveries)
			}
		}
		return fillBouts(ctx, tx, bouts, most)
	})
	if err != nil {
		return nil, fmt.Errorf("claim lanes: %w", err)
	}
	return bouts, nil
}

func claim(ctx context.Context, tx pgx.Tx, holder string, lease time.Duration, w webhook.Want) ([]webhook.Bout, error) {
	if w.Lanes <= 0 {
		return nil, nil
	}
	full, some, rooms := []string{}, []string{}, []int{}
	for id, n := range w.Held {
		if room := w.PerAccount - n; room > 0 {
			some, rooms = append(some, id), append(rooms, room)
		} else {
			full = append(full, id)
		}
	}
	rows, _ := tx.Query(ctx, claimLanes, pgx.NamedArgs{
		"standing": string(w.Standing), "full": full, "some": some, "rooms": rooms, "most": w.PerAccount, "want": w.Lanes, "look": 4 * w.Lanes,
		"holder": holder, "lease": lease,
	})
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (webhook.Bout, error) {
		var b webhook.Bout
		err := row.Scan(&b.Lane, &b.Account, (*string)(&b.Health.Standing), &b.Health.Failures)
		return b, err
	})
}

// fillBouts reads what is due in each lane, and all that is needed to send it.
func fillBouts(ctx context.Context, tx pgx.Tx, bouts []webhook.Bout, most []int) error {
	if len(bouts) == 0 {
		return nil
	}
	at := make(map[string]*webhook.Bout, len(bouts))
	lanes, accounts := make([]string, len(bouts)), make([]string, len(bouts))
	for i := range bouts {
		lanes[i], accounts[i] = bouts[i].Lane, bouts[i].Account
		at[bouts[i].Lane] = &bouts[i]
	}
	rows, _ := tx.Query(ctx, selectDue, pgx.NamedArgs{"lanes": lanes, "most": most})
	due, err := pgx.CollectRows(rows, pgx.RowToStructByName[deliveryRow])
	if err != nil {
		return err
	}
	about := map[string][]*webhook.Bout{} // by the id of a job
	var ids []string
	var days []time.Time
	for _, r := range due {
		b := at[r.Lane]
		b.Deliveries = append(b.Deliveries, r.delivery())
		if id, err := job.ParseID(r.Subject); err == nil && r.Body == nil {
			ids, days = append(ids, r.Subject), append(days, day(id))
			about[r.Subject] = append(about[r.Subject], b)
		}
	}
	rows, _ = tx.Query(ctx, selectJobsByID, pgx.NamedArgs{"ids": ids, "days": days})
	jobs, err := pgx.CollectRows(rows, pgx.RowToStructByName[jobRow])
	if err != nil {
		return err
	}
	for _, r := range jobs {
		j, err := r.job()
		if err != nil {
			return err
		}
		for _, b := range about[r.ID] {
			if b.Jobs == nil {
				b.Jobs = map[job.ID]*job.Job{}
			}
			b.Jobs[j.ID] = j
		}
	}
	return addSecrets(ctx, tx, at, lanes, accounts)
}

// addSecrets fills in where lanes lead to and what signs there.
func addSecrets(ctx context.Context, tx pgx.Tx, bouts map[string]*webhook.Bout, lanes, accounts []string) error {
	rows, _ := tx.Query(ctx, selectEndpointsByID, pgx.NamedArgs{"ids": lanes})
	_, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var e webhook.Endpoint
		var oldUntil, disabled *time.Time
		var reason *string
		err := row.Scan(&e.ID, &e.Account, &e.URL, &e.Events, &e.BatchLineEvents, &e.Secrets.Sealed, &e.Secrets.OldSealed, &oldUntil, &disabled, &reason)
		e.Secrets.OldUntil, e.DisabledAt, e.DisabledReason = deref(oldUntil), deref(disabled), or(reason)
		if b := bouts[e.ID]; b != nil {
			b.Endpoint = &e
		}
		return struct{}{}, err
	})
	if err != nil {
		return err
	}
	slices.Sort(accounts)
	rows, _ = tx.Query(ctx, selectSecrets, pgx.NamedArgs{"accounts": slices.Compact(accounts)})
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (struct{}, error) {
		var id string
		var secrets webhook.Secrets
		var oldUntil *time.Time
		err := row.Scan(&id, &secrets.Sealed, &secrets.OldSealed, &oldUntil)
		secrets.OldUntil = deref(oldUntil)
		for _, b := range bouts {
			if b.Account == id {
				b.Secrets = secrets
			}
		}
		return struct{}{}, err
	})
	return err
}

const (
	// healLanes wakes lanes that should be awake: after somebody has moved
	// next_at in a row by hand. Both leave out what somebody has locked: whoever
	// writes messages locks lanes in their order, which these do not keep.
	healLanes = `
UPDATE delivery_lanes
SET wake_at = now()
WHERE lane IN (
    SELECT lane
    FROM delivery_lanes l
    WHERE holder IS NULL AND wake_at > now() AND (open_until IS NULL OR open_until <= now())
      AND EXISTS (SELECT FROM deliveries d WHERE d.lane = l.lane AND d.state = 'pending' AND d.next_at <= now())
    FOR UPDATE SKIP LOCKED)`

	trimLanes = `
DELETE FROM delivery_lanes
WHERE lane IN (
    SELECT lane
    FROM delivery_lanes
    WHERE wake_at = 'infinity' AND holder IS NULL AND touched_at < now() - interval '1 day'
    FOR UPDATE SKIP LOCKED)`

	selectBacklog = `
SELECT COALESCE(sum(waiting), 0)::bigint, COALESCE(sum(waiting) FILTER (WHERE standing = 'failing'), 0)::bigint
FROM (
    SELECT l.standing, (
        SELECT count(*)
        FROM (SELECT FROM deliveries d WHERE d.lane = l.lane AND d.state = 'pending' AND d.next_at <= now() LIMIT 1000) few
    ) AS waiting
    FROM delivery_lanes l
    WHERE l.wake_at < 'infinity'
) lanes`
)

// TendLanes wakes lanes that sleep although something is due, forgets those to
// which nothing was sent for a day, and counts what is due, up to 1,000 of each
// lane: in all, and in those whose receiver fails.
func (s *Store) TendLanes(ctx context.Context) (due, failing int64, err error) {
	for _, sql := range []string{healLanes, trimLanes} {
		if _, err := s.pool.Exec(ctx, sql); err != nil {
			return 0, 0, fmt.Errorf("tend lanes: %w", err)
		}
	}
	if err := s.pool.QueryRow(ctx, selectBacklog).Scan(&due, &failing); err != nil {
		return 0, 0, fmt.Errorf("tend lanes: %w", err)
	}
	return due, failing, nil
}

// ListenOutbox calls heard when something is written into the outbox, until ctx
// ends or the connection is lost. It calls it at the beginning too: what came
// before was not heard.
func (s *Store) ListenOutbox(ctx context.Context, heard func()) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("listen to the outbox: %w", err)
	}
	// It is not given back: the next one who gets it would hear too.
	own := conn.Hijack()
	defer func() { _ = own.Close(context.WithoutCancel(ctx)) }()
	if _, err := own.Exec(ctx, "LISTEN "+OutboxChannel); err != nil {
		return fmt.Errorf("listen to the outbox: %w", err)
	}
	heard()
	for {
		if _, err := own.WaitForNotification(ctx); err != nil {
			if errors.Is(err, context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("listen to the outbox: %w", err)
		}
		heard()
	}
}
