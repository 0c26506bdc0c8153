// Package store is the archive in Postgres: accounts and their keys, finished
// jobs, usage, and how far the ledger has been projected into it.
//
// It promises that a finished job, its charge and the projection's offset are
// written in one transaction, once (I7); that a row the database refuses
// keeps its money and loses its text, or is left out if it is refused in every
// form, and stops nothing; and that a look-up
// which finds nothing says so with fault.NotFound. Any error that is not a
// fault is the database's own trouble. What has to be kept itself to be of use,
// such as what signs webhooks and links, is sealed (pkg/seal).
//
// Unfinished jobs are not here: they are in the ledger.
package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/tintype/tintype/pkg/seal"
)

//go:embed migration/*.sql
var migrations embed.FS

// Store is a pool of connections to one database.
type Store struct {
	pool     *pgxpool.Pool
	log      *slog.Logger
	days     sync.Map    // day partitions known to exist: time.Time → true
	box      *seal.Box   // of secrets; nil: they are neither read nor written
	keyKnown atomic.Bool // the box is the one of this database
}

// Open connects lazily: a database that is down is found out by the first
// query, so that a tier can start before it.
func Open(ctx context.Context, url string, log *slog.Logger, options ...Option) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	s := &Store{pool: pool, log: log}
	for _, o := range options {
		o(s)
	}
	return s, nil
}

// Close waits for connections in use and ends them.
func (s *Store) Close() { s.pool.Close() }

// Ping asks the database for an answer.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	return nil
}

// Migrate brings the schema up to this release, under a lock, so that many
// processes may try at once.
func Migrate(ctx context.Context, url string, log *slog.Logger) error {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("database URL: %w", err)
	}
	db := stdlib.OpenDB(*cfg.ConnConfig)
	defer db.Close()
	files, err := fs.Sub(migrations, "migration")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	done, err := p.Up(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	for _, m := range done {
		log.Info("migrated the database", "migration", m.Source.Path, "took", m.Duration)
	}
	return nil
}

// refused reports whether the database understood a row and will never take
// it (SQLSTATE classes 22, data exception, and 23, integrity violation).
func refused(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && len(pg.Code) == 5 && (pg.Code[:2] == "22" || pg.Code[:2] == "23") && !noPartition(err)
}

// noPartition reports a row for which there is no partition: that is a
// violated check (SQLSTATE 23514) without the name of one.
func noPartition(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23514" && pg.ConstraintName == ""
}

// duplicate reports whether a unique constraint refused a row.
func duplicate(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "23505"
}
