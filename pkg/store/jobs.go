package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

type jobRow struct {
	ID            string
	Account       string
	State         string
	Tier          int
	AcceptedAt    time.Time
	StartedAt     *time.Time
	FinishedAt    time.Time
	ExpiresAt     time.Time
	Attempts      int
	Cached        bool
	Billable      bool
	Batch         *string
	Line          *int
	Pass          *int
	CustomID      string
	Metadata      []byte
	Options       []byte
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
	Timings       []byte
	Evidence      []byte
}

const jobColumns = `
id, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
batch, line, pass, custom_id, metadata, options, object, content_type, width, height, pages, size_bytes, sha256, result_gone_at,
failure_code, failure_stage, failure_detail, timings, evidence`

func (r jobRow) job() (*job.Job, error) {
	j := &job.Job{
		ID: job.ID(r.ID), Account: r.Account, State: job.State(r.State), Tier: r.Tier,
		CreatedAt: r.AcceptedAt.UTC(), StartedAt: deref(r.StartedAt), FinishedAt: r.FinishedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(),
		Attempts: r.Attempts, Cached: r.Cached, Billable: &r.Billable, Options: r.Options,
		Batch: or(r.Batch), Line: or(r.Line), Pass: or(r.Pass), CustomID: r.CustomID,
	}
	if err := json.Unmarshal(r.Metadata, &j.Metadata); err != nil {
		return nil, fmt.Errorf("job %s: metadata: %w", r.ID, err)
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
	if len(r.Timings) > 0 {
		if err := json.Unmarshal(r.Timings, &j.Timings); err != nil {
			return nil, fmt.Errorf("job %s: timings: %w", r.ID, err)
		}
	}
	if len(r.Evidence) > 0 {
		if err := json.Unmarshal(r.Evidence, &j.Evidence); err != nil {
			return nil, fmt.Errorf("job %s: evidence: %w", r.ID, err)
		}
	}
	return j, nil
}

func or[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

const selectJob = `
SELECT ` + jobColumns + `
FROM jobs
WHERE id = @id AND day = @day`

// Job finds a finished job, also one whose retention has ended, while its row
// is there.
func (s *Store) Job(ctx context.Context, id job.ID) (*job.Job, error) {
	rows, _ := s.pool.Query(ctx, selectJob, pgx.NamedArgs{"id": string(id), "day": day(id)})
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[jobRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "there is no such job")
	}
	if err != nil {
		return nil, fmt.Errorf("job: %w", err)
	}
	return r.job()
}

// Not ordered by id: for that the planner would walk the account's jobs from
// the newest, on every day that is kept, instead of looking in jobs_key.
const selectJobByKey = `
SELECT ` + jobColumns + `, fingerprint
FROM jobs
WHERE account = @account AND key_hash = @key_hash AND expires_at > now()
ORDER BY accepted_at DESC
LIMIT 1`

// JobByKey finds the finished job that an account's Idempotency-Key names, by
// the hash of both, with the fingerprint of its request. It knows it until the
// job's retention ends.
func (s *Store) JobByKey(ctx context.Context, accountID string, keyHash []byte) (j *job.Job, fingerprint []byte, err error) {
	type keyedRow struct {
		jobRow
		Fingerprint []byte
	}
	rows, _ := s.pool.Query(ctx, selectJobByKey, pgx.NamedArgs{"account": accountID, "key_hash": keyHash})
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[keyedRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, fault.New(fault.NotFound, "the key names no job")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("job by key: %w", err)
	}
	j, err = r.job()
	return j, r.Fingerprint, err
}

const selectJobs = `
SELECT ` + jobColumns + `
FROM jobs
WHERE account = @account AND expires_at > now()
  AND (@before = '' OR id < @before)
  AND (@state = '' OR state = @state)
ORDER BY id DESC
LIMIT @limit`

// Jobs lists an account's finished jobs, newest first, from before "before"
// on; "" is the newest. An empty state lists every one. Those whose retention
// has ended are left out.
func (s *Store) Jobs(ctx context.Context, accountID string, state job.State, before job.ID, limit int) ([]*job.Job, error) {
	rows, _ := s.pool.Query(ctx, selectJobs, pgx.NamedArgs{
		"account": accountID, "before": string(before), "state": string(state), "limit": limit,
	})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[jobRow])
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	out := make([]*job.Job, len(list))
	for i, r := range list {
		if out[i], err = r.job(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

const dropResult = `
WITH forgotten AS (
    DELETE FROM artifacts
    WHERE job = @id AND account = @account
)
UPDATE jobs
SET result_gone_at = COALESCE(result_gone_at, now())
WHERE id = @id AND day = @day AND account = @account AND object IS NOT NULL
RETURNING object`

// DropResult marks the result of an account's job as deleted, so that it answers
// nobody else either, and returns its object, which the caller removes unless it
// is another job's. It may be called again.
func (s *Store) DropResult(ctx context.Context, accountID string, id job.ID) (object string, err error) {
	err = s.pool.QueryRow(ctx, dropResult, pgx.NamedArgs{"account": accountID, "id": string(id), "day": day(id)}).Scan(&object)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", fault.New(fault.NotFound, "the job has no result")
	}
	if err != nil {
		return "", fmt.Errorf("drop result: %w", err)
	}
	return object, nil
}

// day is the partition that an id is filed under.
func day(id job.ID) time.Time { return id.Time().Truncate(24 * time.Hour) }
