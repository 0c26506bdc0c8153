package api

import (
	"context"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
)

// Batches of the archive in memory.

type memBatch struct {
	batch.Batch
	hash, fingerprint string

	feeder    string // empty: nobody's, and all that was fed is saved
	feedUntil time.Time
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
	m.batches = append(m.batches, memBatch{Batch: *b, hash: string(hash), fingerprint: string(fingerprint)})
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
			if m.feeds {
				b.Ends = m.endsOf(&b.Batch)
			}
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

func (m *memStore) InsertFile(_ context.Context, f *batch.File, expiresIn time.Duration) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	f.CreatedAt = time.Now().UTC().Truncate(time.Millisecond)
	f.ExpiresAt = f.CreatedAt.Add(expiresIn)
	m.files = append(m.files, *f)
	return nil
}

func (m *memStore) File(_ context.Context, accountID, id string) (*batch.File, error) {
	list, err := m.someFiles(1, func(f batch.File) bool { return f.Account == accountID && f.ID == id })
	if err == nil && len(list) == 0 {
		err = noFile()
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (m *memStore) Files(_ context.Context, accountID, before string, limit int) ([]*batch.File, error) {
	return m.someFiles(limit, func(f batch.File) bool { return f.Account == accountID && (before == "" || f.ID < before) })
}

func (m *memStore) someFiles(limit int, which func(batch.File) bool) ([]*batch.File, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []*batch.File
	for _, f := range slices.Backward(m.files) {
		if which(f) && len(out) < limit {
			out = append(out, &f)
		}
	}
	return out, nil
}

func (m *memStore) DeleteFile(ctx context.Context, accountID, id string) (string, error) {
	f, err := m.File(ctx, accountID, id)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.ContainsFunc(m.batches, func(b memBatch) bool { return b.File == id && b.State == batch.Validating }) {
		return "", fault.New(fault.Conflict, "a batch is being read from the file")
	}
	m.files = slices.DeleteFunc(m.files, func(f batch.File) bool { return f.ID == id })
	return f.Object, nil
}
