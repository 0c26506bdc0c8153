package api

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
)

// What the archive in memory keeps of who feeds what, by the rules of the one in
// Postgres. Who waits for something of it asks changed.

// batchRow finds a batch. m is locked.
func (m *memStore) batchRow(id string) *memBatch {
	for i := range m.batches {
		if m.batches[i].ID == id {
			return &m.batches[i]
		}
	}
	return nil
}

// endsOf counts ends of lines; what is tried again has none. m is locked.
func (m *memStore) endsOf(b *batch.Batch) (e batch.Ends) {
	last := map[int]*job.Job{}
	for _, j := range m.jobs {
		if old := last[j.Line]; j.Batch == b.ID && (old == nil || j.Pass > old.Pass) {
			last[j.Line] = j
		}
	}
	for _, j := range last {
		switch {
		case j.State == job.Succeeded:
			e.Succeeded++
		case j.State == job.Canceled:
			e.Canceled++
		case j.State == job.Expired:
			e.Expired++
		case j.Pass == b.Pass:
			e.Failed++
		}
	}
	return e
}

func (m *memStore) ClaimBatch(_ context.Context, by string, lease time.Duration) (*store.Claim, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !m.feeds {
		return nil, nil
	}
	now := time.Now()
	var found *memBatch
	for i := range m.batches {
		b := &m.batches[i]
		due := !b.State.Ended() && (b.State != batch.Paused || !b.ResumeAt.IsZero() && !now.Before(b.ResumeAt) || !now.Before(b.ExpiresAt))
		if due && !now.Before(b.feedUntil) && (found == nil || b.feedUntil.Before(found.feedUntil)) {
			found = b
		}
	}
	if found == nil {
		return nil, nil
	}
	b := found.Batch
	b.Ends = m.endsOf(&b)
	c := &store.Claim{Batch: &b, Unsure: found.feeder != "", Dead: found.feeder != "" && found.feeder != "?"}
	found.feeder, found.feedUntil = by, now.Add(lease)
	return c, nil
}

func (m *memStore) YieldBatch(_ context.Context, by, id string, unknown bool) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if b := m.batchRow(id); b.feeder == by {
		if b.feeder, b.feedUntil = "", time.Now(); unknown {
			b.feeder = "?"
		}
	}
	return nil
}

// heldBatch changes a batch that is this feeder's, if change says so.
func (m *memStore) heldBatch(by, id string, change func(*memBatch) bool) (h store.Held, err error) {
	unlock, err := m.lock()
	if err != nil {
		return h, err
	}
	defer unlock()
	b := m.batchRow(id)
	if b == nil || b.feeder != by || !change(b) {
		return h, store.ErrNotHeld
	}
	return store.Held{State: b.State, PausedReason: b.PausedReason, Expired: !time.Now().Before(b.ExpiresAt), Ends: m.endsOf(&b.Batch)}, nil
}

func (m *memStore) SaveFed(_ context.Context, by string, as *batch.Batch, begins bool, lease time.Duration) (store.Held, error) {
	return m.heldBatch(by, as.ID, func(b *memBatch) bool {
		if b.Pass != as.Pass {
			return false
		}
		b.Fed, b.FedOffset, b.feedUntil = as.Fed, as.FedOffset, time.Now().Add(lease)
		if begins && b.StartedAt.IsZero() {
			b.StartedAt = time.Now()
		}
		return true
	})
}

func (m *memStore) BatchValidated(_ context.Context, by string, as *batch.Batch) (store.Held, error) {
	return m.heldBatch(by, as.ID, func(b *memBatch) bool {
		if b.State != batch.Validating && b.State != batch.Canceling {
			return false
		}
		b.Lines, b.Total, b.Invalid, b.Failure, b.LeftOut = as.Lines, as.Total, as.Invalid, as.Failure, as.LeftOut
		if b.PassObject, b.PassTotal = as.Lines, as.PassTotal; b.State == batch.Validating && b.Failure == "" {
			b.State = batch.Running
		}
		return true
	})
}

func (m *memStore) PassMade(_ context.Context, by string, as *batch.Batch) (store.Held, error) {
	return m.heldBatch(by, as.ID, func(b *memBatch) bool {
		b.PassObject, b.PassTotal = as.PassObject, as.PassTotal
		return true
	})
}

func (m *memStore) RefuseLine(_ context.Context, by string, as *batch.Batch, line int, code, detail string) (refused int64, err error) {
	_, err = m.heldBatch(by, as.ID, func(b *memBatch) bool {
		if m.refusals == nil {
			m.refusals = map[string][]batch.Refusal{}
		}
		r := batch.Refusal{Line: line, Pass: as.Pass, Code: code, Detail: detail}
		if !slices.ContainsFunc(m.refusals[b.ID], func(other batch.Refusal) bool { return other.Line == line && other.Pass == as.Pass }) {
			m.refusals[b.ID] = append(m.refusals[b.ID], r)
			b.Refused++
		}
		refused = b.Refused
		return true
	})
	return refused, err
}

func (m *memStore) Refused(_ context.Context, b *batch.Batch, lines []int) (out []int, err error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, r := range m.refusals[b.ID] {
		if r.Pass == b.Pass && slices.Contains(lines, r.Line) {
			out = append(out, r.Line)
		}
	}
	return out, nil
}

func (m *memStore) FailedLines(_ context.Context, b *batch.Batch, pass, after, limit int) (out []int, err error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, j := range m.jobs {
		if j.Batch == b.ID && j.Pass == pass && j.State == job.Failed && j.Line > after {
			out = append(out, j.Line)
		}
	}
	for _, r := range m.refusals[b.ID] {
		if r.Pass == pass && r.Line > after {
			out = append(out, r.Line)
		}
	}
	slices.Sort(out)
	return out[:min(limit, len(out))], nil
}

func (m *memStore) HoldUp(_ context.Context, by string, as *batch.Batch, reason string, until time.Time) (store.Held, error) {
	return m.heldBatch(by, as.ID, func(b *memBatch) bool {
		if b.State != batch.Running && !(b.State == batch.Paused && b.PausedReason != batch.PausedByOwner) {
			return false
		}
		b.State, b.PausedReason, b.ResumeAt = batch.Paused, reason, until
		return true
	})
}

func (m *memStore) GoOn(_ context.Context, by string, as *batch.Batch) (store.Held, error) {
	return m.heldBatch(by, as.ID, func(b *memBatch) bool {
		if b.State != batch.Paused || b.ResumeAt.IsZero() || time.Now().Before(b.ResumeAt) {
			return false
		}
		b.State, b.PausedReason, b.ResumeAt = batch.Running, "", time.Time{}
		return true
	})
}

func (m *memStore) LetExpire(_ context.Context, by string, as *batch.Batch) (store.Held, error) {
	return m.heldBatch(by, as.ID, func(b *memBatch) bool {
		if time.Now().Before(b.ExpiresAt) || b.State.Ended() || b.State == batch.Canceling {
			return false
		}
		b.State, b.PausedReason = batch.Canceling, "expired"
		return true
	})
}

func (m *memStore) LeaveOut(_ context.Context, by string, as *batch.Batch, fed int64) (store.Held, error) {
	return m.heldBatch(by, as.ID, func(b *memBatch) bool {
		b.LeftOut = max(b.PassTotal-fed, 0)
		return b.State == batch.Canceling
	})
}

func (m *memStore) Finalize(_ context.Context, by string, as *batch.Batch) (store.Held, error) {
	return m.heldBatch(by, as.ID, func(b *memBatch) bool {
		if b.State != batch.Running || b.Fed < b.PassTotal {
			return false
		}
		b.State = batch.Finalizing
		return true
	})
}

func (m *memStore) EndBatch(_ context.Context, by, id string, keep time.Duration, data func(*batch.Batch) (json.RawMessage, error)) (*batch.Batch, error) {
	var out batch.Batch
	var err error
	_, held := m.heldBatch(by, id, func(b *memBatch) bool {
		ends := m.endsOf(&b.Batch)
		left := b.Total - b.Invalid - b.Refused - b.LeftOut - ends.Succeeded - ends.Failed - ends.Canceled - ends.Expired
		fed := b.State == batch.Running || b.State == batch.Finalizing
		if left > 0 || fed && b.Fed < b.PassTotal || !fed && b.State != batch.Canceling && b.Failure == "" {
			return false
		}
		switch {
		case b.Failure != "":
			b.State = batch.Failed
		case fed:
			b.State = batch.Completed
		default:
			b.State = batch.State(cmp.Or(b.PausedReason, string(batch.Canceled)))
		}
		b.PausedReason, b.FinishedAt, b.feeder, b.feedUntil = "", time.Now(), "", time.Time{}
		b.KeptUntil, b.Ends = b.FinishedAt.Add(keep), ends
		out = b.Batch
		_, err = data(&out)
		return true
	})
	return &out, cmp.Or(held, err)
}

// keyOf is a key of an account.
func (m *memStore) keyOf(accountID string) (account.Key, string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.keys {
		if k.Account == accountID {
			return k, k.ID, true
		}
	}
	return account.Key{}, "", false
}

// What an account does to its batches, by the rules of the archive in Postgres.

func (m *memStore) Batches(_ context.Context, accountID string, state batch.State, before string, limit int) (out []*batch.Batch, err error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, b := range m.batches {
		if b.Account == accountID && (before == "" || b.ID < before) && (state == "" || b.State == state) {
			b.Ends = m.endsOf(&b.Batch)
			out = append(out, &b.Batch)
		}
	}
	slices.SortFunc(out, func(a, b *batch.Batch) int { return cmp.Compare(b.ID, a.ID) })
	return out[:min(limit, len(out))], nil
}

func (m *memStore) BatchPace(_ context.Context, of *batch.Batch, after time.Time) (ends int64, since time.Time, err error) {
	unlock, err := m.lock()
	if err != nil {
		return 0, after, err
	}
	defer unlock()
	for _, j := range m.jobs {
		if j.Batch == of.ID && j.FinishedAt.After(after) {
			ends++
		}
	}
	return ends, after, nil
}

// alter changes an account's batch where it is in one of these states.
func (m *memStore) alter(accountID, id string, to func(*memBatch), in ...batch.State) (*batch.Batch, bool, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	b := m.batchRow(id)
	if b == nil || b.Account != accountID {
		return nil, false, fault.New(fault.NotFound, "there is no such batch")
	}
	changed := slices.Contains(in, b.State)
	if changed {
		to(b)
	}
	out := b.Batch
	out.Ends = m.endsOf(&out)
	return &out, changed, nil
}

func (m *memStore) CancelBatch(_ context.Context, accountID, id string) (*batch.Batch, bool, error) {
	return m.alter(accountID, id, func(b *memBatch) { b.State, b.PausedReason = batch.Canceling, "" }, batch.Validating, batch.Running, batch.Paused)
}

func (m *memStore) PauseBatch(_ context.Context, accountID, id string) (*batch.Batch, bool, error) {
	return m.alter(accountID, id, func(b *memBatch) {
		b.State, b.PausedReason, b.ResumeAt = batch.Paused, batch.PausedByOwner, time.Time{}
	}, batch.Running, batch.Paused)
}

func (m *memStore) ResumeBatch(_ context.Context, accountID, id string) (*batch.Batch, bool, error) {
	return m.alter(accountID, id, func(b *memBatch) {
		b.State, b.PausedReason, b.ResumeAt = batch.Running, "", time.Time{}
	}, batch.Paused)
}

func (m *memStore) RetryBatch(_ context.Context, accountID, id string, expiresIn time.Duration) (*batch.Batch, bool, error) {
	changed := false
	b, _, err := m.alter(accountID, id, func(b *memBatch) {
		var refused int64
		for _, r := range m.refusals[id] {
			if r.Pass == b.Pass {
				refused++
			}
		}
		again := m.endsOf(&b.Batch).Failed + refused
		if changed = again > 0; changed {
			b.State, b.PassObject, b.PassTotal, b.Fed, b.FedOffset = batch.Running, "", again, 0, 0
			b.Pass, b.Refused, b.ExpiresAt = b.Pass+1, b.Refused-refused, time.Now().Add(expiresIn)
			b.FinishedAt, b.KeptUntil = time.Time{}, time.Time{}
		}
	}, batch.Completed)
	return b, changed, err
}
