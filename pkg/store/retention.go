package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/job"
)

// What the janitor asks and does. The database's clock says what has ended.

// Retained is what the archive says of some jobs and accounts at one moment.
type Retained struct {
	At       time.Time       // by the database's clock
	Seq      uint64          // the last frame that was projected by then
	Jobs     map[job.ID]Kept // those that have a row
	Accounts map[string]bool // those that there are
	Shared   map[string]bool // objects of these jobs that answer other requests
}

// Kept is what a job's row says of its artifact.
type Kept struct {
	Object string // its key; empty when there is none
	Over   bool   // its retention has ended, or its account deleted it
}

const selectMoment = `
SELECT now(), ledger_seq
FROM projection
WHERE shard = @shard`

const selectKept = `
SELECT id, COALESCE(object, '') AS object, expires_at <= now() OR result_gone_at IS NOT NULL AS over
FROM jobs
WHERE day BETWEEN @first AND @last AND id = ANY(@ids)`

const selectShared = `
SELECT object
FROM artifacts
WHERE job = ANY(@ids) AND expires_at > now()`

const selectThere = `
SELECT id
FROM accounts
WHERE id = ANY(@ids)`

// Retained reads all of it in one snapshot.
func (s *Store) Retained(ctx context.Context, ids []job.ID, accounts []string) (Retained, error) {
	r := Retained{Jobs: map[job.ID]Kept{}, Accounts: map[string]bool{}, Shared: map[string]bool{}}
	texts := make([]string, len(ids))
	var first, last time.Time
	for i, id := range ids {
		texts[i] = string(id)
		d := day(id)
		if i == 0 || d.Before(first) {
			first = d
		}
		if i == 0 || d.After(last) {
			last = d
		}
	}
	err := pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var seq int64
		if err := tx.QueryRow(ctx, selectMoment, pgx.NamedArgs{"shard": shard}).Scan(&r.At, &seq); err != nil {
			return err
		}
		r.Seq = uint64(seq)
		rows, _ := tx.Query(ctx, selectKept, pgx.NamedArgs{"first": first, "last": last, "ids": texts})
		var id string
		var k Kept
		if _, err := pgx.ForEachRow(rows, []any{&id, &k.Object, &k.Over}, func() error {
			r.Jobs[job.ID(id)] = k
			return nil
		}); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, selectShared, pgx.NamedArgs{"ids": texts})
		var object string
		if _, err := pgx.ForEachRow(rows, []any{&object}, func() error {
			r.Shared[object] = true
			return nil
		}); err != nil {
			return err
		}
		rows, _ = tx.Query(ctx, selectThere, pgx.NamedArgs{"ids": accounts})
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			r.Accounts[id] = true
			return nil
		})
		return err
	})
	if err != nil {
		return Retained{}, fmt.Errorf("what is retained: %w", err)
	}
	return r, nil
}

const selectWalk = `
SELECT after, after <> '' OR began <= now() - @every::interval
FROM janitor
WHERE shard = @shard`

// Walk is where the walk through the bucket goes on, and whether it should: it
// is under way, or the last one began "every" ago.
func (s *Store) Walk(ctx context.Context, every time.Duration) (after string, due bool, err error) {
	err = s.pool.QueryRow(ctx, selectWalk, pgx.NamedArgs{"shard": shard, "every": every}).Scan(&after, &due)
	if err != nil {
		return "", false, fmt.Errorf("the walk through the bucket: %w", err)
	}
	return after, due, nil
}

const updateWalk = `
UPDATE janitor
SET after = @to, began = CASE WHEN after = '' THEN now() ELSE began END
WHERE shard = @shard`

// Walked notes how far the walk has come; "" is its end.
func (s *Store) Walked(ctx context.Context, to string) error {
	if _, err := s.pool.Exec(ctx, updateWalk, pgx.NamedArgs{"shard": shard, "to": to}); err != nil {
		return fmt.Errorf("the walk through the bucket: %w", err)
	}
	return nil
}

const selectToday = `SELECT (now() AT TIME ZONE 'UTC')::date`

// MakeDays makes the partitions of today and of the days that follow, so that
// no end of a job has to wait for its own.
func (s *Store) MakeDays(ctx context.Context, ahead int) error {
	var today time.Time
	if err := s.pool.QueryRow(ctx, selectToday).Scan(&today); err != nil {
		return fmt.Errorf("make days: %w", err)
	}
	for i := range ahead + 1 {
		if err := s.partition(ctx, today.AddDate(0, 0, i)); err != nil {
			return err
		}
	}
	return nil
}

const selectDays = `
SELECT c.relname
FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'jobs'::regclass
ORDER BY c.relname`

// Days lists the days that have a partition, oldest first.
func (s *Store) Days(ctx context.Context) ([]time.Time, error) {
	rows, _ := s.pool.Query(ctx, selectDays)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("days: %w", err)
	}
	var days []time.Time
	for _, name := range names {
		if d, err := time.Parse(partitionLayout, name); err == nil { // else it is none of ours
			days = append(days, d)
		}
	}
	return days, nil
}

const selectDayOver = `
SELECT @day < (now() AT TIME ZONE 'UTC')::date - 1
   AND NOT EXISTS (SELECT FROM jobs WHERE day = @day AND expires_at > now())
   AND NOT EXISTS (SELECT FROM batches WHERE created_at >= @from AND created_at < @from + interval '24 hours')`

// DayOver reports whether the retention of all that is filed under a day has
// ended. Yesterday and later days are never over, nor is one with a batch: its
// results are made of what is filed under its day.
func (s *Store) DayOver(ctx context.Context, day time.Time) (over bool, err error) {
	if err := s.pool.QueryRow(ctx, selectDayOver, pgx.NamedArgs{"day": day, "from": day}).Scan(&over); err != nil {
		return false, fmt.Errorf("day %s: %w", day.Format(time.DateOnly), err)
	}
	return over, nil
}

// dropWait is how long the drop of a partition may wait for those who read
// jobs: everybody who comes after it waits behind it.
const dropWait = `SET LOCAL lock_timeout = '1s'`

// DropDay drops all that is filed under a day. The caller knows that nothing
// more will be.
func (s *Store) DropDay(ctx context.Context, day time.Time) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, dropWait); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DROP TABLE IF EXISTS "+day.Format(partitionLayout))
		return err
	})
	s.days.Delete(day)
	if err != nil {
		return fmt.Errorf("drop day %s: %w", day.Format(time.DateOnly), err)
	}
	return nil
}

const deleteExpired = `
DELETE FROM jobs
WHERE day = @day AND id IN (
    SELECT id
    FROM jobs
    WHERE day = @day AND expires_at <= now() - @since::interval
        AND (batch IS NULL OR NOT EXISTS (SELECT FROM batches WHERE batches.id = batch))
    LIMIT @limit)`

// DeleteExpired deletes rows of a day whose retention ended "since" ago or
// earlier, at most limit of them, and returns how many. Lines of a batch stay
// for as long as it does.
func (s *Store) DeleteExpired(ctx context.Context, day time.Time, since time.Duration, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, deleteExpired, pgx.NamedArgs{"day": day, "since": since, "limit": limit})
	if err != nil {
		return 0, fmt.Errorf("delete expired rows of %s: %w", day.Format(time.DateOnly), err)
	}
	return int(tag.RowsAffected()), nil
}
