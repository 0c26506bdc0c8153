package store_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
	"github.com/tintype/tintype/pkg/webhook"
)

func openWith(t *testing.T, url string, log *slog.Logger, options ...store.Option) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), url, log, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newKey(t *testing.T) store.Option {
	t.Helper()
	box, err := seal.Parse(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return store.SecretKey(box)
}

// The first key that a database sees is its key, and another one is told so
// and seals nothing, whether or not it asked first.
func TestWrongSecretKey(t *testing.T) {
	url, log := storetest.URL(t), slog.New(slog.DiscardHandler)
	right := newKey(t)
	for range 2 {
		if err := openWith(t, url, log, right).CheckSecretKey(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	a, k, _ := someAccount(t, openWith(t, url, log, right), "acme")
	wrong := openWith(t, url, log, newKey(t))
	e := webhook.Endpoint{ID: webhook.NewEndpointID(), Account: a.ID, URL: "https://example.com/", Events: webhook.Types}
	further, _ := account.NewKey(a.ID, "further")
	for name, err := range map[string]error{
		"create an endpoint":    second(wrong.CreateEndpoint(t.Context(), e, webhook.NewSecret(), 1)),
		"rotate":                second(wrong.RotateEndpoint(t.Context(), a.ID, e.ID, webhook.NewSecret())),
		"ask for the account's": second(wrong.AccountSecrets(t.Context(), a.ID)),
		"rotate the account's":  second(wrong.RotateAccountSecret(t.Context(), a.ID, webhook.NewSecret())),
		"create a key":          wrong.CreateKey(t.Context(), further),
		"create an account":     wrong.CreateAccount(t.Context(), account.Account{ID: "acc_x", Name: "x", Plan: "default"}, further),
		"check":                 fault.Wrap(fault.Unavailable, wrong.CheckSecretKey(t.Context()), ""),
	} {
		if !errors.Is(err, seal.ErrWrongKey) || !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "secret.key") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What the key opens besides links is as before.
	if got, _, err := wrong.Key(t.Context(), k.ID); err != nil || got.SigningSecret != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, _, err := openWith(t, url, log, right).Key(t.Context(), k.ID); err != nil || got.SigningSecret != k.SigningSecret {
		t.Errorf("%+v, %v", got, err)
	}
}

// Nothing that signs stands in the database as it is, neither what is made now
// nor what older releases left, and both go on signing.
func TestSealedAtRest(t *testing.T) {
	url, log := storetest.URL(t), slog.New(slog.DiscardHandler)
	s := openWith(t, url, log, newKey(t))
	a, k, _ := someAccount(t, s, "acme")
	secret := webhook.NewSecret()
	e, err := s.CreateEndpoint(t.Context(), webhook.Endpoint{ID: webhook.NewEndpointID(), Account: a.ID, URL: "https://example.com/", Events: webhook.Types}, secret, 1)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	older, _ := account.NewKey(a.ID, "of an older release")
	if _, err := conn.Exec(t.Context(), `INSERT INTO api_keys (id, account, name, hash, scopes, signing_secret) VALUES ($1, $2, '', $3, '{}', $4)`,
		older.ID, a.ID, older.Hash, older.SigningSecret); err != nil {
		t.Fatal(err)
	}
	signs := func() {
		t.Helper()
		for _, want := range []account.Key{k, older} {
			if got, _, err := s.Key(t.Context(), want.ID); err != nil || got.SigningSecret != want.SigningSecret {
				t.Errorf("%q signs with %q, %v", want.Name, got.SigningSecret, err)
			}
		}
	}
	signs()
	if err := s.CheckSecretKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	signs()
	var dump bytes.Buffer
	for _, table := range []string{"api_keys", "webhook_endpoints", "webhook_secrets", "secret_check"} {
		var rows []string
		if err := conn.QueryRow(t.Context(), `SELECT COALESCE(array_agg(row_to_json(t)::text), '{}') FROM `+table+` t`).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		dump.WriteString(strings.Join(rows, "\n"))
	}
	var raw [][]byte
	if err := conn.QueryRow(t.Context(), `SELECT array_agg(b) FROM (
		SELECT signing_sealed AS b FROM api_keys UNION ALL SELECT secret FROM webhook_endpoints UNION ALL SELECT secret FROM webhook_secrets) x`).Scan(&raw); err != nil {
		t.Fatal(err)
	}
	dump.Write(bytes.Join(raw, nil))
	for name, plain := range map[string]string{"a key's": k.SigningSecret, "an older key's": older.SigningSecret, "an endpoint's": secret.Text()} {
		if bytes.Contains(dump.Bytes(), []byte(plain)) || bytes.Contains(dump.Bytes(), []byte(plain[8:])) {
			t.Errorf("%s secret stands in the database", name)
		}
	}
	if len(raw) != 3 || !strings.Contains(dump.String(), e.ID) {
		t.Errorf("that is not what was looked for: %d secrets", len(raw))
	}
}

// Whoever has lost the key goes on with another one, as docs/operations.md says:
// what the first one sealed is lost, and everything else is there.
func TestLostSecretKey(t *testing.T) {
	url, log := storetest.URL(t), slog.New(slog.DiscardHandler)
	first := openWith(t, url, log, newKey(t))
	a, k, text := someAccount(t, first, "acme")
	e, err := first.CreateEndpoint(t.Context(), webhook.Endpoint{ID: webhook.NewEndpointID(), Account: a.ID, URL: "https://example.com/", Events: webhook.Types}, webhook.NewSecret(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.AccountSecrets(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "DELETE FROM secret_check"); err != nil {
		t.Fatal(err)
	}
	s := openWith(t, url, log, newKey(t))
	if err := s.CheckSecretKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _, err := s.Key(t.Context(), k.ID); err != nil || got.SigningSecret != "" || !got.Matches(text) {
		t.Errorf("the key: %+v, %v", got, err)
	}
	lost, err := s.AccountSecrets(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	if live, err := s.OpenSecrets(lost, seal.Account, a.ID, time.Now()); len(live) > 0 || !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("%d secrets, %v", len(live), err)
	}
	next := webhook.NewSecret()
	rotated, err := s.RotateEndpoint(t.Context(), a.ID, e.ID, next)
	if err != nil {
		t.Fatal(err)
	}
	if live, err := s.OpenSecrets(rotated.Secrets, seal.Endpoint, e.ID, time.Now()); len(live) != 1 || live[0].Text() != next.Text() || !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("after a rotation: %d secrets, %v", len(live), err)
	}
}

// A secret that does not open costs what it signs and nothing else.
func TestDamagedSecret(t *testing.T) {
	url := storetest.URL(t)
	var logged bytes.Buffer
	s := openWith(t, url, slog.New(slog.NewTextHandler(&logged, nil)), newKey(t))
	_, k, text := someAccount(t, s, "acme")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `UPDATE api_keys SET signing_sealed = signing_sealed || 'x'::bytea`); err != nil {
		t.Fatal(err)
	}
	got, _, err := s.Key(t.Context(), k.ID)
	if err != nil || got.SigningSecret != "" || !got.Matches(text) {
		t.Errorf("%+v, %v", got, err)
	}
	if !strings.Contains(logged.String(), k.ID) || strings.Contains(logged.String(), k.SigningSecret) {
		t.Errorf("logged: %s", logged.String())
	}
}
