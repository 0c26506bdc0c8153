package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
)

// What an account does to its batches. Each is one statement guarded by the
// state; the feeder that has the batch finds it the next time it writes.

const selectBatches = `
SELECT ` + batchColumns + `
FROM ` + batchTables + `
WHERE account = @account AND (kept_until IS NULL OR kept_until > now()) AND (@before = '' OR id < @before) AND (@state = '' OR state = @state)
ORDER BY id DESC
LIMIT @limit`

// Batches lists an account's batches, newest first, from before "before" on; in
// one state, or in any if that is empty.
func (s *Store) Batches(ctx context.Context, accountID string, state batch.State, before string, limit int) ([]*batch.Batch, error) {
	rows, _ := s.pool.Query(ctx, selectBatches, pgx.NamedArgs{"account": accountID, "state": string(state), "before": before, "limit": limit})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[batchRow])
	if err != nil {
		return nil, fmt.Errorf("list batches: %w", err)
	}
	out := make([]*batch.Batch, len(list))
	for i, r := range list {
		if out[i], err = r.batch(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// change is one statement on an account's batch. In a state in which it does
// nothing the batch comes back as it is, and changed is false.
func (s *Store) change(ctx context.Context, what, sql, accountID, id string, args pgx.NamedArgs) (b *batch.Batch, changed bool, err error) {
	if args == nil {
		args = pgx.NamedArgs{}
	}
	args["account"], args["id"] = accountID, id
	tag, err := s.pool.Exec(ctx, sql, args)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", what, err)
	}
	b, err = s.Batch(ctx, accountID, id)
	return b, tag.RowsAffected() > 0, err
}

const cancelBatch = `
UPDATE batches
SET state = 'canceling', paused_reason = '', resume_at = NULL
WHERE id = @id AND account = @account AND state IN ('validating', 'running', 'paused')`

// CancelBatch has what is left of a batch canceled, and its jobs ended.
func (s *Store) CancelBatch(ctx context.Context, accountID, id string) (*batch.Batch, bool, error) {
	return s.change(ctx, "cancel a batch", cancelBatch, accountID, id, nil)
}

const pauseBatch = `
UPDATE batches
SET state = 'paused', paused_reason = 'by_owner', resume_at = NULL
WHERE id = @id AND account = @account AND (state = 'running' OR state = 'paused' AND paused_reason <> 'by_owner')`

// PauseBatch lets no more lines of a batch become jobs until it is resumed.
func (s *Store) PauseBatch(ctx context.Context, accountID, id string) (*batch.Batch, bool, error) {
	return s.change(ctx, "pause a batch", pauseBatch, accountID, id, nil)
}

const resumeBatch = `
UPDATE batches
SET state = 'running', paused_reason = '', resume_at = NULL
WHERE id = @id AND account = @account AND state = 'paused'`

// ResumeBatch ends a pause, whyever it was made.
func (s *Store) ResumeBatch(ctx context.Context, accountID, id string) (*batch.Batch, bool, error) {
	return s.change(ctx, "resume a batch", resumeBatch, accountID, id, nil)
}

const (
	lockCompleted = `
SELECT pass, created_at
FROM batches
WHERE id = @id AND account = @account AND state = 'completed' AND (kept_until IS NULL OR kept_until > now())
FOR UPDATE`

	countFailed = `
SELECT
    (SELECT count(*) FROM jobs WHERE batch = @id AND pass = @pass AND day = @day AND state = 'failed'),
    (SELECT count(*) FROM batch_refusals WHERE batch = @id AND pass = @pass)`

	uncountFailed = `
UPDATE batch_ends
SET failed = failed - @failed
WHERE batch = @id`

	nextPass = `
UPDATE batches
SET state = 'running', pass = pass + 1, pass_object = '', pass_total = @again, refused = refused - @refused,
    fed = 0, fed_offset = 0, finished_at = NULL, kept_until = NULL, expires_at = now() + @expires_in, feeder = NULL, feed_until = NULL
WHERE id = @id`
)

// RetryBatch has the failed lines of a completed batch made into jobs once more:
// from now on they are unfinished again. changed is false where the batch is not
// completed, or nothing of it failed.
func (s *Store) RetryBatch(ctx context.Context, accountID, id string, expiresIn time.Duration) (b *batch.Batch, changed bool, err error) {
	args := pgx.NamedArgs{"id": id, "account": accountID, "expires_in": expiresIn}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var pass int
		var created time.Time
		if err := tx.QueryRow(ctx, lockCompleted, args).Scan(&pass, &created); err != nil {
			return err
		}
		args["pass"], args["day"] = pass, dayOf(&batch.Batch{CreatedAt: created})
		var failed, refused int64
		if err := tx.QueryRow(ctx, countFailed, args).Scan(&failed, &refused); err != nil {
			return err
		}
		if failed+refused == 0 {
			return nil
		}
		args["failed"], args["refused"], args["again"], changed = failed, refused, failed+refused, true
		if _, err := tx.Exec(ctx, uncountFailed, args); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, nextPass, args)
		return err
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, false, fmt.Errorf("retry what failed of a batch: %w", err)
	}
	b, err = s.Batch(ctx, accountID, id)
	return b, changed, err
}

// The thousandth of the latest ends of a batch is close to as good a measure of
// its pace as all of them, and is found at once.
const selectPace = `
SELECT count(*), min(finished_at)
FROM (
    SELECT finished_at
    FROM jobs
    WHERE batch = @id AND day = @day AND finished_at > @since
    ORDER BY finished_at DESC
    LIMIT @most
) AS latest`

// paceOf is how many of the latest ends say how fast a batch is.
const paceOf = 1000

// BatchPace is how many jobs of a batch have ended lately, and since when: the
// last thousand, or those after a moment if they are fewer.
func (s *Store) BatchPace(ctx context.Context, b *batch.Batch, after time.Time) (ends int64, since time.Time, err error) {
	var first *time.Time
	if err := s.pool.QueryRow(ctx, selectPace, pgx.NamedArgs{"id": b.ID, "day": dayOf(b), "since": after, "most": paceOf}).Scan(&ends, &first); err != nil {
		return 0, time.Time{}, fmt.Errorf("pace of a batch: %w", err)
	}
	if since = after; ends == paceOf {
		since = deref(first)
	}
	return ends, since, nil
}
