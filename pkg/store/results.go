package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
)

// What the results of a batch are made of, a page at a time. Ids of its jobs
// have the time of the batch, so all of its rows are in one partition.

type resultRow struct {
	ID            string
	State         string
	Line          int
	Pass          int
	CustomID      string
	FinishedAt    time.Time
	ExpiresAt     time.Time
	Object        *string
	ContentType   *string
	Width         *int
	Height        *int
	Pages         *int
	SizeBytes     *int64
	Sha256        []byte
	ResultGoneAt  *time.Time
	FailureCode   *string
	FailureStage  *string
	FailureDetail *string
}

const resultColumns = `
id, state, line, pass, custom_id, finished_at, expires_at, object, content_type, width, height, pages, size_bytes, sha256,
result_gone_at, failure_code, failure_stage, failure_detail`

func (r resultRow) job(b *batch.Batch) *job.Job {
	j := &job.Job{
		ID: job.ID(r.ID), Account: b.Account, State: job.State(r.State), FinishedAt: r.FinishedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(),
		Batch: b.ID, Line: r.Line, Pass: r.Pass, CustomID: r.CustomID,
	}
	if r.Object != nil {
		j.Result = &job.Result{
			Object: *r.Object, ContentType: or(r.ContentType), Width: or(r.Width), Height: or(r.Height), Pages: or(r.Pages),
			SizeBytes: or(r.SizeBytes), SHA256: hex.EncodeToString(r.Sha256), Gone: r.ResultGoneAt != nil,
		}
	}
	if r.FailureCode != nil {
		j.Failure = job.Fail(job.Code(*r.FailureCode), job.Stage(or(r.FailureStage)), "%s", or(r.FailureDetail))
	}
	return j
}

// The index has lines in order, and of one line the few passes are sorted.
const selectBatchJobs = `
SELECT DISTINCT ON (line) ` + resultColumns + `
FROM jobs
WHERE batch = @batch AND day = @day AND line > @after
ORDER BY line, pass DESC
LIMIT @limit`

// BatchJobs are the ended jobs of a batch's lines behind "after", in the order
// of lines; of a line that was tried again, the last one. They have what a
// result says and nothing else.
func (s *Store) BatchJobs(ctx context.Context, b *batch.Batch, after, limit int) ([]*job.Job, error) {
	return s.results(ctx, b, selectBatchJobs, pgx.NamedArgs{"after": after, "limit": limit})
}

const selectBatchEnds = `
SELECT ` + resultColumns + `
FROM jobs
WHERE batch = @batch AND day = @day AND (finished_at, id) > (@at, @id)
ORDER BY finished_at, id
LIMIT @limit`

// BatchEnds are the jobs of a batch in the order in which they ended, from
// behind the one with that end and id on; the zero time is the beginning. No
// job that ended earlier appears later: the projector files ends in their
// order, and no two end at one moment.
func (s *Store) BatchEnds(ctx context.Context, b *batch.Batch, at time.Time, id job.ID, limit int) ([]*job.Job, error) {
	return s.results(ctx, b, selectBatchEnds, pgx.NamedArgs{"at": at, "id": string(id), "limit": limit})
}

func (s *Store) results(ctx context.Context, b *batch.Batch, sql string, args pgx.NamedArgs) ([]*job.Job, error) {
	args["batch"], args["day"] = b.ID, b.CreatedAt.UTC().Truncate(24*time.Hour)
	rows, _ := s.pool.Query(ctx, sql, args)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[resultRow])
	if err != nil {
		return nil, fmt.Errorf("results of batch %s: %w", b.ID, err)
	}
	out := make([]*job.Job, len(list))
	for i, r := range list {
		out[i] = r.job(b)
	}
	return out, nil
}

const selectBatchRefusals = `
SELECT DISTINCT ON (line) line, pass, code, detail
FROM batch_refusals
WHERE batch = @batch AND line > @after
ORDER BY line, pass DESC
LIMIT @limit`

// BatchRefusals are lines of a batch behind "after" that were refused for good,
// each with its last refusal.
func (s *Store) BatchRefusals(ctx context.Context, b *batch.Batch, after, limit int) ([]batch.Refusal, error) {
	rows, _ := s.pool.Query(ctx, selectBatchRefusals, pgx.NamedArgs{"batch": b.ID, "after": after, "limit": limit})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[batch.Refusal])
	if err != nil {
		return nil, fmt.Errorf("refusals of batch %s: %w", b.ID, err)
	}
	return list, nil
}

// Ids of a batch's jobs sort by line, and the index has lines.
const selectJobsOfBatch = `
SELECT ` + jobColumns + `
FROM jobs
WHERE batch = @batch AND day = @day AND expires_at > now()
  AND (@before = '' OR id < @before)
  AND line <= COALESCE((SELECT line FROM jobs WHERE id = @before AND day = @day), @last)
  AND (@state = '' OR state = @state)
ORDER BY line DESC, id DESC
LIMIT @limit`

// JobsOfBatch is Jobs for those of one batch.
func (s *Store) JobsOfBatch(ctx context.Context, b *batch.Batch, state job.State, before job.ID, limit int) ([]*job.Job, error) {
	rows, _ := s.pool.Query(ctx, selectJobsOfBatch, pgx.NamedArgs{
		"batch": b.ID, "day": dayOf(b), "before": string(before), "state": string(state), "last": batch.MaxNumber, "limit": limit,
	})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[jobRow])
	if err != nil {
		return nil, fmt.Errorf("list jobs of batch %s: %w", b.ID, err)
	}
	out := make([]*job.Job, len(list))
	for i, r := range list {
		if out[i], err = r.job(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
