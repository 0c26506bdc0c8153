package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// shard is the only one there is.
const shard = 0

// A Projection is how far the ledger is in the archive: the last frame's
// sequence and chain value. The zero value is nothing yet.
type Projection struct {
	Seq   uint64
	Chain uint32
}

// A Filing is what the frames between two offsets have for the archive.
type Filing struct {
	Ends    []Ended
	Charges []Charge
	Reached []QuotaReached
}

// ErrOvertaken says that another projector moved the offset. Nothing was
// written.
var ErrOvertaken = errors.New("store: another projector moved the projection")

const selectProjection = `
SELECT ledger_seq, crc
FROM projection
WHERE shard = @shard`

// Projection reads how far the ledger is projected.
func (s *Store) Projection(ctx context.Context) (Projection, error) {
	var seq, crc int64
	if err := s.pool.QueryRow(ctx, selectProjection, pgx.NamedArgs{"shard": shard}).Scan(&seq, &crc); err != nil {
		return Projection{}, fmt.Errorf("projection: %w", err)
	}
	return Projection{uint64(seq), uint32(crc)}, nil
}

// Project writes a filing and moves the offset from "from" to "to", in one
// transaction. It returns how many rows the database refused in full and took
// without their text, or not at all. What was projected before is skipped by its id, so a
// transaction whose commit was not heard may be tried again.
func (s *Store) Project(ctx context.Context, from, to Projection, filing Filing) (stripped int, err error) {
	stripped, err = s.file(ctx, from, to, filing)
	if noPartition(err) {
		// The janitor dropped a day, here or in the process that led before,
		// and a job of that day ends only now.
		s.days.Clear()
		stripped, err = s.file(ctx, from, to, filing)
	}
	if err != nil {
		return 0, fmt.Errorf("project to frame %d: %w", to.Seq, err)
	}
	return stripped, nil
}

func (s *Store) file(ctx context.Context, from, to Projection, filing Filing) (stripped int, err error) {
	if err := s.partitions(ctx, filing.Ends); err != nil {
		return 0, err
	}
	err = s.project(ctx, from, to, filing, insertJobs)
	if refused(err) {
		err = s.project(ctx, from, to, filing, func(ctx context.Context, tx pgx.Tx, ends []Ended) (fresh []Ended, err error) {
			fresh, stripped, err = s.insertJobsOneByOne(ctx, tx, ends)
			return fresh, err
		})
	}
	return stripped, err
}

const moveProjection = `
UPDATE projection
SET ledger_seq = @seq, crc = @crc
WHERE shard = @shard AND ledger_seq = @from`

// project is the transaction. insert returns those of the ends that were not
// there before.
func (s *Store) project(ctx context.Context, from, to Projection, filing Filing, insert func(context.Context, pgx.Tx, []Ended) ([]Ended, error)) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, moveProjection, pgx.NamedArgs{
			"shard": shard, "from": int64(from.Seq), "seq": int64(to.Seq), "crc": int64(to.Chain),
		})
		if err != nil {
			return err
		}
		if tag.RowsAffected() != 1 {
			return ErrOvertaken
		}
		fresh, err := insert(ctx, tx, filing.Ends)
		if err != nil {
			return err
		}
		if err := countOutcomes(ctx, tx, fresh); err != nil {
			return err
		}
		if err := countBatchEnds(ctx, tx, fresh); err != nil {
			return err
		}
		if err := keepArtifacts(ctx, tx, fresh); err != nil {
			return err
		}
		if err := charge(ctx, tx, filing); err != nil {
			return err
		}
		if err := insertReached(ctx, tx, filing.Reached); err != nil {
			return err
		}
		return tell(ctx, tx, fresh, filing.Reached)
	})
}
