package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/seal"
)

// An Option is something that a store may be opened with.
type Option func(*Store)

// SecretKey is what the secrets in the archive are sealed with. A store
// without one reads and writes everything but secrets.
func SecretKey(box *seal.Box) Option { return func(s *Store) { s.box = box } }

const (
	insertSecretCheck = `
INSERT INTO secret_check (sealed)
VALUES (@sealed)
ON CONFLICT (one) DO NOTHING`

	selectSecretCheck = `
SELECT sealed
FROM secret_check`

	selectPlainLinks = `
SELECT id, signing_secret
FROM api_keys
WHERE signing_secret IS NOT NULL
ORDER BY id
LIMIT 500`

	// Whoever else seals it at this moment seals the same.
	sealPlainLink = `
UPDATE api_keys
SET signing_sealed = @sealed, signing_secret = NULL
WHERE id = @id AND signing_secret = @plain`
)

// CheckSecretKey finds out whether the store's key is the one that this
// archive's secrets are sealed with; the first to ask of an archive makes it
// so. An error that wraps seal.ErrWrongKey says that it is not, and what to do;
// any other leaves it open. What older releases kept plain is sealed on the
// way.
func (s *Store) CheckSecretKey(ctx context.Context) error {
	if s.box == nil {
		return errors.New("the store was opened without a secret key")
	}
	if _, err := s.pool.Exec(ctx, insertSecretCheck, pgx.NamedArgs{"sealed": s.box.Check()}); err != nil {
		return fmt.Errorf("check the secret key: %w", err)
	}
	var sealed []byte
	if err := s.pool.QueryRow(ctx, selectSecretCheck).Scan(&sealed); err != nil {
		return fmt.Errorf("check the secret key: %w", err)
	}
	if err := s.box.Checks(sealed); err != nil {
		return fmt.Errorf("the secret key is not the one that this database's secrets are sealed with, so none of them could be read: "+
			"start with the farm's own key, which is in <data>/secret.key of the process that made the database, or what TINTYPE_SECRET_KEY was then (%w)", err)
	}
	s.keyKnown.Store(true)
	return s.sealPlain(ctx)
}

// sealPlain seals what signs links of keys that an older release made.
func (s *Store) sealPlain(ctx context.Context) error {
	type plain struct {
		ID            string
		SigningSecret string
	}
	for {
		rows, _ := s.pool.Query(ctx, selectPlainLinks)
		list, err := pgx.CollectRows(rows, pgx.RowToStructByName[plain])
		if err != nil {
			return fmt.Errorf("seal older secrets: %w", err)
		}
		if len(list) == 0 {
			return nil
		}
		batch := &pgx.Batch{}
		for _, p := range list {
			batch.Queue(sealPlainLink, pgx.NamedArgs{
				"id": p.ID, "plain": p.SigningSecret, "sealed": s.box.Seal([]byte(p.SigningSecret), seal.Link, p.ID),
			})
		}
		if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("seal older secrets: %w", err)
		}
		s.log.Info("sealed what signs links, which an older release had kept plain", "keys", len(list))
	}
}

// sealing is the store's box, once it is known to be the right one: what the
// wrong one sealed nobody could read again.
func (s *Store) sealing(ctx context.Context) (*seal.Box, error) {
	if !s.keyKnown.Load() {
		if err := s.CheckSecretKey(ctx); err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "secrets cannot be kept at the moment; try again")
		}
	}
	return s.box, nil
}
