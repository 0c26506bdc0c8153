package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// The end of batches that nobody may ask for any more, and of what is kept
// beside them. A batch that its account deleted is one whose retention ended
// before it was made: it is gone at once, and then the results of its lines and
// its row are deleted little by little, by whoever comes to it.

const dropBatch = `
UPDATE batches
SET kept_until = to_timestamp(0), key_hash = NULL
WHERE id = @id AND account = @account AND state IN ('completed', 'canceled', 'expired', 'failed')
    AND (kept_until IS NULL OR kept_until > now())`

// DropBatch takes an ended batch from its account: from now on there is none.
// One that has not ended is a Conflict.
func (s *Store) DropBatch(ctx context.Context, accountID, id string) (*batch.Batch, error) {
	b, err := s.Batch(ctx, accountID, id)
	if err != nil {
		return nil, err
	}
	tag, err := s.pool.Exec(ctx, dropBatch, pgx.NamedArgs{"id": id, "account": accountID})
	switch {
	case err != nil:
		return nil, fmt.Errorf("drop batch: %w", err)
	case tag.RowsAffected() == 0:
		return nil, fault.New(fault.Conflict, "the batch is %s; cancel it, or wait for its end", b.State)
	}
	return b, nil
}

const selectOverBatches = `
SELECT ` + batchColumns + `
FROM ` + batchTables + `
WHERE kept_until <= now()
ORDER BY kept_until
LIMIT @limit`

// OverBatches are batches whose retention has ended, and that were deleted.
func (s *Store) OverBatches(ctx context.Context, limit int) ([]*batch.Batch, error) {
	rows, _ := s.pool.Query(ctx, selectOverBatches, pgx.NamedArgs{"limit": limit})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[batchRow])
	if err != nil {
		return nil, fmt.Errorf("batches that are over: %w", err)
	}
	out := make([]*batch.Batch, len(list))
	for i, r := range list {
		if out[i], err = r.batch(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// An object that is another job's stays: it goes with that one.
const dropBatchResults = `
WITH next AS (
    SELECT id, line
    FROM jobs
    WHERE batch = @batch AND day = @day AND line > @after
    ORDER BY line
    LIMIT @limit
), forgotten AS (
    DELETE FROM artifacts
    WHERE job IN (SELECT id FROM next)
), dropped AS (
    UPDATE jobs
    SET result_gone_at = COALESCE(result_gone_at, now())
    FROM next
    WHERE jobs.id = next.id AND jobs.day = @day AND object IS NOT NULL
    RETURNING CASE WHEN split_part(object, '/', 3) = jobs.id THEN object END AS object
)
SELECT (SELECT COALESCE(max(line), 0) FROM next), (SELECT count(*) FROM next),
    ARRAY(SELECT object FROM dropped WHERE object IS NOT NULL)`

// DropBatchResults marks the results of a batch's lines behind one as deleted,
// as DropResult does, of about limit jobs. It returns their objects, which the
// caller removes, and the line to go on behind; 0 says that there are no more.
func (s *Store) DropBatchResults(ctx context.Context, b *batch.Batch, after, limit int) (objects []string, last int, err error) {
	// A line has several jobs if it was tried again: those that the limit cuts
	// off must not be passed over.
	limit = max(limit, b.Pass+1)
	var count int
	err = s.pool.QueryRow(ctx, dropBatchResults, pgx.NamedArgs{"batch": b.ID, "day": dayOf(b), "after": after, "limit": limit}).
		Scan(&last, &count, &objects)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("drop results of batch %s: %w", b.ID, err)
	case count < limit:
		return objects, 0, nil
	}
	return objects, last - 1, nil
}

const deleteBatch = `
WITH ends AS (
    DELETE FROM batch_ends WHERE batch = @id
), refusals AS (
    DELETE FROM batch_refusals WHERE batch = @id
)
DELETE FROM batches
WHERE id = @id AND kept_until <= now()`

// DeleteBatch deletes the row of a batch that is over, and all that is counted
// for it. Rows of its jobs go with their day.
func (s *Store) DeleteBatch(ctx context.Context, id string) error {
	if _, err := s.pool.Exec(ctx, deleteBatch, pgx.NamedArgs{"id": id}); err != nil {
		return fmt.Errorf("delete batch: %w", err)
	}
	return nil
}

const deleteFiles = `
DELETE FROM files
WHERE id IN (
    SELECT id
    FROM files
    WHERE expires_at <= now()
    ORDER BY expires_at
    LIMIT @limit)`

// DeleteFiles deletes rows of uploads whose time is over, at most limit of
// them, and returns how many. Their objects stay for as long as a batch is made
// of them.
func (s *Store) DeleteFiles(ctx context.Context, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, deleteFiles, pgx.NamedArgs{"limit": limit})
	if err != nil {
		return 0, fmt.Errorf("delete files: %w", err)
	}
	return int(tag.RowsAffected()), nil
}

const deleteDeliveries = `
WITH over AS (
    DELETE FROM deliveries
    WHERE id IN (
        SELECT id
        FROM deliveries
        WHERE ended_at <= now() - @age::interval
        ORDER BY ended_at
        LIMIT @limit)
    RETURNING id
), attempts AS (
    DELETE FROM delivery_attempts
    WHERE delivery IN (SELECT id FROM over)
)
SELECT count(*)
FROM over`

// DeleteDeliveries deletes deliveries that ended so long ago, with their
// attempts, at most limit of them, and returns how many.
func (s *Store) DeleteDeliveries(ctx context.Context, age time.Duration, limit int) (n int, err error) {
	if err := s.pool.QueryRow(ctx, deleteDeliveries, pgx.NamedArgs{"age": age, "limit": limit}).Scan(&n); err != nil {
		return 0, fmt.Errorf("delete deliveries: %w", err)
	}
	return n, nil
}

// Uploads is what the archive says at one moment of objects that are no job's.
type Uploads struct {
	At       time.Time       // by the database's clock
	Named    map[string]bool // objects that a batch or a file names
	Accounts map[string]bool // accounts that there are
}

const selectNamed = `
SELECT input FROM batches WHERE input = ANY(@keys)
UNION
SELECT lines FROM batches WHERE id = ANY(@batches)
UNION
SELECT pass_object FROM batches WHERE id = ANY(@batches)
UNION
SELECT object FROM files WHERE object = ANY(@keys)`

// Uploads says which of these objects, of these batches and accounts, are named
// by a row.
func (s *Store) Uploads(ctx context.Context, keys, batches, accounts []string) (Uploads, error) {
	u := Uploads{Named: map[string]bool{}, Accounts: map[string]bool{}}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var text string
		fill := func(set map[string]bool, sql string, args pgx.NamedArgs) error {
			rows, _ := tx.Query(ctx, sql, args)
			_, err := pgx.ForEachRow(rows, []any{&text}, func() error {
				set[text] = true
				return nil
			})
			return err
		}
		return errors.Join(
			tx.QueryRow(ctx, `SELECT now()`).Scan(&u.At),
			fill(u.Named, selectNamed, pgx.NamedArgs{"keys": keys, "batches": batches}),
			fill(u.Accounts, selectThere, pgx.NamedArgs{"ids": accounts}),
		)
	})
	if err != nil {
		return Uploads{}, fmt.Errorf("whose uploads there are: %w", err)
	}
	return u, nil
}
