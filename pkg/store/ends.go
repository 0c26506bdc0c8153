package store

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Rows are locked in one order, so that no two who count wait for each other.
const insertBatchEnds = `
INSERT INTO batch_ends (batch, succeeded, failed, canceled, expired)
SELECT batch,
    count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state NOT IN ('succeeded', 'canceled', 'expired')),
    count(*) FILTER (WHERE state = 'canceled'), count(*) FILTER (WHERE state = 'expired')
FROM unnest(@batches::text[], @states::text[]) AS ended (batch, state)
GROUP BY batch
ORDER BY batch
ON CONFLICT (batch) DO UPDATE
SET succeeded = batch_ends.succeeded + EXCLUDED.succeeded, failed = batch_ends.failed + EXCLUDED.failed,
    canceled = batch_ends.canceled + EXCLUDED.canceled, expired = batch_ends.expired + EXCLUDED.expired`

// countBatchEnds counts the lines of batches by how they ended, each once: ends
// are those that were not there before.
func countBatchEnds(ctx context.Context, tx pgx.Tx, ends []Ended) error {
	var batches, states []string
	for _, e := range ends {
		if e.Job.Batch != "" {
			batches, states = append(batches, e.Job.Batch), append(states, string(e.Job.State))
		}
	}
	if len(batches) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, insertBatchEnds, pgx.NamedArgs{"batches": batches, "states": states})
	return err
}
