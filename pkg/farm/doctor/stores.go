package doctor

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/config"
	"github.com/tintype/tintype/pkg/embed/postgres"
	"github.com/tintype/tintype/pkg/object"
)

// answerWithin bounds the question to one store.
const answerWithin = 5 * time.Second

// leastPostgres is the oldest server that has what the migrations use.
const leastPostgres = 150000

// postgresServer looks at the server's programs, or at the database that was
// named instead.
func postgresServer(ctx context.Context, cfg config.Doctor) Finding {
	const name = "postgres"
	if cfg.DatabaseURL != "" {
		return database(ctx, cfg.DatabaseURL)
	}
	if _, err := postgres.New(postgres.Config{Dir: filepath.Join(cfg.Data, "postgres"), BinDir: cfg.PostgresBin, Log: slog.New(slog.DiscardHandler)}); err != nil {
		fix := install + "postgresql"
		if cfg.PostgresBin != "" {
			fix = "set TINTYPE_POSTGRES_BIN to the folder of initdb and postgres, or unset it for Debian's"
		}
		return fail(name, fix, "%v", err)
	}
	return ok(name, "the programs of a server of our own are there")
}

// database asks one of the operator's. Its address may hold a password and is
// not repeated.
func database(ctx context.Context, address string) Finding {
	const name, fix = "postgres", "look at TINTYPE_DATABASE_URL, and whether the server runs and lets this machine in"
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return fail(name, fix, "the database does not answer: %v", plain(err))
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	var version int
	var text string
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int, current_setting('server_version')").Scan(&version, &text); err != nil {
		return fail(name, fix, "the database does not say its version: %v", plain(err))
	}
	if version < leastPostgres {
		return fail(name, "upgrade it to PostgreSQL 15 or newer", "the server is %s", text)
	}
	return ok(name, "the database answers: PostgreSQL %s", text)
}

// plain is what stands behind an error: pgx puts parts of the address before it.
func plain(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// stores looks at those that were named instead of the embedded ones.
func stores(ctx context.Context, cfg config.Backends) (all []Finding) {
	if cfg.NATSURL != "" {
		all = append(all, nats(ctx, cfg.NATSURL))
	}
	if cfg.S3Endpoint != "" {
		all = append(all, bucket(ctx, cfg.S3))
	}
	return all
}

// nats looks whether one server of the cluster is there. Its address may hold a
// token and is not repeated.
func nats(ctx context.Context, addresses string) Finding {
	const name = "nats"
	for address := range strings.SplitSeq(addresses, ",") {
		u, err := url.Parse(strings.TrimSpace(address))
		if err != nil {
			continue
		}
		host := u.Host
		if u.Port() == "" {
			host = net.JoinHostPort(u.Hostname(), "4222")
		}
		d := net.Dialer{Timeout: answerWithin}
		conn, err := d.DialContext(ctx, "tcp", host)
		if err == nil {
			conn.Close()
			return ok(name, "%s answers", host)
		}
	}
	return fail(name, "look at TINTYPE_NATS_URL, and whether a server runs there", "no server of it can be reached")
}

func bucket(ctx context.Context, cfg config.S3) Finding {
	const name, fix = "s3", "look at TINTYPE_S3_ENDPOINT and its keys, and whether the server runs"
	b, err := object.New(object.Config{Endpoint: cfg.S3Endpoint, Bucket: cfg.S3Bucket, Region: cfg.S3Region, AccessKey: cfg.S3AccessKey, SecretKey: cfg.S3SecretKey})
	if err != nil {
		return fail(name, fix, "%v", err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	switch err := b.Ping(ctx); {
	case err != nil && strings.Contains(err.Error(), "there is no bucket"):
		return ok(name, "the server answers; the bucket %s will be made", cfg.S3Bucket)
	case err != nil:
		return fail(name, fix, "the bucket does not answer: %v", err)
	}
	return ok(name, "the bucket %s answers", cfg.S3Bucket)
}
