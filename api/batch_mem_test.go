package api

import (
	"context"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// Batches of the archive in memory.

type memBatch struct {
	batch.Batch
	hash, fingerprint string
}

func (m *memStore) InsertBatch(_ context.Context, b *batch.Batch, expiresIn time.Duration, hash, fingerprint []byte) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, other := range m.batches {
		if other.ID == b.ID || len(hash) > 0 && other.Account == b.Account && other.hash == string(hash) {
			return fault.New(fault.Conflict, "there is such a batch already")
		}
	}
	b.State, b.Pass, b.CreatedAt = batch.Validating, 1, time.Now().UTC().Truncate(time.Millisecond)
	b.ExpiresAt = b.CreatedAt.Add(expiresIn)
	m.batches = append(m.batches, memBatch{*b, string(hash), string(fingerprint)})
	return nil
}

func (m *memStore) Batch(_ context.Context, accountID, id string) (*batch.Batch, error) {
	b, _, err := m.someBatch(func(b memBatch) bool { return b.Account == accountID && b.ID == id })
	return b, err
}

func (m *memStore) BatchByKey(_ context.Context, accountID string, hash []byte) (*batch.Batch, []byte, error) {
	return m.someBatch(func(b memBatch) bool { return b.Account == accountID && b.hash == string(hash) })
}

func (m *memStore) someBatch(which func(memBatch) bool) (*batch.Batch, []byte, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	for _, b := range m.batches {
		if which(b) {
			return &b.Batch, []byte(b.fingerprint), nil
		}
	}
	return nil, nil, fault.New(fault.NotFound, "there is no such batch")
}

// changeBatch does what a feeder does.
func (m *memStore) changeBatch(id string, change func(*batch.Batch)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.batches {
		if m.batches[i].ID == id {
			change(&m.batches[i].Batch)
		}
	}
}
