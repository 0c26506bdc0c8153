package api

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/seal"
	"github.com/tintype/tintype/pkg/webhook"
)

// memEndpoints are webhook endpoints and secrets in memory. Its zero value is
// ready.
type memEndpoints struct {
	emu       sync.Mutex
	away      bool // it answers as a database that does not
	endpoints []webhook.Endpoint
	secrets   map[string]webhook.Secrets // by account
	sealing   *seal.Box
}

func (m *memEndpoints) open() (func(), error) {
	m.emu.Lock()
	if m.away {
		m.emu.Unlock()
		return nil, errDown
	}
	if m.sealing == nil {
		m.sealing, _ = seal.Parse(seal.NewKey()) // it is one
		m.secrets = map[string]webhook.Secrets{}
	}
	return m.emu.Unlock, nil
}

// change gives an account's endpoint to do, and as it is then.
func (m *memEndpoints) change(accountID, id string, do func(*webhook.Endpoint)) (webhook.Endpoint, error) {
	unlock, err := m.open()
	if err != nil {
		return webhook.Endpoint{}, err
	}
	defer unlock()
	for i := range m.endpoints {
		if e := &m.endpoints[i]; e.ID == id && e.Account == accountID {
			do(e)
			return *e, nil
		}
	}
	return webhook.Endpoint{}, fault.New(fault.NotFound, "the account has no such webhook endpoint")
}

func (m *memEndpoints) CreateEndpoint(_ context.Context, e webhook.Endpoint, secret webhook.Secret, most int) (webhook.Endpoint, error) {
	unlock, err := m.open()
	if err != nil {
		return webhook.Endpoint{}, err
	}
	defer unlock()
	has := 0
	for _, other := range m.endpoints {
		if other.Account == e.Account {
			has++
		}
	}
	if has >= most {
		return webhook.Endpoint{}, fault.New(fault.Conflict, "the account has %d webhook endpoints, and more are not offered; delete one", most)
	}
	e.CreatedAt, e.UpdatedAt = time.Now(), time.Now()
	e.Secrets.Sealed = secret.Seal(m.sealing, seal.Endpoint, e.ID)
	m.endpoints = append(m.endpoints, e)
	return e, nil
}

func (m *memEndpoints) Endpoints(_ context.Context, accountID, after string, limit int) ([]webhook.Endpoint, error) {
	unlock, err := m.open()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []webhook.Endpoint
	for _, e := range m.endpoints {
		if e.Account == accountID && e.ID > after {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b webhook.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return out[:min(limit, len(out))], nil
}

func (m *memEndpoints) Endpoint(_ context.Context, accountID, id string) (webhook.Endpoint, error) {
	return m.change(accountID, id, func(*webhook.Endpoint) {})
}

func (m *memEndpoints) UpdateEndpoint(_ context.Context, accountID, id string, to webhook.Change) (webhook.Endpoint, error) {
	return m.change(accountID, id, func(e *webhook.Endpoint) {
		set(&e.URL, to.URL)
		set(&e.Description, to.Description)
		set(&e.BatchLineEvents, to.BatchLineEvents)
		if to.Events != nil {
			e.Events = to.Events
		}
		if to.Enabled != nil {
			e.DisabledAt, e.DisabledReason = time.Time{}, ""
			if !*to.Enabled {
				e.DisabledAt, e.DisabledReason = time.Now(), "by_owner"
			}
		}
		e.UpdatedAt = time.Now()
	})
}

func (m *memEndpoints) RotateEndpoint(_ context.Context, accountID, id string, secret webhook.Secret) (webhook.Endpoint, error) {
	return m.change(accountID, id, func(e *webhook.Endpoint) {
		e.Secrets = webhook.Secrets{
			Sealed: secret.Seal(m.sealing, seal.Endpoint, id), OldSealed: e.Secrets.Sealed, OldUntil: time.Now().Add(webhook.BothSecrets),
		}
	})
}

func (m *memEndpoints) DeleteEndpoint(_ context.Context, accountID, id string) error {
	if _, err := m.change(accountID, id, func(*webhook.Endpoint) {}); err != nil {
		return err
	}
	m.emu.Lock()
	defer m.emu.Unlock()
	m.endpoints = slices.DeleteFunc(m.endpoints, func(e webhook.Endpoint) bool { return e.ID == id })
	return nil
}

func (m *memEndpoints) AccountSecrets(_ context.Context, accountID string) (webhook.Secrets, error) {
	unlock, err := m.open()
	if err != nil {
		return webhook.Secrets{}, err
	}
	defer unlock()
	if _, ok := m.secrets[accountID]; !ok {
		m.secrets[accountID] = webhook.Secrets{Sealed: webhook.NewSecret().Seal(m.sealing, seal.Account, accountID)}
	}
	return m.secrets[accountID], nil
}

func (m *memEndpoints) RotateAccountSecret(_ context.Context, accountID string, secret webhook.Secret) (webhook.Secrets, error) {
	unlock, err := m.open()
	if err != nil {
		return webhook.Secrets{}, err
	}
	defer unlock()
	next := webhook.Secrets{Sealed: secret.Seal(m.sealing, seal.Account, accountID)}
	if before, ok := m.secrets[accountID]; ok {
		next.OldSealed, next.OldUntil = before.Sealed, time.Now().Add(webhook.BothSecrets)
	}
	m.secrets[accountID] = next
	return next, nil
}

func (m *memEndpoints) OpenSecrets(secrets webhook.Secrets, as seal.Purpose, owner string, now time.Time) ([]webhook.Secret, error) {
	unlock, err := m.open()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return secrets.Open(m.sealing, as, owner, now)
}
