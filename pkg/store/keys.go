package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/seal"
)

type keyRow struct {
	ID        string
	Account   string
	Name      string
	Hash      []byte
	Scopes    []account.Scope
	Plain     *string `db:"signing_secret"` // of older releases
	Sealed    []byte  `db:"signing_sealed"`
	CreatedAt time.Time
	ExpiresAt *time.Time
	RevokedAt *time.Time
}

func (s *Store) key(r keyRow) account.Key {
	k := account.Key{
		ID: r.ID, Account: r.Account, Name: r.Name, Hash: r.Hash, Scopes: r.Scopes,
		CreatedAt: r.CreatedAt.UTC(), ExpiresAt: deref(r.ExpiresAt), RevokedAt: deref(r.RevokedAt),
	}
	switch {
	case r.Plain != nil:
		k.SigningSecret = *r.Plain
	case r.Sealed != nil && s.box != nil:
		secret, err := s.box.Open(r.Sealed, seal.Link, r.ID)
		if err != nil { // the key opens what it opens, but signs no links
			s.log.Error("what signs links of a key cannot be read", "key", r.ID, "err", err)
		}
		k.SigningSecret = string(secret)
	}
	return k
}

const insertKey = `
INSERT INTO api_keys (id, account, name, hash, scopes, signing_sealed, expires_at)
VALUES (@id, @account, @name, @hash, @scopes, @signing_sealed, @expires_at)`

func (s *Store) keyArgs(ctx context.Context, k account.Key) (pgx.NamedArgs, error) {
	scopes := k.Scopes
	if scopes == nil {
		scopes = []account.Scope{}
	}
	var sealed []byte
	if k.SigningSecret != "" {
		box, err := s.sealing(ctx)
		if err != nil {
			return nil, err
		}
		sealed = box.Seal([]byte(k.SigningSecret), seal.Link, k.ID)
	}
	return pgx.NamedArgs{
		"id": k.ID, "account": k.Account, "name": k.Name, "hash": k.Hash, "scopes": scopes,
		"signing_sealed": sealed, "expires_at": orNull(k.ExpiresAt),
	}, nil
}

// CreateKey stores a further key of an account that exists.
func (s *Store) CreateKey(ctx context.Context, k account.Key) error {
	args, err := s.keyArgs(ctx, k)
	if err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, insertKey, args); err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	return nil
}

const selectKeys = `
SELECT id, account, name, hash, scopes, signing_secret, signing_sealed, created_at, expires_at, revoked_at
FROM api_keys
WHERE account = @account
ORDER BY created_at, id`

// Keys lists an account's keys, revoked ones too, oldest first.
func (s *Store) Keys(ctx context.Context, accountID string) ([]account.Key, error) {
	rows, _ := s.pool.Query(ctx, selectKeys, pgx.NamedArgs{"account": accountID})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[keyRow])
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	out := make([]account.Key, len(list))
	for i, r := range list {
		out[i] = s.key(r)
	}
	return out, nil
}

const revokeKey = `
UPDATE api_keys
SET revoked_at = COALESCE(revoked_at, now())
WHERE id = @id AND account = @account`

// RevokeKey ends a key for good; a revoked one stays as it is.
func (s *Store) RevokeKey(ctx context.Context, accountID, keyID string) error {
	tag, err := s.pool.Exec(ctx, revokeKey, pgx.NamedArgs{"id": keyID, "account": accountID})
	if err != nil {
		return fmt.Errorf("revoke key: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return fault.New(fault.NotFound, "the account has no such key")
	}
	return nil
}

const selectKey = `
SELECT k.id, k.account, k.name, k.hash, k.scopes, k.signing_secret, k.signing_sealed, k.created_at, k.expires_at, k.revoked_at,
       a.name, a.plan, a.suspended, a.billing_day, a.created_at
FROM api_keys k
JOIN accounts a ON a.id = k.account
WHERE k.id = @id`

// Key finds a key and its account by the key's id, whatever its state.
func (s *Store) Key(ctx context.Context, keyID string) (account.Key, account.Account, error) {
	var k keyRow
	var a accountRow
	err := s.pool.QueryRow(ctx, selectKey, pgx.NamedArgs{"id": keyID}).Scan(
		&k.ID, &k.Account, &k.Name, &k.Hash, &k.Scopes, &k.Plain, &k.Sealed, &k.CreatedAt, &k.ExpiresAt, &k.RevokedAt,
		&a.Name, &a.Plan, &a.Suspended, &a.BillingDay, &a.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return account.Key{}, account.Account{}, fault.New(fault.NotFound, "there is no such key")
	}
	if err != nil {
		return account.Key{}, account.Account{}, fmt.Errorf("key: %w", err)
	}
	a.ID = k.Account
	return s.key(k), a.account(), nil
}

func deref(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
