package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/job"
)

// shard is the only one there is.
const shard = 0

// A Projection is how far the ledger is in the archive: the last frame's
// sequence and chain value. The zero value is nothing yet.
type Projection struct {
	Seq   uint64
	Chain uint32
}

// An Ended is the end of one job, with its bill.
type Ended struct {
	Job         *job.Job
	KeyHash     []byte // of its Idempotency-Key; nil if it had none
	Fingerprint []byte
	Units       int64     // 1/120 credit; 0 is free
	Period      time.Time // first day of the month it was accepted in
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

// Project writes ends and moves the offset from "from" to "to", in one
// transaction. It returns how many rows the database refused in full and took
// without their text, or not at all. What was projected before is skipped by its id, so a
// transaction whose commit was not heard may be tried again.
func (s *Store) Project(ctx context.Context, from, to Projection, ends []Ended) (stripped int, err error) {
	stripped, err = s.file(ctx, from, to, ends)
	if noPartition(err) {
		// The janitor dropped a day, here or in the process that led before,
		// and a job of that day ends only now.
		s.days.Clear()
		stripped, err = s.file(ctx, from, to, ends)
	}
	if err != nil {
		return 0, fmt.Errorf("project to frame %d: %w", to.Seq, err)
	}
	return stripped, nil
}

func (s *Store) file(ctx context.Context, from, to Projection, ends []Ended) (stripped int, err error) {
	if err := s.partitions(ctx, ends); err != nil {
		return 0, err
	}
	err = s.project(ctx, from, to, ends, func(tx pgx.Tx) error { return insertJobs(ctx, tx, ends) })
	if refused(err) {
		err = s.project(ctx, from, to, ends, func(tx pgx.Tx) error {
			stripped, err = s.insertJobsOneByOne(ctx, tx, ends)
			return err
		})
	}
	return stripped, err
}

const moveProjection = `
UPDATE projection
SET ledger_seq = @seq, crc = @crc
WHERE shard = @shard AND ledger_seq = @from`

func (s *Store) project(ctx context.Context, from, to Projection, ends []Ended, insert func(pgx.Tx) error) error {
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
		if err := insert(tx); err != nil {
			return err
		}
		return charge(ctx, tx, ends)
	})
}

const insertJob = `
INSERT INTO jobs (
    id, day, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
    key_hash, fingerprint, custom_id, metadata, options, object, content_type, width, height, pages, size_bytes, sha256,
    failure_code, failure_stage, failure_detail, timings, evidence)
VALUES (
    @id, @day, @account, @state, @tier, @accepted_at, @started_at, @finished_at, @expires_at, @attempts, @cached, @billable,
    @key_hash, @fingerprint, @custom_id, @metadata, @options, @object, @content_type, @width, @height, @pages, @size_bytes, @sha256,
    @failure_code, @failure_stage, @failure_detail, @timings, @evidence)
ON CONFLICT DO NOTHING`

// insertJobList is insertJob for many rows: one array a column, since parsing,
// planning and naming the arguments of each row costs more than storing it.
const insertJobList = `
INSERT INTO jobs (
    id, day, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
    key_hash, fingerprint, custom_id, metadata, options, object, content_type, width, height, pages, size_bytes, sha256,
    failure_code, failure_stage, failure_detail, timings, evidence)
SELECT
    id, day, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
    key_hash, fingerprint, custom_id, metadata::json, options::json, object, content_type, width, height, pages, size_bytes, sha256,
    failure_code, failure_stage, failure_detail, timings::json, evidence::json
FROM unnest(
    @id::text[], @day::date[], @account::text[], @state::text[], @tier::integer[], @accepted_at::timestamptz[], @started_at::timestamptz[],
    @finished_at::timestamptz[], @expires_at::timestamptz[], @attempts::integer[], @cached::boolean[], @billable::boolean[],
    @key_hash::bytea[], @fingerprint::bytea[], @custom_id::text[], @metadata::text[], @options::text[], @object::text[],
    @content_type::text[], @width::integer[], @height::integer[], @pages::integer[], @size_bytes::bigint[], @sha256::bytea[],
    @failure_code::text[], @failure_stage::text[], @failure_detail::text[], @timings::text[], @evidence::text[]
) AS ended (
    id, day, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
    key_hash, fingerprint, custom_id, metadata, options, object, content_type, width, height, pages, size_bytes, sha256,
    failure_code, failure_stage, failure_detail, timings, evidence)
ON CONFLICT DO NOTHING`

func insertJobs(ctx context.Context, tx pgx.Tx, ends []Ended) error {
	if len(ends) == 0 {
		return nil
	}
	list := pgx.NamedArgs{}
	for i, e := range ends {
		for column, value := range jobArgs(e) {
			if i == 0 {
				list[column] = make([]any, 0, len(ends))
			}
			list[column] = append(list[column].([]any), value)
		}
	}
	_, err := tx.Exec(ctx, insertJobList, list)
	return err
}

// insertJobsOneByOne is the slow way, taken when the database refused one of
// many rows: it finds which, and inserts that one without what strangers
// wrote. What is refused all the same is left out: the job's charge is kept,
// and one row does not keep all others out of the archive.
func (s *Store) insertJobsOneByOne(ctx context.Context, tx pgx.Tx, ends []Ended) (stripped int, err error) {
	try := func(args pgx.NamedArgs) error {
		return pgx.BeginFunc(ctx, tx, func(sp pgx.Tx) error {
			_, err := sp.Exec(ctx, insertJob, args)
			return err
		})
	}
	for _, e := range ends {
		args := jobArgs(e)
		err := try(args)
		if refused(err) {
			stripped++
			strip(args)
			err = try(args)
		}
		if refused(err) {
			s.log.Error("the database takes no row of a job in any form; its charge is kept", "job", e.Job.ID, "account", e.Job.Account, "err", err)
			continue
		}
		if err != nil {
			return stripped, err
		}
	}
	return stripped, nil
}

// strip takes out of a row what a client or a page wrote, and makes the rest
// text that a column takes.
func strip(args pgx.NamedArgs) {
	args["custom_id"], args["metadata"], args["options"], args["evidence"] = "", "{}", "{}", nil
	if args["failure_code"] != nil {
		args["failure_stage"], args["failure_detail"] = "", ""
	}
	for column, value := range args {
		if text, ok := value.(string); ok {
			args[column] = strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
		}
	}
}

func jobArgs(e Ended) pgx.NamedArgs {
	j := e.Job
	args := pgx.NamedArgs{
		"id": string(j.ID), "day": day(j.ID), "account": j.Account, "state": string(j.State), "tier": j.Tier,
		"accepted_at": j.CreatedAt, "started_at": orNull(j.StartedAt), "finished_at": j.FinishedAt, "expires_at": j.ExpiresAt,
		"attempts": j.Attempts, "cached": j.Cached, "billable": j.Billable != nil && *j.Billable,
		"key_hash": e.KeyHash, "fingerprint": e.Fingerprint,
		"custom_id": j.CustomID, "metadata": text(j.Metadata, "{}"), "options": string(j.Options),
		"object": nil, "content_type": nil, "width": nil, "height": nil, "pages": nil, "size_bytes": nil, "sha256": nil,
		"failure_code": nil, "failure_stage": nil, "failure_detail": nil,
		"timings": nil, "evidence": nil,
	}
	if r := j.Result; r != nil {
		sum, _ := hex.DecodeString(r.SHA256) // an empty digest is found out at delivery
		args["object"], args["content_type"], args["size_bytes"], args["sha256"] = r.Object, r.ContentType, r.SizeBytes, sum
		args["width"], args["height"], args["pages"] = r.Width, r.Height, r.Pages
	}
	if f := j.Failure; f != nil {
		args["failure_code"], args["failure_stage"], args["failure_detail"] = string(f.Code), string(f.Stage), f.Detail
	}
	if j.Timings != nil {
		args["timings"] = text(j.Timings, "{}")
	}
	if j.Evidence != nil {
		args["evidence"] = text(j.Evidence, "{}")
	}
	return args
}

// text is v as JSON, or instead when JSON cannot hold it.
func text(v any, instead string) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return instead
	}
	return string(b)
}

// insertCharges adds each charge once and sums up only what it added: a month,
// and its days, are the sum of its events by construction.
const insertCharges = `
WITH charged AS (
    INSERT INTO usage_events (id, account, period, units, reason, happened)
    SELECT * FROM unnest(@ids::text[], @accounts::text[], @periods::date[], @units::bigint[], @reasons::text[], @happened::timestamptz[])
    ON CONFLICT DO NOTHING
    RETURNING account, period, units, reason, happened
), days AS (
    INSERT INTO usage_day (account, period, day, units, renders)
    SELECT account, period, (happened AT TIME ZONE 'UTC')::date, sum(units), count(*) FILTER (WHERE reason = 'render')
    FROM charged
    GROUP BY 1, 2, 3
    ON CONFLICT (account, period, day) DO UPDATE
    SET units = usage_day.units + EXCLUDED.units, renders = usage_day.renders + EXCLUDED.renders
)
INSERT INTO usage_month (account, period, units)
SELECT account, period, sum(units) FROM charged GROUP BY account, period
ON CONFLICT (account, period) DO UPDATE SET units = usage_month.units + EXCLUDED.units`

func charge(ctx context.Context, tx pgx.Tx, ends []Ended) error {
	var ids, accounts, reasons []string
	var periods, happened []time.Time
	var units []int64
	for _, e := range ends {
		if e.Units == 0 {
			continue
		}
		ids, accounts, reasons = append(ids, string(e.Job.ID)), append(accounts, e.Job.Account), append(reasons, "render")
		periods, happened, units = append(periods, e.Period), append(happened, e.Job.FinishedAt), append(units, e.Units)
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, insertCharges, pgx.NamedArgs{
		"ids": ids, "accounts": accounts, "periods": periods, "units": units, "reasons": reasons, "happened": happened,
	})
	return err
}

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
