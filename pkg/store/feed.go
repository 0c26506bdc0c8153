package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// What the feeder of a batch does to it. All of it is guarded by the lease: a
// feeder whose batch another one has taken is told so by a Conflict, and has
// changed nothing.

// unsure stands in place of a feeder that has given a batch back without
// knowing of every line whether it was fed.
const unsure = "?"

// ErrNotHeld says that somebody else works on a batch, or that it is not in a
// state to be worked on.
var ErrNotHeld = fault.New(fault.Conflict, "the batch is not held")

// A Claim is a batch in a feeder's hands.
type Claim struct {
	*batch.Batch
	// Unsure says that lines behind FedOffset may have been fed already. Dead
	// says that whoever had it before may not have ended its work.
	Unsure, Dead bool
}

// Of what nobody holds the one that has waited for the longest goes first, so
// that all move when there are more than feeders have room for.
const claimBatch = `
WITH due AS (
    SELECT id AS due_id, feeder AS before
    FROM batches
    WHERE (state IN ('validating', 'running', 'finalizing', 'canceling')
            OR state = 'paused' AND (resume_at <= now() OR expires_at <= now()))
        AND (feed_until IS NULL OR feed_until <= now())
    ORDER BY feed_until NULLS FIRST, id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE batches
    SET feeder = @by, feed_until = now() + @lease
    FROM due
    WHERE id = due_id
    RETURNING batches.*, due.before
)
SELECT ` + batchColumns + `, before
FROM claimed LEFT JOIN batch_ends ON batch = id`

// ClaimBatch takes a batch that is to be worked on for as long as the lease
// says; nil when there is none. by is the boot id of whoever takes it.
func (s *Store) ClaimBatch(ctx context.Context, by string, lease time.Duration) (*Claim, error) {
	type claimRow struct {
		batchRow
		Before *string
	}
	rows, _ := s.pool.Query(ctx, claimBatch, pgx.NamedArgs{"by": by, "lease": lease})
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[claimRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("claim batch: %w", err)
	}
	b, err := r.batch()
	if err != nil {
		return nil, err
	}
	return &Claim{Batch: b, Unsure: r.Before != nil, Dead: r.Before != nil && *r.Before != unsure}, nil
}

// Held is what a feeder learns of its batch whenever it writes.
type Held struct {
	State        batch.State
	PausedReason string
	Expired      bool // its time is over
	Ends         batch.Ends
}

// held runs a statement on a batch in this feeder's hands. The statement gives
// the row of the batch.
func (s *Store) held(ctx context.Context, what, statement string, args pgx.NamedArgs) (h Held, err error) {
	sql := `
WITH changed AS (` + statement + `
    RETURNING *
)
SELECT state, paused_reason, expires_at <= now(),
    COALESCE(succeeded, 0), COALESCE(failed, 0), COALESCE(canceled, 0), COALESCE(expired, 0)
FROM changed LEFT JOIN batch_ends ON batch = id`
	err = s.pool.QueryRow(ctx, sql, args).Scan(&h.State, &h.PausedReason, &h.Expired,
		&h.Ends.Succeeded, &h.Ends.Failed, &h.Ends.Canceled, &h.Ends.Expired)
	if errors.Is(err, pgx.ErrNoRows) {
		return h, ErrNotHeld
	}
	if err != nil {
		return h, fmt.Errorf("%s: %w", what, err)
	}
	return h, nil
}

const saveFed = `
    UPDATE batches
    SET fed = @fed, fed_offset = @offset, feed_until = now() + @lease,
        started_at = CASE WHEN @begins THEN COALESCE(started_at, now()) ELSE started_at END
    WHERE id = @id AND feeder = @by AND pass = @pass`

// SaveFed keeps how far a pass of a batch is fed, and renews the lease. begins
// says that its first line is about to be fed.
func (s *Store) SaveFed(ctx context.Context, by string, b *batch.Batch, begins bool, lease time.Duration) (Held, error) {
	return s.held(ctx, "save what is fed", saveFed, pgx.NamedArgs{
		"id": b.ID, "by": by, "pass": b.Pass, "fed": b.Fed, "offset": b.FedOffset, "lease": lease, "begins": begins,
	})
}

const yieldBatch = `
UPDATE batches
SET feeder = @feeder, feed_until = now()
WHERE id = @id AND feeder = @by`

// YieldBatch gives a batch back, for anybody to take at once. unknown says that
// lines behind what is saved may have been fed.
func (s *Store) YieldBatch(ctx context.Context, by, id string, unknown bool) error {
	var feeder *string
	if unknown {
		feeder = new(string)
		*feeder = unsure
	}
	if _, err := s.pool.Exec(ctx, yieldBatch, pgx.NamedArgs{"id": id, "by": by, "feeder": feeder}); err != nil {
		return fmt.Errorf("give a batch back: %w", err)
	}
	return nil
}

const setValidated = `
    UPDATE batches
    SET lines = @lines, total = @total, invalid = @invalid, failure = @failure, left_out = @left_out,
        pass_object = @lines, pass_total = @pass_total,
        state = CASE WHEN state = 'validating' AND @failure = '' THEN 'running' ELSE state END
    WHERE id = @id AND feeder = @by AND state IN ('validating', 'canceling')`

// BatchValidated keeps what its lines are. One that fails is ended next.
func (s *Store) BatchValidated(ctx context.Context, by string, b *batch.Batch) (Held, error) {
	return s.held(ctx, "keep what a batch's lines are", setValidated, pgx.NamedArgs{
		"id": b.ID, "by": by, "lines": b.Lines, "total": b.Total, "invalid": b.Invalid, "failure": b.Failure,
		"left_out": b.LeftOut, "pass_total": b.PassTotal,
	})
}

const setPassObject = `
    UPDATE batches
    SET pass_object = @object, pass_total = @total
    WHERE id = @id AND feeder = @by AND pass = @pass AND pass_object = ''`

// PassMade keeps the object of the lines that are tried again.
func (s *Store) PassMade(ctx context.Context, by string, b *batch.Batch) (Held, error) {
	return s.held(ctx, "keep the lines of a pass", setPassObject, pgx.NamedArgs{
		"id": b.ID, "by": by, "pass": b.Pass, "object": b.PassObject, "total": b.PassTotal,
	})
}

const insertRefusal = `
    WITH refusal AS (
        INSERT INTO batch_refusals (batch, line, pass, code, detail)
        SELECT id, @line, pass, @code, @detail
        FROM batches
        WHERE id = @id AND feeder = @by AND pass = @pass
        ON CONFLICT DO NOTHING
        RETURNING batch
    )
    UPDATE batches
    SET refused = refused + (SELECT count(*) FROM refusal)
    WHERE id = @id AND feeder = @by AND pass = @pass
    RETURNING refused`

// RefuseLine counts a line of this pass that the farm refused for good, once.
func (s *Store) RefuseLine(ctx context.Context, by string, b *batch.Batch, line int, code, detail string) (refused int64, err error) {
	err = s.pool.QueryRow(ctx, insertRefusal, pgx.NamedArgs{
		"id": b.ID, "by": by, "pass": b.Pass, "line": line, "code": code, "detail": detail,
	}).Scan(&refused)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, ErrNotHeld
	}
	if err != nil {
		return 0, fmt.Errorf("refuse a line: %w", err)
	}
	return refused, nil
}

const selectRefused = `
SELECT line
FROM batch_refusals
WHERE batch = @id AND pass = @pass AND line = ANY(@lines)`

// Refused are those of these lines that were refused for good in this pass.
func (s *Store) Refused(ctx context.Context, b *batch.Batch, lines []int) ([]int, error) {
	rows, _ := s.pool.Query(ctx, selectRefused, pgx.NamedArgs{"id": b.ID, "pass": b.Pass, "lines": lines})
	out, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("refused lines: %w", err)
	}
	return out, nil
}

const selectEndedLines = `
SELECT line
FROM jobs
WHERE batch = @id AND pass = @pass AND line = ANY(@lines) AND day = @day`

// EndedLines are those of these lines whose job of this pass has ended.
func (s *Store) EndedLines(ctx context.Context, b *batch.Batch, lines []int) ([]int, error) {
	rows, _ := s.pool.Query(ctx, selectEndedLines, pgx.NamedArgs{"id": b.ID, "pass": b.Pass, "lines": lines, "day": dayOf(b)})
	out, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("ended lines: %w", err)
	}
	return out, nil
}

// dayOf is the partition of all jobs of a batch: their ids have its time.
func dayOf(b *batch.Batch) time.Time { return b.CreatedAt.UTC().Truncate(24 * time.Hour) }

// selectFailed takes what was refused as failed.
const selectFailed = `
SELECT line
FROM (
    SELECT line FROM jobs WHERE batch = @id AND pass = @pass AND day = @day AND state = 'failed' AND line > @after
    UNION
    SELECT line FROM batch_refusals WHERE batch = @id AND pass = @pass AND line > @after
) AS failed
ORDER BY line
LIMIT @limit`

// FailedLines are lines that failed in a pass, behind this one.
func (s *Store) FailedLines(ctx context.Context, b *batch.Batch, pass, after, limit int) ([]int, error) {
	rows, _ := s.pool.Query(ctx, selectFailed, pgx.NamedArgs{"id": b.ID, "pass": pass, "day": dayOf(b), "after": after, "limit": limit})
	out, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("failed lines: %w", err)
	}
	return out, nil
}

const holdUp = `
    UPDATE batches
    SET state = 'paused', paused_reason = @reason, resume_at = @resume_at
    WHERE id = @id AND feeder = @by AND (state = 'running' OR state = 'paused' AND paused_reason <> 'by_owner')`

// HoldUp pauses a batch that must wait, until a moment at which it is looked at
// again.
func (s *Store) HoldUp(ctx context.Context, by string, b *batch.Batch, reason string, until time.Time) (Held, error) {
	return s.held(ctx, "hold a batch up", holdUp, pgx.NamedArgs{"id": b.ID, "by": by, "reason": reason, "resume_at": until})
}

const goOn = `
    UPDATE batches
    SET state = 'running', paused_reason = '', resume_at = NULL
    WHERE id = @id AND feeder = @by AND state = 'paused' AND resume_at <= now()`

// GoOn ends a pause whose time has come.
func (s *Store) GoOn(ctx context.Context, by string, b *batch.Batch) (Held, error) {
	return s.held(ctx, "end a pause", goOn, pgx.NamedArgs{"id": b.ID, "by": by})
}

// expired is why a batch is canceling whose time was over; it ends Expired.
const expired = "expired"

const letExpire = `
    UPDATE batches
    SET state = 'canceling', paused_reason = '` + expired + `', resume_at = NULL
    WHERE id = @id AND feeder = @by AND state IN ('validating', 'running', 'paused') AND expires_at <= now()`

// LetExpire has what is left of a batch ended whose time is over.
func (s *Store) LetExpire(ctx context.Context, by string, b *batch.Batch) (Held, error) {
	return s.held(ctx, "let a batch expire", letExpire, pgx.NamedArgs{"id": b.ID, "by": by})
}

const leaveOut = `
    UPDATE batches
    SET left_out = GREATEST(pass_total - @fed, 0)
    WHERE id = @id AND feeder = @by AND state = 'canceling' AND pass = @pass`

// LeaveOut says of a batch that is being canceled how many lines of its pass
// were fed, also behind what is saved: the others are left out.
func (s *Store) LeaveOut(ctx context.Context, by string, b *batch.Batch, fed int64) (Held, error) {
	return s.held(ctx, "leave lines out", leaveOut, pgx.NamedArgs{"id": b.ID, "by": by, "pass": b.Pass, "fed": fed})
}

const finalize = `
    UPDATE batches
    SET state = 'finalizing'
    WHERE id = @id AND feeder = @by AND state = 'running' AND fed >= pass_total`

// Finalize says that every job of a batch has ended.
func (s *Store) Finalize(ctx context.Context, by string, b *batch.Batch) (Held, error) {
	return s.held(ctx, "finalize a batch", finalize, pgx.NamedArgs{"id": b.ID, "by": by})
}

// endBatch holds only once the archive has the end of every job that was made.
const endBatch = `
WITH ends AS (
    SELECT COALESCE(sum(succeeded + failed + canceled + expired), 0) AS all_of_them
    FROM batch_ends
    WHERE batch = @id
), changed AS (
    UPDATE batches
    SET state = CASE
            WHEN failure <> '' THEN 'failed'
            WHEN state <> 'canceling' THEN 'completed'
            WHEN paused_reason = '` + expired + `' THEN 'expired'
            ELSE 'canceled'
        END,
        paused_reason = '', resume_at = NULL, finished_at = now(), kept_until = now() + @keep, feeder = NULL, feed_until = NULL
    FROM ends
    WHERE id = @id AND feeder = @by
        AND (state IN ('running', 'finalizing') AND fed >= pass_total OR state = 'canceling' OR state = 'validating' AND failure <> '')
        AND all_of_them >= total - invalid - refused - left_out
    RETURNING batches.*
)
SELECT ` + batchColumns + `
FROM changed LEFT JOIN batch_ends ON batch = id`

// EndBatch ends a batch all of whose jobs have ended, keeps it for so long, and
// tells whoever is to be told, in one transaction. data is what they are told of
// it. ErrNotHeld when there is something left to wait for.
func (s *Store) EndBatch(ctx context.Context, by, id string, keep time.Duration, data func(*batch.Batch) (json.RawMessage, error)) (*batch.Batch, error) {
	var b *batch.Batch
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, endBatch, pgx.NamedArgs{"id": id, "by": by, "keep": keep})
		r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[batchRow])
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotHeld
		}
		if err != nil {
			return err
		}
		if b, err = r.batch(); err != nil {
			return err
		}
		text, err := data(b)
		if err != nil {
			return err
		}
		return TellBatchEnded(ctx, tx, b, text, b.FinishedAt)
	})
	if err != nil && !errors.Is(err, ErrNotHeld) {
		err = fmt.Errorf("end a batch: %w", err)
	}
	return b, err
}
