// Package storetest gives a test a real archive: a private Postgres cluster
// for the test binary, and a migrated database of its own for each test.
//
// Where there is no Postgres a test skips, and fails when CI is set; -short
// leaves it out.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/embed/postgres"
	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
)

var (
	server  *postgres.Server
	failure error // why there is none
	made    atomic.Int64
	box     *seal.Box // of every store
)

// Main runs a package's tests beside one cluster and returns the exit code.
func Main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tintype-store-")
	if err != nil {
		failure = err
		return m.Run()
	}
	defer os.RemoveAll(dir)
	if failure = os.Chmod(dir, 0o711); failure == nil {
		failure = start(dir)
	}
	if failure == nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if err := server.Stop(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "storetest:", err)
			}
		}()
	}
	return m.Run()
}

func start(dir string) (err error) {
	if box, err = seal.Parse(seal.NewKey()); err != nil {
		return err
	}
	s, err := postgres.New(postgres.Config{Dir: filepath.Join(dir, "pg"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		return err
	}
	// What is made here need not outlive the machine; a test that wants to know
	// what does has a cluster of its own.
	conn, err := pgx.Connect(ctx, s.URL())
	if err == nil {
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "ALTER SYSTEM SET fsync = off")
	}
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT pg_reload_conf()")
	}
	if err == nil {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+template)
	}
	if err == nil {
		err = store.Migrate(ctx, at(s, template), slog.New(slog.DiscardHandler))
	}
	if err != nil {
		return errors.Join(err, s.Stop(ctx))
	}
	server = s
	return nil
}

// template is the migrated database that those of tests are copied from.
const template = "migrated"

// at is where a database of the cluster is.
func at(s *postgres.Server, database string) string {
	u, err := url.Parse(s.URL())
	if err != nil {
		panic(err) // it made it itself
	}
	u.Path = "/" + database
	return u.String()
}

// URL makes a database for this test and returns where it is, migrated.
func URL(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real Postgres: left out with -short")
	}
	if server == nil {
		if failure == nil {
			failure = errors.New("storetest: the package's TestMain does not call storetest.Main")
		}
		needtest.Lacks(t, "%v", failure)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	name := fmt.Sprintf("test_%d", made.Add(1))
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatal(err)
	}
	return at(server, name)
}

// Open is a store on a database of its own, closed with the test.
func Open(t testing.TB) *store.Store {
	t.Helper()
	return Connect(t, URL(t))
}

// Connect is a store on a database that URL made, closed with the test.
func Connect(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), url, slog.New(slog.DiscardHandler), store.SecretKey(box))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
