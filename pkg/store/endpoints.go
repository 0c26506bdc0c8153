package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/webhook"
)

// endpointColumns are those of an endpointRow.
const endpointColumns = `id, account, url, description, events, batch_line_events, secret, old_secret, old_until,
    created_at, updated_at, failing_since, disabled_at, disabled_reason`

type endpointRow struct {
	ID              string
	Account         string
	URL             string
	Description     string
	Events          []webhook.Type
	BatchLineEvents bool
	Secret          []byte
	OldSecret       []byte
	OldUntil        *time.Time
	CreatedAt       time.Time
	UpdatedAt       time.Time
	FailingSince    *time.Time
	DisabledAt      *time.Time
	DisabledReason  *string
}

func (r endpointRow) endpoint() webhook.Endpoint {
	e := webhook.Endpoint{
		ID: r.ID, Account: r.Account, URL: r.URL, Description: r.Description, Events: r.Events, BatchLineEvents: r.BatchLineEvents,
		Secrets:   webhook.Secrets{Sealed: r.Secret, OldSealed: r.OldSecret, OldUntil: deref(r.OldUntil)},
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), FailingSince: deref(r.FailingSince), DisabledAt: deref(r.DisabledAt),
	}
	if r.DisabledReason != nil {
		e.DisabledReason = *r.DisabledReason
	}
	return e
}

const (
	// Two at once count one after the other. An account that is not there, of
	// an address without a key, is not locked: it has no endpoints.
	lockAccount = `
SELECT id
FROM accounts
WHERE id = @account
FOR UPDATE`

	insertEndpoint = `
INSERT INTO webhook_endpoints (id, account, url, description, events, batch_line_events, secret)
SELECT @id, @account, @url, @description, @events, @batch_line_events, @secret
WHERE (SELECT count(*) FROM webhook_endpoints WHERE account = @account) < @most
RETURNING ` + endpointColumns
)

// CreateEndpoint stores an endpoint, which is signed for with that secret, and
// gives it as it is then. An account that has most of them already is a
// Conflict.
func (s *Store) CreateEndpoint(ctx context.Context, e webhook.Endpoint, secret webhook.Secret, most int) (webhook.Endpoint, error) {
	box, err := s.sealing(ctx)
	if err != nil {
		return webhook.Endpoint{}, err
	}
	var row endpointRow
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockAccount, pgx.NamedArgs{"account": e.Account}); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, insertEndpoint, pgx.NamedArgs{
			"id": e.ID, "account": e.Account, "url": e.URL, "description": e.Description, "events": e.Events,
			"batch_line_events": e.BatchLineEvents, "secret": secret.Seal(box, seal.Endpoint, e.ID), "most": most,
		})
		var err error
		row, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[endpointRow])
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return webhook.Endpoint{}, fault.New(fault.Conflict, "the account has %d webhook endpoints, and more are not offered; delete one", most)
	}
	if err != nil {
		return webhook.Endpoint{}, fmt.Errorf("create endpoint: %w", err)
	}
	return row.endpoint(), nil
}

const selectEndpoints = `
SELECT ` + endpointColumns + `
FROM webhook_endpoints
WHERE account = @account AND id > @after
ORDER BY id
LIMIT @limit`

// Endpoints lists an account's endpoints, the oldest first, from after "after"
// on; "" is the beginning.
func (s *Store) Endpoints(ctx context.Context, accountID, after string, limit int) ([]webhook.Endpoint, error) {
	rows, _ := s.pool.Query(ctx, selectEndpoints, pgx.NamedArgs{"account": accountID, "after": after, "limit": limit})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[endpointRow])
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	out := make([]webhook.Endpoint, len(list))
	for i, r := range list {
		out[i] = r.endpoint()
	}
	return out, nil
}

const selectEndpoint = `
SELECT ` + endpointColumns + `
FROM webhook_endpoints
WHERE id = @id AND account = @account`

// Endpoint finds an account's endpoint.
func (s *Store) Endpoint(ctx context.Context, accountID, id string) (webhook.Endpoint, error) {
	return oneEndpoint(ctx, s.pool, selectEndpoint, pgx.NamedArgs{"id": id, "account": accountID})
}

// updateEndpoint forgets the failures of a place that is no longer asked, and
// of one that is to be tried again.
const updateEndpoint = `
UPDATE webhook_endpoints
SET url = COALESCE(@url, url),
    description = COALESCE(@description, description),
    events = COALESCE(@events, events),
    batch_line_events = COALESCE(@batch_line_events, batch_line_events),
    updated_at = now(),
    failing_since = CASE WHEN @enabled IS TRUE OR @url <> url THEN NULL ELSE failing_since END,
    disabled_at = CASE WHEN @enabled IS TRUE THEN NULL WHEN @enabled IS FALSE THEN COALESCE(disabled_at, now()) ELSE disabled_at END,
    disabled_reason = CASE WHEN @enabled IS TRUE THEN NULL WHEN @enabled IS FALSE THEN COALESCE(disabled_reason, 'by_owner') ELSE disabled_reason END
WHERE id = @id AND account = @account
RETURNING ` + endpointColumns

// closeBreaker lets a lane be tried at once. Whoever sends in it at the moment
// writes down what came of that.
const closeBreaker = `
UPDATE delivery_lanes
SET standing = 'new', failures = 0, open_until = NULL, wake_at = LEAST(wake_at, now())
WHERE lane = @id AND holder IS NULL AND open_until IS NOT NULL`

// UpdateEndpoint changes an endpoint and gives it as it is then. One that is
// switched on or leads elsewhere is tried as if nothing had happened.
func (s *Store) UpdateEndpoint(ctx context.Context, accountID, id string, to webhook.Change) (e webhook.Endpoint, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if e, err = oneEndpoint(ctx, tx, updateEndpoint, pgx.NamedArgs{
			"id": id, "account": accountID, "url": to.URL, "description": to.Description, "events": to.Events,
			"batch_line_events": to.BatchLineEvents, "enabled": to.Enabled,
		}); err != nil {
			return err
		}
		if to.URL == nil && (to.Enabled == nil || !*to.Enabled) {
			return nil
		}
		_, err := tx.Exec(ctx, closeBreaker, pgx.NamedArgs{"id": id})
		return err
	})
	return e, err
}

const rotateEndpoint = `
UPDATE webhook_endpoints
SET secret = @secret, old_secret = secret, old_until = now() + @both::interval, updated_at = now()
WHERE id = @id AND account = @account
RETURNING ` + endpointColumns

// RotateEndpoint lets another secret sign beside the newest of those before,
// which ends webhook.BothSecrets later.
func (s *Store) RotateEndpoint(ctx context.Context, accountID, id string, secret webhook.Secret) (webhook.Endpoint, error) {
	box, err := s.sealing(ctx)
	if err != nil {
		return webhook.Endpoint{}, err
	}
	return oneEndpoint(ctx, s.pool, rotateEndpoint, pgx.NamedArgs{
		"id": id, "account": accountID, "secret": secret.Seal(box, seal.Endpoint, id), "both": webhook.BothSecrets,
	})
}

const (
	// The lane of an endpoint has its id.
	endPending = `
UPDATE deliveries
SET state = 'failed', failure = 'the endpoint was deleted', ended_at = now()
WHERE state = 'pending' AND id IN (
    SELECT id
    FROM deliveries
    WHERE lane = @id AND account = @account AND state = 'pending'
    ORDER BY next_at, id
    LIMIT @most)`

	deleteEndpoint = `
DELETE FROM webhook_endpoints
WHERE id = @id AND account = @account`
)

// DeleteEndpoint ends an endpoint for good, with what waits for it. What is
// written for it at the same moment, and what a long backlog has more than
// dropMost, ends when it is due.
func (s *Store) DeleteEndpoint(ctx context.Context, accountID, id string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		args := pgx.NamedArgs{"id": id, "account": accountID, "most": dropMost}
		// Deliveries before their endpoint, as senders lock them.
		if _, err := tx.Exec(ctx, endPending, args); err != nil {
			return fmt.Errorf("delete endpoint: %w", err)
		}
		tag, err := tx.Exec(ctx, deleteEndpoint, args)
		if err != nil {
			return fmt.Errorf("delete endpoint: %w", err)
		}
		if tag.RowsAffected() == 0 {
			return noEndpoint()
		}
		if _, err := tx.Exec(ctx, closeBreaker, args); err != nil { // who claims it next ends the rest
			return fmt.Errorf("delete endpoint: %w", err)
		}
		return nil
	})
}

func noEndpoint() error {
	return fault.New(fault.NotFound, "the account has no such webhook endpoint")
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func oneEndpoint(ctx context.Context, db querier, sql string, args pgx.NamedArgs) (webhook.Endpoint, error) {
	rows, _ := db.Query(ctx, sql, args)
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[endpointRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return webhook.Endpoint{}, noEndpoint()
	}
	if err != nil {
		return webhook.Endpoint{}, fmt.Errorf("endpoint: %w", err)
	}
	return r.endpoint(), nil
}

const (
	insertAccountSecret = `
INSERT INTO webhook_secrets (account, secret)
VALUES (@account, @secret)
ON CONFLICT (account) DO NOTHING`

	selectAccountSecret = `
SELECT secret, old_secret, old_until
FROM webhook_secrets
WHERE account = @account`

	rotateAccountSecret = `
INSERT INTO webhook_secrets (account, secret)
VALUES (@account, @secret)
ON CONFLICT (account) DO UPDATE
SET secret = excluded.secret, old_secret = webhook_secrets.secret, old_until = now() + @both::interval
RETURNING secret, old_secret, old_until`
)

// AccountSecrets are what signs for the URLs that an account's jobs and
// batches name themselves. The first to ask makes one.
func (s *Store) AccountSecrets(ctx context.Context, accountID string) (webhook.Secrets, error) {
	secrets, err := s.accountSecrets(ctx, selectAccountSecret, pgx.NamedArgs{"account": accountID})
	if !errors.Is(err, pgx.ErrNoRows) {
		return secrets, err
	}
	box, err := s.sealing(ctx)
	if err != nil {
		return webhook.Secrets{}, err
	}
	if _, err := s.pool.Exec(ctx, insertAccountSecret, pgx.NamedArgs{
		"account": accountID, "secret": webhook.NewSecret().Seal(box, seal.Account, accountID),
	}); err != nil {
		return webhook.Secrets{}, fmt.Errorf("webhook secret: %w", err)
	}
	return s.accountSecrets(ctx, selectAccountSecret, pgx.NamedArgs{"account": accountID}) // ours, or that of who was quicker
}

// RotateAccountSecret lets another secret sign beside the newest of those
// before, if there are any, which ends webhook.BothSecrets later.
func (s *Store) RotateAccountSecret(ctx context.Context, accountID string, secret webhook.Secret) (webhook.Secrets, error) {
	box, err := s.sealing(ctx)
	if err != nil {
		return webhook.Secrets{}, err
	}
	return s.accountSecrets(ctx, rotateAccountSecret, pgx.NamedArgs{
		"account": accountID, "secret": secret.Seal(box, seal.Account, accountID), "both": webhook.BothSecrets,
	})
}

func (s *Store) accountSecrets(ctx context.Context, sql string, args pgx.NamedArgs) (webhook.Secrets, error) {
	var out webhook.Secrets
	var until *time.Time
	if err := s.pool.QueryRow(ctx, sql, args).Scan(&out.Sealed, &out.OldSealed, &until); err != nil {
		return webhook.Secrets{}, fmt.Errorf("webhook secret: %w", err)
	}
	out.OldUntil = deref(until)
	return out, nil
}

// OpenSecrets gives what signs at the moment now, the newest first. as is
// seal.Endpoint with an endpoint's id, or seal.Account with an account's. Of
// two secrets of which one does not open it gives the other, with an error.
func (s *Store) OpenSecrets(secrets webhook.Secrets, as seal.Purpose, owner string, now time.Time) ([]webhook.Secret, error) {
	if s.box == nil {
		return nil, errors.New("the store was opened without a secret key")
	}
	return secrets.Open(s.box, as, owner, now)
}
