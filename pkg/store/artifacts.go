package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

const selectArtifact = `
SELECT a.job, a.made_at, a.fresh_until, a.expires_at,
    j.object, j.content_type, j.width, j.height, j.pages, j.size_bytes, j.sha256, j.evidence
FROM artifacts a
JOIN jobs j ON j.id = a.job AND j.day = a.day
WHERE a.account = @account AND a.cache_key = @cache_key AND a.expires_at > now() AND j.result_gone_at IS NULL AND j.object IS NOT NULL`

// Artifact finds the result that answers an account's request of this cache
// key, fresh or not, while its object is there.
func (s *Store) Artifact(ctx context.Context, accountID string, cacheKey []byte) (*job.Artifact, error) {
	a := &job.Artifact{Result: new(job.Result)}
	var contentType *string
	var width, height, pages *int
	var size *int64
	var sum, evidence []byte
	err := s.pool.QueryRow(ctx, selectArtifact, pgx.NamedArgs{"account": accountID, "cache_key": cacheKey}).Scan(
		&a.Job, &a.MadeAt, &a.FreshUntil, &a.ExpiresAt, &a.Result.Object, &contentType, &width, &height, &pages, &size, &sum, &evidence)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "nothing is cached")
	}
	if err != nil {
		return nil, fmt.Errorf("artifact: %w", err)
	}
	r := a.Result
	r.ContentType, r.Width, r.Height, r.Pages = or(contentType), or(width), or(height), or(pages)
	r.SizeBytes, r.SHA256 = or(size), hex.EncodeToString(sum)
	if len(evidence) > 0 {
		if err := json.Unmarshal(evidence, &a.Evidence); err != nil {
			return nil, fmt.Errorf("artifact of %s: evidence: %w", a.Job, err)
		}
	}
	return a, nil
}

// A newer result goes before an older one, whichever is filed first.
const upsertArtifacts = `
INSERT INTO artifacts (account, cache_key, job, day, object, made_at, fresh_until, expires_at)
SELECT *
FROM unnest(@accounts::text[], @cache_keys::bytea[], @jobs::text[], @days::date[], @objects::text[],
    @made::timestamptz[], @fresh::timestamptz[], @expires::timestamptz[])
ON CONFLICT (account, cache_key) DO UPDATE
SET job = EXCLUDED.job, day = EXCLUDED.day, object = EXCLUDED.object,
    made_at = EXCLUDED.made_at, fresh_until = EXCLUDED.fresh_until, expires_at = EXCLUDED.expires_at
WHERE artifacts.made_at <= EXCLUDED.made_at`

// keepArtifacts notes which of the ends answer identical requests from now on.
func keepArtifacts(ctx context.Context, tx pgx.Tx, ends []Ended) error {
	last := map[string]int{} // of each key: a statement may not touch a row twice
	for i, e := range ends {
		if len(e.CacheKey) == sha256.Size && e.Job.Result != nil {
			last[e.Job.Account+"\x00"+string(e.CacheKey)] = i
		}
	}
	if len(last) == 0 {
		return nil
	}
	var accounts, jobs, objects []string
	var keys [][]byte
	var days, made, fresh, expires []time.Time
	for _, i := range last {
		e := ends[i]
		until := e.FreshUntil
		if until.After(e.Job.ExpiresAt) {
			until = e.Job.ExpiresAt
		}
		accounts, keys, jobs = append(accounts, e.Job.Account), append(keys, e.CacheKey), append(jobs, string(e.Job.ID))
		days, objects = append(days, day(e.Job.ID)), append(objects, e.Job.Result.Object)
		made, fresh, expires = append(made, e.Job.FinishedAt), append(fresh, until), append(expires, e.Job.ExpiresAt)
	}
	_, err := tx.Exec(ctx, upsertArtifacts, pgx.NamedArgs{
		"accounts": accounts, "cache_keys": keys, "jobs": jobs, "days": days, "objects": objects,
		"made": made, "fresh": fresh, "expires": expires,
	})
	return err
}

const deleteArtifacts = `
DELETE FROM artifacts
WHERE (account, cache_key) IN (
    SELECT account, cache_key
    FROM artifacts
    WHERE fresh_until <= now() AND (fresh_until <= now() - @stale::interval OR expires_at <= now())
    LIMIT @limit)`

// DeleteArtifacts forgets what answers nobody any more: what has not been
// fresh for as long as any plan takes stale results, or whose object is over.
// At most limit of them; it returns how many.
func (s *Store) DeleteArtifacts(ctx context.Context, stale time.Duration, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, deleteArtifacts, pgx.NamedArgs{"stale": stale, "limit": limit})
	if err != nil {
		return 0, fmt.Errorf("delete artifacts: %w", err)
	}
	return int(tag.RowsAffected()), nil
}
