package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
)

// By the archive's clock, as its rows are.
const selectRecentBatches = `
SELECT ` + batchColumns + `
FROM ` + batchTables + `
WHERE account = @account AND (state IN ('validating', 'running', 'paused', 'finalizing', 'canceling') OR finished_at > now() - @within::interval)
ORDER BY id DESC
LIMIT 1000`

// RecentBatches are an account's batches that have not ended, or have within this
// time: newest first, and at most a thousand.
func (s *Store) RecentBatches(ctx context.Context, accountID string, within time.Duration) ([]*batch.Batch, error) {
	rows, _ := s.pool.Query(ctx, selectRecentBatches, pgx.NamedArgs{"account": accountID, "within": within})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[batchRow])
	if err != nil {
		return nil, fmt.Errorf("recent batches: %w", err)
	}
	out := make([]*batch.Batch, len(list))
	for i, r := range list {
		if out[i], err = r.batch(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
