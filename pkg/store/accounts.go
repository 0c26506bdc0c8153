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

type accountRow struct {
	ID         string
	Name       string
	Plan       string
	Suspended  bool
	BillingDay int
	CreatedAt  time.Time
}

func (r accountRow) account() account.Account {
	return account.Account{
		ID: r.ID, Name: r.Name, Plan: r.Plan, Suspended: r.Suspended, BillingDay: r.BillingDay, CreatedAt: r.CreatedAt.UTC(),
	}
}

const insertAccount = `
INSERT INTO accounts (id, name, plan, suspended, billing_day)
VALUES (@id, @name, @plan, @suspended, COALESCE(NULLIF(@billing_day, 0), extract(day FROM now() AT TIME ZONE 'UTC')::integer))`

// CreateAccount stores an account with its first key, or neither. A name that
// is taken is a Conflict.
func (s *Store) CreateAccount(ctx context.Context, a account.Account, k account.Key) error {
	key, err := s.keyArgs(ctx, k)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insertAccount, pgx.NamedArgs{
			"id": a.ID, "name": a.Name, "plan": a.Plan, "suspended": a.Suspended, "billing_day": a.BillingDay,
		}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, insertKey, key)
		return err
	})
	if duplicate(err) {
		return fault.Wrap(fault.Conflict, err, "name: an account named %q exists already; choose another name", a.Name)
	}
	if err != nil {
		return fmt.Errorf("create account: %w", err)
	}
	return nil
}

const updateAccount = `
UPDATE accounts
SET plan = COALESCE(@plan, plan), suspended = COALESCE(@suspended, suspended), billing_day = COALESCE(@billing_day, billing_day)
WHERE id = @id
RETURNING id, name, plan, suspended, billing_day, created_at`

// UpdateAccount changes an account and gives it as it is then.
func (s *Store) UpdateAccount(ctx context.Context, id string, to account.Update) (account.Account, error) {
	return s.oneAccount(ctx, updateAccount, pgx.NamedArgs{"id": id, "plan": to.Plan, "suspended": to.Suspended, "billing_day": to.BillingDay})
}

const selectAccounts = `
SELECT id, name, plan, suspended, billing_day, created_at
FROM accounts
WHERE id > @after
ORDER BY id
LIMIT @limit`

// Accounts lists accounts by id, from after "after" on; "" is the beginning.
func (s *Store) Accounts(ctx context.Context, after string, limit int) ([]account.Account, error) {
	return s.manyAccounts(ctx, selectAccounts, pgx.NamedArgs{"after": after, "limit": limit})
}

const selectAccount = `
SELECT id, name, plan, suspended, billing_day, created_at
FROM accounts
WHERE id = @id`

// Account finds an account by its id.
func (s *Store) Account(ctx context.Context, id string) (account.Account, error) {
	return s.oneAccount(ctx, selectAccount, pgx.NamedArgs{"id": id})
}

func (s *Store) manyAccounts(ctx context.Context, sql string, args pgx.NamedArgs) ([]account.Account, error) {
	rows, _ := s.pool.Query(ctx, sql, args)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[accountRow])
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	out := make([]account.Account, len(list))
	for i, r := range list {
		out[i] = r.account()
	}
	return out, nil
}

const selectAccountByName = `
SELECT id, name, plan, suspended, billing_day, created_at
FROM accounts
WHERE name = @name`

// AccountByName finds an account by its name.
func (s *Store) AccountByName(ctx context.Context, name string) (account.Account, error) {
	return s.oneAccount(ctx, selectAccountByName, pgx.NamedArgs{"name": name})
}

func (s *Store) oneAccount(ctx context.Context, sql string, args pgx.NamedArgs) (account.Account, error) {
	rows, _ := s.pool.Query(ctx, sql, args)
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[accountRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return account.Account{}, fault.New(fault.NotFound, "there is no such account")
	}
	if err != nil {
		return account.Account{}, fmt.Errorf("account: %w", err)
	}
	return r.account(), nil
}
