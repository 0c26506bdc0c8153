package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/tintype/tintype/pkg/needtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentDir); dir != "" {
		os.Exit(beParent(dir))
	}
	goleak.VerifyTestMain(m)
}

// needPostgres skips a test where there is no Postgres, and fails it in CI.
func needPostgres(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real Postgres: left out with -short")
	}
	if _, err := findBinaries("", debianBins, ""); err != nil {
		needtest.Lacks(t, "%v", err)
	}
}

// openDir is a folder for a cluster that the database's user can get to: what
// t.TempDir makes is closed to others.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tintype-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// start runs a server until the test ends.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// query runs one statement and returns the first column of its first row.
func query[T any](t *testing.T, s *Server, sql string) T {
	t.Helper()
	v, err := ask[T](bounded(t), s, sql)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func ask[T any](ctx context.Context, s *Server, sql string) (v T, err error) {
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return v, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return v, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
}

const (
	keep = `CREATE TABLE kept AS SELECT 42 AS n`
	read = `SELECT n FROM kept`
)

// fillKept makes the table that later starts look for.
func fillKept(ctx context.Context, s *Server) error {
	conn, err := pgx.Connect(ctx, s.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, keep)
	return err
}

func TestStartStopStart(t *testing.T) {
	needPostgres(t)
	var log logBuffer
	cfg := Config{Dir: openDir(t), Log: log.logger()}
	if err := os.MkdirAll(filepath.Join(cfg.Dir+".new", "half"), 0o700); err != nil {
		t.Fatal(err) // what a first start that was killed leaves behind
	}
	first, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, first) // was never started
	if err := first.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := fillKept(bounded(t), first); err != nil {
		t.Error(err)
	}
	if got := query[string](t, first, `SHOW listen_addresses`); got != "" {
		t.Errorf("listens on %q", got)
	}
	if got := query[string](t, first, `SELECT current_user || ' ' || current_database() || ' ' || current_setting('server_encoding')`); got != "tintype tintype UTF8" {
		t.Errorf("got %q", got)
	}
	pid := first.child.cmd.Process.Pid
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join("/proc", strconv.Itoa(pid)), &st); err != nil || st.Uid == 0 {
		t.Errorf("runs as user %d (%v)", st.Uid, err)
	}
	if pgid, err := syscall.Getpgid(pid); err != nil || pgid != pid {
		t.Errorf("runs in process group %d (%v), want one of its own", pgid, err)
	}
	for _, dir := range []string{cfg.Dir, first.socketDir} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s is open to others: %v, %v", dir, st.Mode(), err)
		}
	}
	stop(t, first)
	<-first.Done()
	if err := first.Err(); err != nil {
		t.Errorf("after Stop: %v", err)
	}
	if _, err := os.Stat(first.socketDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left its socket folder behind (%v)", err)
	}

	second := start(t, cfg)
	if got := query[int](t, second, read); got != 42 {
		t.Errorf("read %d", got)
	}
	if said := log.String(); strings.Contains(said, "not properly shut down") || !strings.Contains(said, "ready to accept connections") {
		t.Errorf("the log says:\n%s", said)
	}
}

func TestChildDies(t *testing.T) {
	needPostgres(t)
	cfg := Config{Dir: openDir(t), SocketDir: filepath.Join(filepath.Dir(openDir(t)), "sock")}
	s := start(t, cfg)
	if err := fillKept(bounded(t), s); err != nil {
		t.Fatal(err)
	}
	if err := s.child.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-bounded(t).Done():
		t.Fatal("did not notice")
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want it to say that the server was killed", err)
	}
	if got := query[int](t, start(t, cfg), read); got != 42 {
		t.Errorf("read %d after the recovery", got)
	}
}

func TestPidFileOfStranger(t *testing.T) {
	needPostgres(t)
	cfg := Config{Dir: openDir(t)}
	s := start(t, cfg)
	stop(t, s)
	// As after a reboot: the number in the file is somebody else's now.
	stale := fmt.Sprintf("%d\n%s\n", os.Getpid(), cfg.Dir)
	if err := os.WriteFile(filepath.Join(cfg.Dir, "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, cfg)
}

func TestStartIsBounded(t *testing.T) {
	needPostgres(t)
	s, err := New(Config{Dir: openDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("changed my mind"))
	if err := s.Start(ctx); err == nil || !strings.Contains(err.Error(), "changed my mind") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(s.cfg.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left a cluster (%v)", err)
	}
	if _, err := os.Stat(s.socketDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left its socket folder (%v)", err)
	}
}

func TestSaysWhatIsWrong(t *testing.T) {
	needPostgres(t)
	old, foreign := openDir(t), openDir(t)
	for path, text := range map[string]string{filepath.Join(old, "PG_VERSION"): "9\n", filepath.Join(foreign, "notes.txt"): "x"} {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		cfg  Config
		want []string
	}{
		"no folder":       {Config{}, []string{"no data folder"}},
		"other version":   {Config{Dir: old}, []string{"written by Postgres 9", "postgresql-9", "pg_dump"}},
		"other things":    {Config{Dir: foreign}, []string{"notes.txt"}},
		"no binaries":     {Config{Dir: openDir(t), BinDir: t.TempDir()}, []string{"no initdb"}},
		"long socket":     {Config{Dir: openDir(t), SocketDir: "/tmp/" + strings.Repeat("x", 100)}, []string{"too long", "107"}},
		"shared folder":   {Config{Dir: openDir(t), SocketDir: foreign}, []string{"notes.txt", "folder of its own"}},
		"socket is file":  {Config{Dir: openDir(t), SocketDir: filepath.Join(foreign, "notes.txt")}, []string{"socket folder"}},
		"below a private": {Config{Dir: filepath.Join(t.TempDir(), "data", "pg")}, []string{"cannot pass through", "chmod o+x " + os.TempDir()}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "below a private" && os.Geteuid() != 0 {
				needtest.Lacks(t, "only root runs Postgres as somebody else")
			}
			s, err := New(c.cfg)
			if err == nil {
				err = s.Start(bounded(t))
			}
			if err == nil {
				stop(t, s)
				t.Fatal("started")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}
		})
	}
}

func TestFindBinaries(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	root := t.TempDir()
	pattern := filepath.Join(root, "*", "bin")
	if _, err := findBinaries("", pattern, ""); err == nil || !strings.Contains(err.Error(), "apt-get install postgresql") {
		t.Errorf("got %v, want the command that installs it", err)
	}
	for _, major := range []string{"9", "15", "17"} {
		bin := filepath.Join(root, major, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"initdb", "postgres"} {
			script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + major + ".3 (Debian)'\n"
			if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "18", "bin"), 0o755); err != nil {
		t.Fatal(err) // a version of which only the client is installed
	}
	for cluster, want := range map[string]string{"": "17", "15": "15", "14": "17"} {
		if got, err := findBinaries("", pattern, cluster); err != nil || got.major != want || got.dir != filepath.Join(root, want, "bin") {
			t.Errorf("for a cluster of %q: got %+v, %v; want %s", cluster, got, err, want)
		}
	}
	t.Setenv("PATH", filepath.Join(root, "15", "bin"))
	if got, err := findBinaries("", filepath.Join(root, "none", "*"), ""); err != nil || got.major != "15" {
		t.Errorf("in PATH: got %+v, %v", got, err)
	}
}
