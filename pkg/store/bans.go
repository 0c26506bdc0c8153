package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
)

type banRow struct {
	Subject string
	Step    string
	Since   time.Time
	Until   *time.Time
	Reason  string
	Actor   string
	Blocks  []time.Time
}

const selectBans = `
SELECT subject, step, since, until, reason, actor, blocks
FROM bans
ORDER BY since DESC, subject`

// Bans lists whom the ladder or an admin keeps out, and those whose block has
// ended less than a week ago, the newest first.
func (s *Store) Bans(ctx context.Context) ([]account.Ban, error) {
	rows, _ := s.pool.Query(ctx, selectBans)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[banRow])
	if err != nil {
		return nil, fmt.Errorf("list bans: %w", err)
	}
	var out []account.Ban
	for _, r := range list {
		who, err := account.ParseSubject(r.Subject)
		if err != nil {
			s.log.Warn("a ban is of nobody that can be read, and keeps nobody out", "subject", r.Subject, "err", err)
			continue
		}
		b := account.Ban{
			Subject: who, Step: account.Step(r.Step), Since: r.Since.UTC(), Until: deref(r.Until), Reason: r.Reason, Actor: r.Actor,
		}
		for _, at := range r.Blocks {
			b.Blocks = append(b.Blocks, at.UTC())
		}
		out = append(out, b)
	}
	return out, nil
}

const (
	upsertBan = `
INSERT INTO bans (subject, step, since, until, reason, actor, blocks)
VALUES (@subject, @step, @since, @until, @reason, @actor, @blocks)
ON CONFLICT (subject) DO UPDATE
SET step = excluded.step, since = excluded.since, until = excluded.until,
    reason = excluded.reason, actor = excluded.actor, blocks = excluded.blocks
WHERE bans.since <= excluded.since`

	deleteBan = `
DELETE FROM bans
WHERE subject = @subject AND since <= @since`

	insertAudit = `
INSERT INTO audit (id, at, actor, action, subject, detail)
VALUES (@id, @at, @actor, @action, @subject, @detail)
ON CONFLICT (id) DO NOTHING`
)

// FileBans writes down steps of the ladder in their order, each with its line
// of the audit: all of them or none. Writing the same ones again changes
// nothing, and an older word about a subject does not replace a newer one.
func (s *Store) FileBans(ctx context.Context, steps []account.Ban, audit []account.Audit) error {
	var b pgx.Batch
	for _, step := range steps {
		blocks := step.Blocks
		if blocks == nil {
			blocks = []time.Time{}
		}
		args := pgx.NamedArgs{
			"subject": step.Subject.String(), "step": string(step.Step), "since": step.Since, "until": orNull(step.Until),
			"reason": step.Reason, "actor": step.Actor, "blocks": blocks,
		}
		switch step.Step {
		case account.StepBlocked, account.StepBanned:
			b.Queue(upsertBan, args)
		case account.StepLifted:
			b.Queue(deleteBan, pgx.NamedArgs{"subject": step.Subject.String(), "since": step.Since})
		}
	}
	for _, a := range audit {
		args, err := auditArgs(a)
		if err != nil {
			return err
		}
		b.Queue(insertAudit, args)
	}
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return tx.SendBatch(ctx, &b).Close() })
	if err != nil {
		return fmt.Errorf("file bans: %w", err)
	}
	return nil
}

func auditArgs(a account.Audit) (pgx.NamedArgs, error) {
	detail := a.Detail
	if detail == nil {
		detail = map[string]any{}
	}
	text, err := json.Marshal(detail)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return pgx.NamedArgs{"id": a.ID, "at": a.At, "actor": a.Actor, "action": a.Action, "subject": a.Subject, "detail": text}, nil
}

// AddAudit writes down one thing that was done.
func (s *Store) AddAudit(ctx context.Context, a account.Audit) error {
	args, err := auditArgs(a)
	if err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, insertAudit, args); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

const selectAuditLog = `
SELECT id, at, actor, action, subject, detail
FROM audit
WHERE (@before = '' OR id < @before) AND (@subject = '' OR subject = @subject)
ORDER BY id DESC
LIMIT @limit`

// AuditLog lists what was done, the newest first, from before an id on; to one
// subject, or to anybody if that is empty.
func (s *Store) AuditLog(ctx context.Context, subject, before string, limit int) ([]account.Audit, error) {
	rows, _ := s.pool.Query(ctx, selectAuditLog, pgx.NamedArgs{"subject": subject, "before": before, "limit": limit})
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (account.Audit, error) {
		var a account.Audit
		err := row.Scan(&a.ID, &a.At, &a.Actor, &a.Action, &a.Subject, &a.Detail)
		a.At = a.At.UTC()
		return a, err
	})
	if err != nil {
		return nil, fmt.Errorf("list audit: %w", err)
	}
	return list, nil
}

const (
	trimBans = `
DELETE FROM bans
WHERE until < now() - interval '7 days'`

	trimAudit = `
DELETE FROM audit
WHERE at < now() - interval '1 year'`
)

// TrimBans deletes blocks that ended more than a week ago, and lines of the
// audit that are a year old.
func (s *Store) TrimBans(ctx context.Context) error {
	for _, sql := range []string{trimBans, trimAudit} {
		if _, err := s.pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("trim bans: %w", err)
		}
	}
	return nil
}
