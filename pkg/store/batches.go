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
	"github.com/tintype/tintype/pkg/job"
)

// maxOpenBatches is how many batches of one account may be unfinished.
const maxOpenBatches = 100

type batchRow struct {
	ID           string
	Account      string
	Key          string
	Address      string
	State        string
	PausedReason string
	ResumeAt     *time.Time
	Failure      string
	Format       string
	Gzip         bool
	OnError      string
	Defaults     []byte
	Sealed       []byte
	Webhook      []byte
	LineEvents   bool
	CustomID     string
	Metadata     []byte
	File         *string
	Input        string
	InputBytes   int64
	Lines        string
	Total        int64
	Invalid      int64
	Refused      int64
	Pass         int
	PassObject   string
	PassTotal    int64
	Fed          int64
	FedOffset    int64
	LeftOut      int64
	CreatedAt    time.Time
	StartedAt    *time.Time
	FinishedAt   *time.Time
	ExpiresAt    time.Time
	KeptUntil    *time.Time
	Succeeded    int64
	Failed       int64
	Canceled     int64
	Expired      int64
}

const batchColumns = `
id, account, key, address, state, paused_reason, resume_at, failure, format, gzip, on_error, defaults, sealed, webhook, line_events,
custom_id, metadata, file, input, input_bytes, lines, total, invalid, refused, pass, pass_object, pass_total, fed, fed_offset,
left_out, created_at, started_at, finished_at, expires_at, kept_until,
COALESCE(succeeded, 0) AS succeeded, COALESCE(failed, 0) AS failed, COALESCE(canceled, 0) AS canceled, COALESCE(expired, 0) AS expired`

// batchTables have the batchColumns.
const batchTables = `batches LEFT JOIN batch_ends ON batch = id`

func (r batchRow) batch() (*batch.Batch, error) {
	b := &batch.Batch{
		ID: r.ID, Account: r.Account, Key: r.Key, Address: r.Address, State: batch.State(r.State), PausedReason: r.PausedReason,
		ResumeAt: deref(r.ResumeAt), Failure: r.Failure, Format: batch.Format(r.Format), Gzip: r.Gzip, OnError: batch.OnError(r.OnError),
		Defaults: r.Defaults, Sealed: r.Sealed, LineEvents: r.LineEvents, CustomID: r.CustomID, File: or(r.File), Input: r.Input, InputBytes: r.InputBytes,
		Lines: r.Lines, Total: r.Total, Invalid: r.Invalid, Refused: r.Refused,
		Pass: r.Pass, PassObject: r.PassObject, PassTotal: r.PassTotal, Fed: r.Fed, FedOffset: r.FedOffset, LeftOut: r.LeftOut,
		Ends:      batch.Ends{Succeeded: r.Succeeded, Failed: r.Failed, Canceled: r.Canceled, Expired: r.Expired},
		CreatedAt: r.CreatedAt.UTC(), StartedAt: deref(r.StartedAt), FinishedAt: deref(r.FinishedAt), ExpiresAt: r.ExpiresAt.UTC(),
		KeptUntil: deref(r.KeptUntil),
	}
	if err := json.Unmarshal(r.Metadata, &b.Metadata); err != nil {
		return nil, fmt.Errorf("batch %s: metadata: %w", r.ID, err)
	}
	if len(r.Webhook) > 0 {
		b.Webhook = new(job.Webhook)
		if err := json.Unmarshal(r.Webhook, b.Webhook); err != nil {
			return nil, fmt.Errorf("batch %s: webhook: %w", r.ID, err)
		}
	}
	return b, nil
}

// In milliseconds, since the ids of its jobs have them.
const insertBatch = `
INSERT INTO batches (id, account, key, address, state, key_hash, fingerprint, format, gzip, on_error, defaults, sealed, webhook, line_events,
    custom_id, metadata, file, input, input_bytes, created_at, expires_at)
SELECT @id, @account, @key, @address, 'validating', @key_hash, @fingerprint, @format, @gzip, @on_error, @defaults, @sealed, @webhook, @line_events,
    @custom_id, @metadata, @file, @input, @input_bytes, date_trunc('milliseconds', now()), now() + @expires_in
WHERE @most > (SELECT count(*) FROM batches WHERE account = @account
    AND state IN ('validating', 'running', 'paused', 'finalizing', 'canceling'))
RETURNING created_at, expires_at`

// InsertBatch stores a batch that is to be validated, under the hash of its
// account's Idempotency-Key (nil: it has none) with the fingerprint of the
// request, and fills in the times. A key that names another batch is a
// Conflict, as is the id when the answer to an earlier call was lost; too many
// unfinished ones are ThreadsFull.
func (s *Store) InsertBatch(ctx context.Context, b *batch.Batch, expiresIn time.Duration, keyHash, fingerprint []byte) error {
	args := pgx.NamedArgs{
		"id": b.ID, "account": b.Account, "key": b.Key, "address": b.Address, "key_hash": keyHash, "fingerprint": fingerprint,
		"format": string(b.Format), "gzip": b.Gzip, "on_error": string(b.OnError), "line_events": b.LineEvents,
		"custom_id": b.CustomID, "file": orNil(b.File), "input": b.Input, "input_bytes": b.InputBytes,
		"expires_in": expiresIn, "most": maxOpenBatches, "defaults": []byte("{}"), "sealed": b.Sealed, "metadata": []byte("{}"), "webhook": []byte(nil),
	}
	if len(b.Defaults) > 0 {
		args["defaults"] = []byte(b.Defaults)
	}
	var err error
	if len(b.Metadata) > 0 {
		if args["metadata"], err = json.Marshal(b.Metadata); err != nil {
			return fmt.Errorf("insert batch: %w", err)
		}
	}
	if b.Webhook != nil {
		if args["webhook"], err = json.Marshal(b.Webhook); err != nil {
			return fmt.Errorf("insert batch: %w", err)
		}
	}
	var created, expires time.Time
	err = s.pool.QueryRow(ctx, insertBatch, args).Scan(&created, &expires)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return &fault.Error{
			Kind: fault.ThreadsFull, Code: "backlog_full", RetryAfter: time.Minute,
			Detail: fmt.Sprintf("the account has %d unfinished batches, which is as many as there may be; wait for one to end, or cancel one", maxOpenBatches),
		}
	case duplicate(err):
		return fault.Wrap(fault.Conflict, err, "there is such a batch already")
	case err != nil:
		return fmt.Errorf("insert batch: %w", err)
	}
	b.State, b.Pass = batch.Validating, 1
	b.CreatedAt, b.ExpiresAt = created.UTC(), expires.UTC()
	return nil
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

const selectBatch = `
SELECT ` + batchColumns + `
FROM ` + batchTables + `
WHERE id = @id AND account = @account AND (kept_until IS NULL OR kept_until > now())`

// Batch finds an account's batch, while it is kept.
func (s *Store) Batch(ctx context.Context, accountID, id string) (*batch.Batch, error) {
	rows, _ := s.pool.Query(ctx, selectBatch, pgx.NamedArgs{"id": id, "account": accountID})
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[batchRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "there is no such batch")
	}
	if err != nil {
		return nil, fmt.Errorf("batch: %w", err)
	}
	return r.batch()
}

const selectBatchByKey = `
SELECT ` + batchColumns + `, fingerprint
FROM ` + batchTables + `
WHERE account = @account AND key_hash = @key_hash`

// BatchByKey finds the batch that an account's Idempotency-Key names, by the
// hash of both, with the fingerprint of its request.
func (s *Store) BatchByKey(ctx context.Context, accountID string, keyHash []byte) (b *batch.Batch, fingerprint []byte, err error) {
	type keyedRow struct {
		batchRow
		Fingerprint []byte
	}
	rows, _ := s.pool.Query(ctx, selectBatchByKey, pgx.NamedArgs{"account": accountID, "key_hash": keyHash})
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[keyedRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil, fault.New(fault.NotFound, "the key names no batch")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("batch by key: %w", err)
	}
	b, err = r.batch()
	return b, r.Fingerprint, err
}
