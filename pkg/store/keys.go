package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
)

type keyRow struct {
	ID        string
	Account   string
	Name      string
	Hash      []byte
	Scopes    []account.Scope
	Signing   *string `db:"signing_secret"`
	CreatedAt time.Time
	ExpiresAt *time.Time
	RevokedAt *time.Time
}

func (r keyRow) key() account.Key {
	k := account.Key{
		ID: r.ID, Account: r.Account, Name: r.Name, Hash: r.Hash, Scopes: r.Scopes,
		CreatedAt: r.CreatedAt.UTC(), ExpiresAt: deref(r.ExpiresAt), RevokedAt: deref(r.RevokedAt),
	}
	if r.Signing != nil {
		k.SigningSecret = *r.Signing
	}
	return k
}

const insertKey = `
INSERT INTO api_keys (id, account, name, hash, scopes, signing_secret, expires_at)
VALUES (@id, @account, @name, @hash, @scopes, NULLIF(@signing_secret, ''), @expires_at)`

func keyArgs(k account.Key) pgx.NamedArgs {
	scopes := k.Scopes
	if scopes == nil {
		scopes = []account.Scope{}
	}
	return pgx.NamedArgs{
		"id": k.ID, "account": k.Account, "name": k.Name, "hash": k.Hash, "scopes": scopes,
		"signing_secret": k.SigningSecret, "expires_at": orNull(k.ExpiresAt),
	}
}

// CreateKey stores a further key of an account that exists.
func (s *Store) CreateKey(ctx context.Context, k account.Key) error {
	if _, err := s.pool.Exec(ctx, insertKey, keyArgs(k)); err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	return nil
}

const selectKeys = `
SELECT id, account, name, hash, scopes, signing_secret, created_at, expires_at, revoked_at
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
		out[i] = r.key()
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
SELECT k.id, k.account, k.name, k.hash, k.scopes, k.signing_secret, k.created_at, k.expires_at, k.revoked_at,
       a.name, a.plan, a.suspended, a.billing_day, a.created_at
FROM api_keys k
JOIN accounts a ON a.id = k.account
WHERE k.id = @id`

// Key finds a key and its account by the key's id, whatever its state.
func (s *Store) Key(ctx context.Context, keyID string) (account.Key, account.Account, error) {
	var k keyRow
	var a accountRow
	err := s.pool.QueryRow(ctx, selectKey, pgx.NamedArgs{"id": keyID}).Scan(
		&k.ID, &k.Account, &k.Name, &k.Hash, &k.Scopes, &k.Signing, &k.CreatedAt, &k.ExpiresAt, &k.RevokedAt,
		&a.Name, &a.Plan, &a.Suspended, &a.BillingDay, &a.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return account.Key{}, account.Account{}, fault.New(fault.NotFound, "there is no such key")
	}
	if err != nil {
		return account.Key{}, account.Account{}, fmt.Errorf("key: %w", err)
	}
	a.ID = k.Account
	return k.key(), a.account(), nil
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
