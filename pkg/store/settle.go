package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/webhook"
)

const (
	// settleOutcomes logs each attempt once, by its start, also when what was
	// settled before was not heard of; and also one of a sender that had been
	// taken for dead. That cannot undo what another one has heard, but it can
	// tell that the message arrived after all.
	settleOutcomes = `
WITH came AS (
    SELECT *
    FROM unnest(@ids::text[], @at::timestamptz[], @took::integer[], @statuses::integer[], @errors::text[], @answers::text[], @bodies::text[],
        @states::text[], @waits::interval[], @failures::text[]) AS c (id, at, took_ms, status, error, answer, body, state, wait, failure)
    WHERE NOT EXISTS (SELECT FROM delivery_attempts a WHERE a.delivery = c.id AND a.at = c.at)
), settled AS (
    UPDATE deliveries d
    SET attempts = d.attempts + 1, tries = d.tries + 1, body = COALESCE(d.body, c.body),
        state = CASE WHEN d.state = 'pending' OR c.state = 'delivered' THEN c.state ELSE d.state END,
        next_at = CASE WHEN d.state = 'pending' THEN now() + c.wait ELSE d.next_at END,
        failure = CASE WHEN c.state = 'delivered' THEN '' WHEN d.state = 'pending' THEN c.failure ELSE d.failure END,
        ended_at = CASE WHEN d.state = 'pending' AND c.state = 'pending' THEN NULL ELSE COALESCE(d.ended_at, now()) END
    FROM came c
    WHERE d.id = c.id
    RETURNING d.id, d.attempts
)
INSERT INTO delivery_attempts (delivery, attempt, at, took_ms, status, error, answer)
SELECT s.id, s.attempts, c.at, c.took_ms, c.status, c.error, c.answer
FROM settled s
JOIN came c USING (id)`

	noteArrived = `
UPDATE webhook_endpoints
SET failing_since = NULL
WHERE id = ANY(@arrived) AND failing_since IS NOT NULL`

	noteFailing = `
UPDATE webhook_endpoints
SET failing_since = now()
WHERE id = ANY(@failed) AND failing_since IS NULL`

	disableGone = `
UPDATE webhook_endpoints
SET disabled_at = now(), disabled_reason = 'gone', updated_at = now()
WHERE id = ANY(@gone) AND disabled_at IS NULL
RETURNING id, account, disabled_reason AS reason`

	disableFailing = `
UPDATE webhook_endpoints
SET disabled_at = now(), disabled_reason = 'failing', updated_at = now()
WHERE id = ANY(@failed) AND disabled_at IS NULL AND failing_since <= now() - @given_up::interval
RETURNING id, account, disabled_reason AS reason`

	// dropPending takes what waits for longest first. What it leaves is dropped
	// when its lane is claimed again.
	dropPending = `
WITH few AS (
    SELECT d.id, dropped.failure
    FROM unnest(@lanes::text[], @failures::text[], @since::interval[]) AS dropped (lane, failure, since)
    CROSS JOIN LATERAL (
        SELECT id
        FROM deliveries
        WHERE deliveries.lane = dropped.lane AND state = 'pending' AND (dropped.since IS NULL OR next_at <= now() - dropped.since)
        ORDER BY next_at, id
        LIMIT @most
    ) d
    LIMIT @most
)
UPDATE deliveries d
SET state = 'failed', failure = few.failure, ended_at = now()
FROM few
WHERE d.id = few.id AND d.state = 'pending'`

	// lockLanes waits for whoever writes something new into them, so that the
	// next statement sees it.
	lockLanes = `
SELECT lane
FROM delivery_lanes
WHERE lane = ANY(@lanes) AND holder = @holder
ORDER BY lane
FOR UPDATE`

	releaseLanes = `
UPDATE delivery_lanes l
SET holder = NULL, standing = r.standing, failures = r.failures, touched_at = now(),
    open_until = CASE WHEN r.open > interval '0' THEN now() + r.open END,
    wake_at = GREATEST(now() + r.open, COALESCE(
        (SELECT min(next_at) FROM deliveries d WHERE d.lane = l.lane AND d.state = 'pending'), 'infinity'))
FROM unnest(@lanes::text[], @standings::text[], @failures::integer[], @opens::interval[]) AS r (lane, standing, failures, open)
WHERE l.lane = r.lane AND l.holder = @holder
RETURNING l.wake_at <= now()`
)

// Settle writes what came of attempts, and gives lanes back. It disables
// endpoints that answered 410, or to which nothing has arrived for
// webhook.GivenUpAfter, gives up what waits for them, and returns them; due says
// that something is due in a lane that was given back. To settle the same again
// changes nothing.
func (s *Store) Settle(ctx context.Context, holder string, outcomes []webhook.Outcome, released []webhook.Release) (off []webhook.Disabled, due bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		for _, few := range eachOnce(outcomes) {
			if err := settleAttempts(ctx, tx, few); err != nil {
				return err
			}
		}
		if off, err = settleEndpoints(ctx, tx, outcomes); err != nil {
			return err
		}
		due, err = release(ctx, tx, holder, released, off)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("settle deliveries: %w", err)
	}
	return off, due, nil
}

// eachOnce splits outcomes so that no delivery is in a part twice: a statement
// counts one attempt of each. There are two of one delivery after an archive
// that was away for longer than a lease: of the bout before, and of the one
// after.
func eachOnce(outcomes []webhook.Outcome) [][]webhook.Outcome {
	var parts [][]webhook.Outcome
	seen := make(map[string]int, len(outcomes))
	for _, o := range outcomes {
		n := seen[o.Delivery]
		seen[o.Delivery]++
		if n == len(parts) {
			parts = append(parts, nil)
		}
		parts[n] = append(parts[n], o)
	}
	return parts
}

func settleAttempts(ctx context.Context, tx pgx.Tx, outcomes []webhook.Outcome) error {
	n := len(outcomes)
	ids, at, took, statuses, errs := make([]string, n), make([]time.Time, n), make([]int64, n), make([]*int, n), make([]string, n)
	answers, bodies, states, waits, failures := make([]string, n), make([]*string, n), make([]string, n), make([]time.Duration, n), make([]string, n)
	for i, o := range outcomes {
		a := o.Attempt
		ids[i], at[i], took[i], errs[i], answers[i] = o.Delivery, a.At, a.Took.Milliseconds(), a.Error, a.Answer
		if a.Status != 0 {
			statuses[i] = &a.Status
		}
		bodies[i], states[i], failures[i] = orNothing(o.Body), string(o.Verdict.State), o.Verdict.Failure
		if o.Verdict.State == webhook.Pending {
			waits[i] = o.Verdict.At.Sub(a.At.Add(a.Took)) // by our clock, for the database's
		}
	}
	_, err := tx.Exec(ctx, settleOutcomes, pgx.NamedArgs{
		"ids": ids, "at": at, "took": took, "statuses": statuses, "errors": errs, "answers": answers, "bodies": bodies,
		"states": states, "waits": waits, "failures": failures,
	})
	return err
}

func settleEndpoints(ctx context.Context, tx pgx.Tx, outcomes []webhook.Outcome) ([]webhook.Disabled, error) {
	var arrived, failed, gone []string
	for _, o := range outcomes {
		switch {
		case o.Endpoint == "":
		case o.Answer.OK():
			arrived = append(arrived, o.Endpoint)
		case o.Answer.Gone():
			gone = append(gone, o.Endpoint)
		default:
			failed = append(failed, o.Endpoint)
		}
	}
	if len(arrived)+len(failed)+len(gone) == 0 {
		return nil, nil
	}
	// What arrived is the better news: an endpoint that fails is one to which
	// nothing does.
	failed = slices.DeleteFunc(failed, func(id string) bool { return slices.Contains(arrived, id) })
	for _, note := range []struct {
		sql  string
		name string
		ids  []string
	}{{noteArrived, "arrived", arrived}, {noteFailing, "failed", failed}} {
		if len(note.ids) == 0 {
			continue
		}
		if _, err := tx.Exec(ctx, note.sql, pgx.NamedArgs{note.name: note.ids}); err != nil {
			return nil, err
		}
	}
	var off []webhook.Disabled
	for _, disable := range []struct {
		sql  string
		name string
		ids  []string
	}{{disableGone, "gone", gone}, {disableFailing, "failed", failed}} {
		if len(disable.ids) == 0 {
			continue
		}
		rows, _ := tx.Query(ctx, disable.sql, pgx.NamedArgs{disable.name: disable.ids, "given_up": webhook.GivenUpAfter})
		more, err := pgx.CollectRows(rows, pgx.RowToStructByName[webhook.Disabled])
		if err != nil {
			return nil, err
		}
		off = append(off, more...)
	}
	for _, d := range off {
		args, err := auditArgs(account.Audit{
			ID: "aud_" + job.EncodeBase32(uuid.Must(uuid.NewV7())), At: time.Now().UTC(), Actor: "sender", Action: "disabled",
			Subject: d.ID, Detail: map[string]any{"account": d.Account, "reason": d.Reason},
		})
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, insertAudit, args); err != nil {
			return nil, err
		}
	}
	return off, nil
}

// dropMost is how much is given up in one transaction: for one endpoint a
// million messages may wait, and to end them all at once takes longer than
// anybody waits for it.
const dropMost = 2000

// overdueReason is why a message of a long backlog is given up. The breaker lets
// one attempt through in five minutes, so that it might wait for months; and a
// job's own URL is no endpoint that is disabled one day.
const overdueReason = "it waited for five days behind others for a receiver that fails"

// words of why what waits for an endpoint is given up.
func dropReason(d webhook.Disabled) string {
	if d.Reason == webhook.ReasonGone {
		return "the endpoint answered 410 and was disabled"
	}
	return "the endpoint was disabled: for five days nothing arrived there"
}

func release(ctx context.Context, tx pgx.Tx, holder string, released []webhook.Release, off []webhook.Disabled) (due bool, err error) {
	var dropped, reasons []string
	var since []*time.Duration // due for so long; nil: or not due at all
	for _, d := range off {    // the lane of an endpoint has its id
		dropped, reasons, since = append(dropped, d.ID), append(reasons, dropReason(d)), append(since, nil)
	}
	var lanes, standings []string
	var failures []int
	var opens []time.Duration
	for _, r := range released {
		lanes, standings, failures, opens = append(lanes, r.Lane), append(standings, string(r.Health.Standing)), append(failures, r.Health.Failures), append(opens, r.Health.Open)
		if r.Drop != "" {
			dropped, reasons, since = append(dropped, r.Lane), append(reasons, r.Drop), append(since, nil)
		} else if r.Health.Standing == webhook.Failing && r.Health.Open > 0 {
			overdue := webhook.GivenUpAfter
			dropped, reasons, since = append(dropped, r.Lane), append(reasons, overdueReason), append(since, &overdue)
		}
	}
	if len(dropped) > 0 {
		if _, err := tx.Exec(ctx, dropPending, pgx.NamedArgs{"lanes": dropped, "failures": reasons, "since": since, "most": dropMost}); err != nil {
			return false, err
		}
	}
	if len(lanes) == 0 {
		return false, nil
	}
	if _, err := tx.Exec(ctx, lockLanes, pgx.NamedArgs{"lanes": lanes, "holder": holder}); err != nil {
		return false, err
	}
	rows, _ := tx.Query(ctx, releaseLanes, pgx.NamedArgs{"lanes": lanes, "standings": standings, "failures": failures, "opens": opens, "holder": holder})
	more, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	return slices.Contains(more, true), err
}
