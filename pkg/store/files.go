package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// maxFileBytes is what the uploads of one account may have together.
const maxFileBytes = 10 << 30

type fileRow struct {
	ID        string
	Account   string
	Name      string
	Object    string
	SizeBytes int64
	Sha256    []byte
	CreatedAt time.Time
	ExpiresAt time.Time
}

const fileColumns = `id, account, name, object, size_bytes, sha256, created_at, expires_at`

func (r fileRow) file() *batch.File {
	return &batch.File{
		ID: r.ID, Account: r.Account, Name: r.Name, Object: r.Object, SizeBytes: r.SizeBytes, SHA256: r.Sha256,
		CreatedAt: r.CreatedAt.UTC(), ExpiresAt: r.ExpiresAt.UTC(),
	}
}

const insertFile = `
INSERT INTO files (id, account, name, object, size_bytes, sha256, expires_at)
SELECT @id, @account, @name, @object, @size_bytes::bigint, @sha256, now() + @expires_in
WHERE @size_bytes::bigint + (SELECT COALESCE(sum(size_bytes), 0) FROM files WHERE account = @account AND expires_at > now()) <= @most::bigint
RETURNING created_at, expires_at`

// InsertFile stores an upload and fills in the times. When all of the account's
// would be too large together it is TooLarge.
func (s *Store) InsertFile(ctx context.Context, f *batch.File, expiresIn time.Duration) error {
	var created, expires time.Time
	err := s.pool.QueryRow(ctx, insertFile, pgx.NamedArgs{
		"id": f.ID, "account": f.Account, "name": f.Name, "object": f.Object, "size_bytes": f.SizeBytes, "sha256": f.SHA256,
		"expires_in": expiresIn, "most": int64(maxFileBytes),
	}).Scan(&created, &expires)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fault.New(fault.TooLarge, "the files of the account would have more than %d bytes together; delete some first", int64(maxFileBytes))
	case err != nil:
		return fmt.Errorf("insert file: %w", err)
	}
	f.CreatedAt, f.ExpiresAt = created.UTC(), expires.UTC()
	return nil
}

const selectFile = `
SELECT ` + fileColumns + `
FROM files
WHERE id = @id AND account = @account AND expires_at > now()`

// File finds an account's upload, until it expires.
func (s *Store) File(ctx context.Context, accountID, id string) (*batch.File, error) {
	rows, _ := s.pool.Query(ctx, selectFile, pgx.NamedArgs{"id": id, "account": accountID})
	r, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[fileRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noFile()
	}
	if err != nil {
		return nil, fmt.Errorf("file: %w", err)
	}
	return r.file(), nil
}

func noFile() error { return fault.New(fault.NotFound, "there is no such file") }

const selectFiles = `
SELECT ` + fileColumns + `
FROM files
WHERE account = @account AND expires_at > now() AND (@before = '' OR id < @before)
ORDER BY id DESC
LIMIT @limit`

// Files lists an account's uploads, newest first, from before "before" on; "" is
// the newest.
func (s *Store) Files(ctx context.Context, accountID, before string, limit int) ([]*batch.File, error) {
	rows, _ := s.pool.Query(ctx, selectFiles, pgx.NamedArgs{"account": accountID, "before": before, "limit": limit})
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[fileRow])
	if err != nil {
		return nil, fmt.Errorf("list files: %w", err)
	}
	out := make([]*batch.File, len(list))
	for i, r := range list {
		out[i] = r.file()
	}
	return out, nil
}

const deleteFile = `
WITH gone AS (
    DELETE FROM files
    WHERE id = @id AND account = @account
      AND NOT EXISTS (SELECT FROM batches WHERE account = @account AND file = @id AND state = 'validating')
    RETURNING object
)
SELECT object, true AS gone FROM gone
UNION ALL
SELECT object, false FROM files WHERE id = @id AND account = @account AND NOT EXISTS (SELECT FROM gone)`

// DeleteFile removes an account's upload and returns its object, which is the
// caller's to remove. One that a batch is being read from is a Conflict.
func (s *Store) DeleteFile(ctx context.Context, accountID, id string) (object string, err error) {
	var gone bool
	err = s.pool.QueryRow(ctx, deleteFile, pgx.NamedArgs{"id": id, "account": accountID}).Scan(&object, &gone)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return "", noFile()
	case err != nil:
		return "", fmt.Errorf("delete file: %w", err)
	case !gone:
		return "", fault.New(fault.Conflict, "a batch is being read from the file; delete it when that is running")
	}
	return object, nil
}
