package farm

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/needtest"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
)

func TestSecretKeyFile(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "data"))
	first, err := f.secretKey("")
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(f.join("secret.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("secret.key: %v, %v; want mode 0600", st, err)
	}
	if again, err := f.secretKey(""); err != nil || again.ID() != first.ID() {
		t.Errorf("the second start has another: %v", err)
	}
	text := seal.NewKey()
	given, err := f.secretKey(text)
	if want, _ := seal.Parse(text); err != nil || given.ID() != want.ID() {
		t.Errorf("a given key became another: %v", err)
	}
	if again, err := f.secretKey(""); err != nil || again.ID() != first.ID() {
		t.Errorf("a given key replaced the kept one: %v", err)
	}
	if err := f.write("secret.key", "not a key"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.secretKey(""); err == nil || !strings.Contains(err.Error(), "secret.key") || strings.Contains(err.Error(), "not a key") {
		t.Errorf("a broken file: %v", err)
	}
}

// said is a log that tells when it has said something.
type said struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wants string        // guarded by mu
	heard chan struct{} // closed once it was said
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := strings.Contains(s.text.String(), s.wants)
	s.text.Write(p)
	if !before && strings.Contains(s.text.String(), s.wants) {
		close(s.heard)
	}
	return len(p), nil
}

// A replica that starts before its database can say whose secrets it has goes
// on, and ends when the database says that they are sealed with another key.
func TestSecretKeyIsCheckedLater(t *testing.T) {
	needtest.Farm(t)
	url := foreignPostgres(t)
	text := seal.NewKey()
	archive := func(key string) *store.Store {
		box, err := seal.Parse(key)
		if err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler), store.SecretKey(box))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	log := &said{wants: "the secret key is the database's", heard: make(chan struct{})}
	p := &Process{Log: slog.New(slog.NewTextHandler(log, nil))}
	right, wrong := newParts(p.Log, context.Background()), newParts(slog.New(slog.DiscardHandler), context.Background())
	start := func(parts *parts, key string) {
		t.Helper()
		if err := p.startKeyCheck(t.Context(), parts, archive(key)); err != nil {
			t.Fatalf("a database without a schema refuses the start: %v", err)
		}
	}
	start(right, text)
	start(wrong, seal.NewKey())
	box, err := seal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	// In one transaction, so that neither is the first to seal the check.
	if err := pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), "CREATE TABLE secret_check (one boolean PRIMARY KEY DEFAULT true, sealed bytea NOT NULL)"); err != nil {
			return err
		}
		if _, err := tx.Exec(t.Context(), "CREATE TABLE api_keys (id text, signing_secret text, signing_sealed bytea)"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "INSERT INTO secret_check (sealed) VALUES ($1)", box.Check())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	<-log.heard
	<-wrong.failed()
	if err := wrong.close(); !wrongKey(err) {
		t.Errorf("the wrong key ended with %v", err)
	}
	if err := right.close(); err != nil {
		t.Errorf("the right key ended with %v", err)
	}
	if err := p.startKeyCheck(t.Context(), newParts(p.Log, context.Background()), archive(seal.NewKey())); !wrongKey(err) {
		t.Errorf("a start with the wrong key: %v", err)
	}
}

func wrongKey(err error) bool {
	_, ok := errors.AsType[*WrongKey](err)
	return ok
}
