package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tintype/tintype/loadtest/audit"
)

// gather reads the archive and the bucket, with clients of its own.
func (a *arena) gather(ctx context.Context, run *audit.Run) error {
	c, err := pgx.Connect(ctx, a.databaseURL)
	if err != nil {
		return fmt.Errorf("the archive: %w", err)
	}
	defer c.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	return errors.Join(a.rows(ctx, c, run), a.charges(ctx, c, run), a.objects(ctx, run))
}

func (a *arena) rows(ctx context.Context, c *pgx.Conn, run *audit.Run) error {
	const jobs = `
SELECT id, account, state, custom_id, tier, attempts, billable, key_hash, coalesce(object, ''), coalesce(size_bytes, 0), sha256
FROM jobs`
	rows, err := c.Query(ctx, jobs)
	if err != nil {
		return err
	}
	run.Rows, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (audit.Row, error) {
		var row audit.Row
		err := r.Scan(&row.ID, &row.Account, &row.State, &row.CustomID, &row.Tier, &row.Attempts, &row.Billable, &row.KeyHash,
			&row.Object, &row.Size, &row.SHA256)
		return row, err
	})
	return err
}

func (a *arena) charges(ctx context.Context, c *pgx.Conn, run *audit.Run) error {
	rows, err := c.Query(ctx, `SELECT id, account, period, units, reason, count FROM usage_events`)
	if err != nil {
		return err
	}
	if run.Events, err = pgx.CollectRows(rows, pgx.RowToStructByPos[audit.Event]); err != nil {
		return err
	}
	if rows, err = c.Query(ctx, `SELECT account, period, units FROM usage_month`); err != nil {
		return err
	}
	if run.Months, err = pgx.CollectRows(rows, pgx.RowToStructByPos[audit.Month]); err != nil {
		return err
	}
	if rows, err = c.Query(ctx, `SELECT account, period, day, units, succeeded, cached, failed, canceled, expired FROM usage_day`); err != nil {
		return err
	}
	if run.Days, err = pgx.CollectRows(rows, pgx.RowToStructByPos[audit.Day]); err != nil {
		return err
	}
	var seq, chain int64
	if rows, err = c.Query(ctx, `SELECT id, account, type, subject, state, attempts, coalesce(ended_at, '0001-01-01') FROM deliveries`); err != nil {
		return err
	}
	if run.Deliveries, err = pgx.CollectRows(rows, pgx.RowToStructByPos[audit.Delivery]); err != nil {
		return err
	}
	err = c.QueryRow(ctx, `SELECT ledger_seq, crc FROM projection WHERE shard = 0`).Scan(&seq, &chain)
	run.Projection = audit.Projection{Seq: uint64(seq), Chain: uint32(chain)}
	return err
}

// usages asks every account's usage of the farm itself, as the account does.
// One whose calls are used up is not told any more, and the admin is.
func (a *arena) usages(ctx context.Context) ([]audit.Usage, error) {
	var all []audit.Usage
	for id, key := range a.keys {
		u := audit.Usage{Account: id}
		c := &conn{host: a.hosts[0], key: key}
		resp, text, err := c.do(ctx, answerWithin, http.MethodGet, "/v1/usage", nil)
		c.close()
		if err != nil {
			return nil, err
		}
		var body struct {
			Units            int64
			Limit, Remaining *int64
			Usage            *struct{ Units int64 }
		}
		switch {
		case resp.StatusCode == http.StatusOK:
			err = json.Unmarshal(text, &body)
		case a.rules.Plans[id].PerCall && resp.StatusCode == http.StatusPaymentRequired:
			status, problem := ask(ctx, http.MethodGet, a.hosts[0], "/admin/v1/accounts/"+id, nil, &body)
			if problem != nil || status != http.StatusOK || body.Usage == nil {
				return nil, fmt.Errorf("account %s: %d, %w", id, status, problem)
			}
			left, limit := int64(0), a.rules.Plans[id].Quota/120
			body.Units, body.Limit, body.Remaining = body.Usage.Units, &limit, &left
		default:
			return nil, fmt.Errorf("the usage of %s: %s %s", id, resp.Status, text)
		}
		if err != nil {
			return nil, err
		}
		u.Units = body.Units
		if body.Limit != nil && body.Remaining != nil {
			u.Limit, u.Remaining = *body.Limit, *body.Remaining
		}
		limit, limitErr := strconv.ParseInt(resp.Header.Get("X-Quota-Limit"), 10, 64)
		left, leftErr := strconv.ParseInt(resp.Header.Get("X-Quota-Remaining"), 10, 64)
		if limitErr == nil && leftErr == nil {
			u.Headers = &audit.Quota{Limit: limit, Remaining: left}
		}
		all = append(all, u)
	}
	return all, nil
}

func (a *arena) objects(ctx context.Context, run *audit.Run) error {
	at, err := url.Parse(a.s3)
	if err != nil {
		return err
	}
	b, err := minio.New(at.Host, &minio.Options{Creds: credentials.NewStaticV4(a.access, a.secret, ""), Region: "us-east-1"})
	if err != nil {
		return err
	}
	for o := range b.ListObjects(ctx, "tintype", minio.ListObjectsOptions{Prefix: "r/", Recursive: true}) {
		if o.Err != nil {
			return fmt.Errorf("the bucket: %w", o.Err)
		}
		r, err := b.GetObject(ctx, "tintype", o.Key, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		body, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return fmt.Errorf("object %s: %w", o.Key, err)
		}
		sum := sha256.Sum256(body)
		run.Objects = append(run.Objects, audit.Object{Key: o.Key, Size: int64(len(body)), SHA256: sum[:]})
	}
	return nil
}

// filed waits until every job has ended and the archive has every end.
func (a *arena) filed(ctx context.Context, w *watch) error {
	ctx, cancel := context.WithTimeoutCause(ctx, projectedWithin, fmt.Errorf("the archive was not up to date within %s", projectedWithin))
	defer cancel()
	c, err := pgx.Connect(ctx, a.databaseURL)
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	for still := 0; still < 10; {
		var seq int64
		if err := c.QueryRow(ctx, `SELECT ledger_seq FROM projection WHERE shard = 0`).Scan(&seq); err != nil {
			return err
		}
		w.mu.Lock()
		same := w.endedAt <= uint64(seq) && len(w.taken) == w.ended && len(w.leases) == 0 && w.read["JOBS_0"] == w.jobs
		w.mu.Unlock()
		if still++; !same {
			still = 0
		}
		select {
		case <-ctx.Done():
			w.mu.Lock()
			defer w.mu.Unlock()
			return fmt.Errorf("%w: the last end is in frame %d, %d are filed; %d accepted, %d ended; %d records, %d decided", context.Cause(ctx),
				w.endedAt, seq, len(w.taken), w.ended, w.read["JOBS_0"], w.jobs)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}
