package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/job"
)

// An Ended is the end of one job, with its bill.
type Ended struct {
	Job         *job.Job
	KeyHash     []byte // of its Idempotency-Key; nil if it had none
	Fingerprint []byte
	Units       int64     // 1/120 credit; 0 is free
	Period      time.Time // first day of the period that it was accepted in
	CacheKey    []byte    // what it answers from now on; nil if nothing
	FreshUntil  time.Time // until then; set with CacheKey
}

const insertJob = `
INSERT INTO jobs (
    id, day, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
    key_hash, fingerprint, batch, line, pass, custom_id, metadata, options, object, content_type, width, height, pages, size_bytes, sha256,
    failure_code, failure_stage, failure_detail, timings, evidence)
VALUES (
    @id, @day, @account, @state, @tier, @accepted_at, @started_at, @finished_at, @expires_at, @attempts, @cached, @billable,
    @key_hash, @fingerprint, @batch, @line, @pass, @custom_id, @metadata, @options, @object, @content_type, @width, @height, @pages, @size_bytes, @sha256,
    @failure_code, @failure_stage, @failure_detail, @timings, @evidence)
ON CONFLICT DO NOTHING`

// insertJobList is insertJob for many rows: one array a column, since parsing,
// planning and naming the arguments of each row costs more than storing it.
const insertJobList = `
INSERT INTO jobs (
    id, day, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
    key_hash, fingerprint, batch, line, pass, custom_id, metadata, options, object, content_type, width, height, pages, size_bytes, sha256,
    failure_code, failure_stage, failure_detail, timings, evidence)
SELECT
    id, day, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
    key_hash, fingerprint, batch, line, pass, custom_id, metadata::json, options::json, object, content_type, width, height, pages, size_bytes, sha256,
    failure_code, failure_stage, failure_detail, timings::json, evidence::json
FROM unnest(
    @id::text[], @day::date[], @account::text[], @state::text[], @tier::integer[], @accepted_at::timestamptz[], @started_at::timestamptz[],
    @finished_at::timestamptz[], @expires_at::timestamptz[], @attempts::integer[], @cached::boolean[], @billable::boolean[],
    @key_hash::bytea[], @fingerprint::bytea[], @batch::text[], @line::integer[], @pass::integer[], @custom_id::text[], @metadata::text[], @options::text[], @object::text[],
    @content_type::text[], @width::integer[], @height::integer[], @pages::integer[], @size_bytes::bigint[], @sha256::bytea[],
    @failure_code::text[], @failure_stage::text[], @failure_detail::text[], @timings::text[], @evidence::text[]
) AS ended (
    id, day, account, state, tier, accepted_at, started_at, finished_at, expires_at, attempts, cached, billable,
    key_hash, fingerprint, batch, line, pass, custom_id, metadata, options, object, content_type, width, height, pages, size_bytes, sha256,
    failure_code, failure_stage, failure_detail, timings, evidence)
ON CONFLICT DO NOTHING
RETURNING id`

// insertJobs returns those that were not there before.
func insertJobs(ctx context.Context, tx pgx.Tx, ends []Ended) ([]Ended, error) {
	if len(ends) == 0 {
		return nil, nil
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
	rows, _ := tx.Query(ctx, insertJobList, list)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(ids) == len(ends) {
		return ends, err
	}
	inserted := map[string]bool{}
	for _, id := range ids {
		inserted[id] = true
	}
	var fresh []Ended
	for _, e := range ends {
		if id := string(e.Job.ID); inserted[id] {
			inserted[id] = false // the same end may be here twice
			fresh = append(fresh, e)
		}
	}
	return fresh, nil
}

// insertJobsOneByOne is the slow way, taken when the database refused one of
// many rows: it finds which, and inserts that one without what strangers
// wrote. What is refused all the same is left out: the job's charge is kept,
// and one row does not keep all others out of the archive.
func (s *Store) insertJobsOneByOne(ctx context.Context, tx pgx.Tx, ends []Ended) (fresh []Ended, stripped int, err error) {
	var rowless []Ended
	inserted := int64(0)
	try := func(args pgx.NamedArgs) error {
		return pgx.BeginFunc(ctx, tx, func(sp pgx.Tx) error {
			tag, err := sp.Exec(ctx, insertJob, args)
			inserted = tag.RowsAffected()
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
			rowless = append(rowless, e)
			continue
		}
		if err != nil {
			return nil, stripped, err
		}
		if inserted > 0 {
			fresh = append(fresh, e)
		}
	}
	// A batch waits for the ends of all its lines.
	for _, e := range rowless {
		err := pgx.BeginFunc(ctx, tx, func(sp pgx.Tx) error { return countBatchEnds(ctx, sp, []Ended{e}) })
		if err != nil && !refused(err) { // it may be of no batch that there can be
			return nil, stripped, err
		}
	}
	return fresh, stripped, nil
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
		"batch": nil, "line": nil, "pass": nil,
		"object": nil, "content_type": nil, "width": nil, "height": nil, "pages": nil, "size_bytes": nil, "sha256": nil,
		"failure_code": nil, "failure_stage": nil, "failure_detail": nil,
		"timings": nil, "evidence": nil,
	}
	if j.Batch != "" {
		args["batch"], args["line"], args["pass"] = j.Batch, j.Line, j.Pass
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
