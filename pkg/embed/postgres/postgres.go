// Package postgres runs a private Postgres cluster as a child process on a unix
// socket, with the binaries of the system's own package, for `tintype up`,
// `tintype backends` and tests.
//
// It promises:
//
//  1. The server never runs as root: as root the child becomes `postgres`, or
//     else `nobody`.
//  2. It dies with its parent. After a kill -9 of the parent it shuts down
//     cleanly; after a kill -9 of both, the next start recovers what was
//     committed.
//  3. A cluster is whole or absent: a first start that is cut short leaves
//     nothing that a later one would take for a cluster.
//  4. Data made by another major version is refused in words, never upgraded.
//
// The cluster trusts whoever reaches its socket. The socket's folder, mode 0700,
// is the lock. Nothing listens on TCP unless Config.Listen is set, and whoever
// comes that way needs the password.
//
// It leaves to others: tables and migrations, and the lock on the data folder.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// database is the one database that the farm uses, and role its owner.
	database = "tintype"
	role     = "tintype"

	// defaultPort is part of the socket's name where nothing listens on TCP.
	defaultPort = "5432"

	// maxSocketPath is the longest path, in bytes, that a unix socket can have.
	maxSocketPath = 107

	// databaseWithin bounds the making of the database in a server that is up.
	databaseWithin = 30 * time.Second

	// stopWithin bounds each of the harder ways to stop a server that did not
	// obey the gentle one.
	stopWithin = 5 * time.Second
)

// Config is what New needs.
type Config struct {
	// Dir is the cluster's folder. Required. It is made when it is missing, and
	// so are the folders above it. As root, `postgres` (or `nobody`) must be able
	// to pass through those: a mode of 0700 above Dir is refused.
	Dir string

	// SocketDir is the folder of the socket; it must be short and is taken over
	// (owner, mode 0700). Empty: a fresh folder in the system's folder for
	// temporary files, removed by Stop.
	SocketDir string

	// BinDir holds initdb and postgres. Empty: Debian's places, then PATH.
	BinDir string

	// Listen is a loopback host:port (port 0 picks a free one) for other
	// processes, beside the socket. Empty: the socket alone.
	Listen string

	// Password is what those must know. Required with Listen.
	Password string

	// Open allows Listen to be off loopback, where connections are not
	// encrypted.
	Open bool

	// Log receives Postgres' log. Nil discards it.
	Log *slog.Logger
}

// Server is a Postgres cluster and its child process. Start and Stop are called
// by one goroutine; the other methods by any.
type Server struct {
	cfg   Config
	bin   binaries
	owner owner

	socketDir  string // set by Start
	ownsSocket bool   // Start made socketDir and Stop removes it
	child      *child // set by Start; nil before
	port       string // of the socket's name and of address; set by Start
	address    string // on TCP; set by Start, empty without Config.Listen

	done chan struct{}

	mu       sync.Mutex
	stopping bool  // guarded by mu
	err      error // guarded by mu; set before done is closed
}

// New checks cfg, finds the binaries and the user to run as, and starts nothing.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, port: defaultPort, done: make(chan struct{})}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("embedded postgres: %w", err)
	}
	return s, nil
}

func (s *Server) prepare() error {
	if s.cfg.Dir == "" {
		return errors.New("no data folder")
	}
	for _, dir := range []*string{&s.cfg.Dir, &s.cfg.SocketDir} {
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = abs
	}
	if err := errors.Join(checkSocketPath(s.cfg.SocketDir), s.checkListen()); err != nil {
		return err
	}
	if s.cfg.Log == nil {
		s.cfg.Log = slog.New(slog.DiscardHandler)
	}
	have, err := clusterVersion(s.cfg.Dir)
	if err != nil {
		return err
	}
	if s.bin, err = findBinaries(s.cfg.BinDir, debianBins, have); err != nil {
		return err
	}
	if have != "" && have != s.bin.major {
		return fmt.Errorf("the data in %s was written by Postgres %s, and the binaries in %s are Postgres %s: "+
			"install postgresql-%s, or move the data over with pg_dump", s.cfg.Dir, have, s.bin.dir, s.bin.major, have)
	}
	if s.owner, err = chooseOwner(); err != nil {
		return err
	}
	s.owner.program = s.bin.postgres()
	return nil
}

// checkSocketPath refuses a folder in which the socket's path would be cut off.
func checkSocketPath(dir string) error {
	if n := len(filepath.Join(dir, ".s.PGSQL.65535")); n > maxSocketPath {
		return fmt.Errorf("the socket folder %s is too long: the socket's path would have %d bytes, and the system allows %d", dir, n, maxSocketPath)
	}
	return nil
}

// Start makes the cluster if there is none, starts the server, makes the
// database if it is missing, and returns when it takes connections. ctx bounds
// the start alone. After an error nothing runs. A Server is started once.
func (s *Server) Start(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		s.dropSocketDir()
		return fmt.Errorf("embedded postgres: %w", err)
	}
	return nil
}

func (s *Server) start(ctx context.Context) error {
	if err := s.makeSocketDir(); err != nil {
		return err
	}
	if err := s.makeCluster(ctx); err != nil {
		return err
	}
	c, err := s.launch(ctx)
	if err != nil {
		return err
	}
	if err := s.makeDatabase(ctx); err != nil {
		return errors.Join(err, c.stop(ctx))
	}
	s.child = c
	go s.watch()
	return nil
}

// makeSocketDir makes the folder of the socket, for the owner alone.
func (s *Server) makeSocketDir() error {
	s.socketDir = s.cfg.SocketDir
	if s.socketDir == "" {
		dir, err := os.MkdirTemp("", "tintype-pg-")
		if err != nil {
			return fmt.Errorf("make the socket folder: %w", err)
		}
		s.socketDir, s.ownsSocket = dir, true
		if err := checkSocketPath(dir); err != nil {
			return err
		}
	}
	// The folder is about to change hands. Somebody may have meant /tmp.
	names, err := os.ReadDir(s.socketDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into the socket folder: %w", err)
	}
	for _, n := range names {
		if !strings.HasPrefix(n.Name(), ".s.PGSQL.") {
			return fmt.Errorf("the socket folder %s holds other things, for example %s: choose a folder of its own", s.socketDir, n.Name())
		}
	}
	return s.owner.take(s.socketDir)
}

func (s *Server) dropSocketDir() {
	if s.ownsSocket {
		os.RemoveAll(s.socketDir)
	}
}

// makeDatabase makes the farm's database, and the password of its port, in a
// cluster that runs.
func (s *Server) makeDatabase(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, databaseWithin, fmt.Errorf("the server made no database within %s", databaseWithin))
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(ctx)
	if err := s.setPassword(ctx, conn); err != nil {
		return err
	}
	var there bool
	const look = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = @name)`
	if err := conn.QueryRow(ctx, look, pgx.NamedArgs{"name": database}).Scan(&there); err != nil {
		return fmt.Errorf("look for the database: %w", err)
	}
	if there {
		return nil
	}
	if _, err := conn.Exec(ctx, `CREATE DATABASE `+database); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	return nil
}

// watch waits for the child's end and tells why it came.
func (s *Server) watch() {
	<-s.child.done
	s.mu.Lock()
	if !s.stopping {
		s.err = fmt.Errorf("embedded postgres: the server ended by itself: %w", s.child.failure())
	}
	s.mu.Unlock()
	close(s.done)
}

// URL is how pgx connects to the farm's database. It is valid after Start.
func (s *Server) URL() string { return s.url(database) }

func (s *Server) url(db string) string {
	query := url.Values{"host": {s.socketDir}, "port": {s.port}, "user": {role}, "sslmode": {"disable"}}
	return (&url.URL{Scheme: "postgres", Path: "/" + db, RawQuery: query.Encode()}).String()
}

// Done is closed when a started server has ended, by Stop or by itself.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why the server ended by itself. Nil while it runs and after Stop.
func (s *Server) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Stop shuts the server down: sessions are cut, what is committed is written,
// and the next start needs no recovery. If that takes longer than ctx allows,
// the server is made to end without it, and the next start recovers. On a
// server that was not started it does nothing.
func (s *Server) Stop(ctx context.Context) error {
	if s.child == nil {
		return nil
	}
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	err := s.child.stop(ctx)
	<-s.done
	s.dropSocketDir()
	if err != nil {
		return fmt.Errorf("embedded postgres: %w", err)
	}
	return nil
}
