package store

import (
	"context"
	"fmt"
	"time"
)

// partitions makes the day partitions that the ends are filed under.
func (s *Store) partitions(ctx context.Context, ends []Ended) error {
	for _, e := range ends {
		if err := s.partition(ctx, day(e.Job.ID)); err != nil {
			return err
		}
	}
	return nil
}

// partitionLayout is a partition's name.
const partitionLayout = "jobs_20060102"

// partition makes the partition of a day. Its name and bounds are dates that
// we formatted: nothing of a client is in the statement.
func (s *Store) partition(ctx context.Context, d time.Time) error {
	if _, known := s.days.Load(d); known {
		return nil
	}
	sql := fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s PARTITION OF jobs FOR VALUES FROM ('%s') TO ('%s')",
		d.Format(partitionLayout), d.Format(time.DateOnly), d.AddDate(0, 0, 1).Format(time.DateOnly))
	if _, err := s.pool.Exec(ctx, sql); err != nil {
		return fmt.Errorf("partition of %s: %w", d.Format(time.DateOnly), err)
	}
	s.days.Store(d, true)
	return nil
}
