package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/object"
)

// memStore is the archive in memory. down makes every method fail as a
// database that does not answer does.
type memStore struct {
	memEndpoints
	memDeliveries

	mu       sync.Mutex
	down     bool
	asked    int // how often Key was called
	looked   int // how often RecentBatches was called
	accounts map[string]account.Account
	keys     map[string]account.Key
	jobs     map[job.ID]*job.Job
	charges  map[job.ID]account.JobCharge
	byKey    map[string]keyedJob           // by account and key hash
	usage    map[string][]account.UsageDay // by account and month
	events   []account.UsageEvent
	bans     []account.Ban
	audit    []account.Audit
	pages    int // how often events were asked for
	failsAt  int // which of them fails, and all that follow; 0: none

	artifacts map[string]*job.Artifact // by account and cache key
	batches   []memBatch
	feeds     bool                       // feeders find batches
	refusals  map[string][]batch.Refusal // by batch
	files     []batch.File
}

type keyedJob struct {
	id          job.ID
	fingerprint []byte
}

func newMemStore() *memStore {
	return &memStore{accounts: map[string]account.Account{}, keys: map[string]account.Key{}, jobs: map[job.ID]*job.Job{}, byKey: map[string]keyedJob{}, artifacts: map[string]*job.Artifact{}}
}

var errDown = errors.New("connection refused")

func (m *memStore) lock() (func(), error) {
	m.mu.Lock()
	if m.down {
		m.mu.Unlock()
		return nil, errDown
	}
	return m.mu.Unlock, nil
}

// text refuses what a column of text refuses: it is the database's error, not
// a row that is not there.
func text(values ...string) error {
	for _, v := range values {
		if !utf8.ValidString(v) || strings.Contains(v, "\x00") {
			return errors.New("invalid byte sequence for encoding \"UTF8\"")
		}
	}
	return nil
}

func (m *memStore) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *memStore) newAccount(name string) (account.Account, string) {
	a := account.Account{ID: "acc_" + strings.TrimPrefix(string(job.NewID()), "job_"), Name: name, Plan: "default", CreatedAt: time.Now()}
	k, text := account.NewKey(a.ID, "first")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accounts[a.ID], m.keys[k.ID] = a, k
	return a, text
}

func (m *memStore) setAccount(a account.Account) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accounts[a.ID] = a
}

func (m *memStore) put(j *job.Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs[j.ID] = j
}

func (m *memStore) remove(id job.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.jobs, id)
}

func (m *memStore) Job(_ context.Context, id job.ID) (*job.Job, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if j := m.jobs[id]; j != nil {
		return j, nil
	}
	return nil, fault.New(fault.NotFound, "there is no such job")
}

func (m *memStore) Artifact(_ context.Context, accountID string, key []byte) (*job.Artifact, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if a := m.artifacts[accountID+string(key)]; a != nil {
		return a, nil
	}
	return nil, fault.New(fault.NotFound, "nothing is cached")
}

func (m *memStore) JobByKey(_ context.Context, accountID string, hash []byte) (*job.Job, []byte, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	k, ok := m.byKey[accountID+string(hash)]
	if !ok {
		return nil, nil, fault.New(fault.NotFound, "the key names no job")
	}
	if !m.kept(k.id) {
		return nil, nil, fault.New(fault.NotFound, "the key names no job")
	}
	return m.jobs[k.id], k.fingerprint, nil
}

func (m *memStore) Jobs(_ context.Context, accountID string, state job.State, before job.ID, limit int) ([]*job.Job, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []*job.Job
	ids := slices.Sorted(maps.Keys(m.jobs))
	slices.Reverse(ids)
	for _, id := range ids {
		j := m.jobs[id]
		if j.Account == accountID && m.kept(id) && (state == "" || j.State == state) && (before == "" || id < before) && len(out) < limit {
			out = append(out, j)
		}
	}
	return out, nil
}

// kept reports whether a job's retention lasts; the caller holds mu.
func (m *memStore) kept(id job.ID) bool { return time.Now().Before(m.jobs[id].ExpiresAt) }

func (m *memStore) Usage(_ context.Context, accountID string, period time.Time) ([]account.UsageDay, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return m.usage[accountID+" "+period.Format(time.DateOnly)], nil
}

func (m *memStore) JobCharge(_ context.Context, accountID string, id job.ID) (account.JobCharge, error) {
	unlock, err := m.lock()
	if err != nil {
		return account.JobCharge{}, err
	}
	defer unlock()
	if j := m.jobs[id]; j == nil || j.Account != accountID {
		return account.JobCharge{}, nil
	}
	return m.charges[id], nil
}

func (m *memStore) DropResult(_ context.Context, accountID string, id job.ID) (string, error) {
	unlock, err := m.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	j := m.jobs[id]
	if j == nil || j.Account != accountID || j.Result == nil {
		return "", fault.New(fault.NotFound, "the job has no result")
	}
	gone, res := *j, *j.Result
	res.Gone = true
	gone.Result = &res
	m.jobs[id] = &gone
	return res.Object, nil
}

func (m *memStore) CreateAccount(_ context.Context, a account.Account, k account.Key) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, other := range m.accounts {
		if other.Name == a.Name {
			return fault.New(fault.Conflict, "name: an account named %q exists already; choose another name", a.Name)
		}
	}
	m.accounts[a.ID], m.keys[k.ID] = a, k
	return nil
}

func (m *memStore) Accounts(_ context.Context, after string, limit int) ([]account.Account, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []account.Account
	for _, id := range slices.Sorted(maps.Keys(m.accounts)) {
		if id > after && len(out) < limit {
			out = append(out, m.accounts[id])
		}
	}
	return out, nil
}

func (m *memStore) UpdateAccount(ctx context.Context, id string, to account.Update) (account.Account, error) {
	a, err := m.Account(ctx, id)
	if err != nil {
		return a, err
	}
	set(&a.Plan, to.Plan)
	set(&a.Suspended, to.Suspended)
	set(&a.BillingDay, to.BillingDay)
	unlock, err := m.lock()
	if err != nil {
		return a, err
	}
	defer unlock()
	m.accounts[id] = a
	return a, nil
}

func (m *memStore) Account(_ context.Context, id string) (account.Account, error) {
	unlock, err := m.lock()
	if err != nil {
		return account.Account{}, err
	}
	defer unlock()
	if err := text(id); err != nil {
		return account.Account{}, err
	}
	a, ok := m.accounts[id]
	if !ok {
		return a, fault.New(fault.NotFound, "there is no such account")
	}
	return a, nil
}

func (m *memStore) CreateKey(_ context.Context, k account.Key) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	m.keys[k.ID] = k
	return nil
}

func (m *memStore) Keys(_ context.Context, accountID string) ([]account.Key, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []account.Key
	for _, id := range slices.Sorted(maps.Keys(m.keys)) {
		if m.keys[id].Account == accountID {
			out = append(out, m.keys[id])
		}
	}
	return out, nil
}

func (m *memStore) RevokeKey(_ context.Context, accountID, keyID string) error {
	unlock, err := m.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := text(accountID, keyID); err != nil {
		return err
	}
	k, ok := m.keys[keyID]
	if !ok || k.Account != accountID {
		return fault.New(fault.NotFound, "the account has no such key")
	}
	k.RevokedAt = time.Now()
	m.keys[keyID] = k
	return nil
}

func (m *memStore) Key(_ context.Context, keyID string) (account.Key, account.Account, error) {
	unlock, err := m.lock()
	if err != nil {
		return account.Key{}, account.Account{}, err
	}
	defer unlock()
	if err := text(keyID); err != nil {
		return account.Key{}, account.Account{}, err
	}
	m.asked++
	k, ok := m.keys[keyID]
	if !ok {
		return account.Key{}, account.Account{}, fault.New(fault.NotFound, "there is no such key")
	}
	return k, m.accounts[k.Account], nil
}

// memBucket is a bucket in memory.
type memBucket struct {
	mu      sync.Mutex
	down    bool
	objects map[string][]byte
}

func newMemBucket() *memBucket { return &memBucket{objects: map[string][]byte{}} }

func (b *memBucket) fail() error {
	if b.down {
		return errors.New("connection refused")
	}
	return nil
}

func (b *memBucket) setDown(down bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = down
}

func (b *memBucket) set(key string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = data
}

func (b *memBucket) keys() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.objects))
}

func (b *memBucket) Put(_ context.Context, key string, body io.Reader, _ int64, _ string) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail(); err != nil {
		return err
	}
	b.objects[key] = data
	return nil
}

func (b *memBucket) PutStream(ctx context.Context, key string, body io.Reader, contentType string) (int64, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	return int64(len(data)), b.Put(ctx, key, bytes.NewReader(data), int64(len(data)), contentType)
}

func (b *memBucket) Open(ctx context.Context, key string, offset int64) (io.ReadCloser, object.Info, error) {
	body, info, err := b.Get(ctx, key)
	if err == nil {
		info.SizeBytes -= offset
		_, err = io.CopyN(io.Discard, body, offset)
	}
	return body, info, err
}

func (b *memBucket) Get(_ context.Context, key string) (io.ReadCloser, object.Info, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail(); err != nil {
		return nil, object.Info{}, err
	}
	data, ok := b.objects[key]
	if !ok {
		return nil, object.Info{}, fmt.Errorf("get %s: %w", key, object.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(data)), object.Info{Key: key, SizeBytes: int64(len(data))}, nil
}

func (b *memBucket) Stat(ctx context.Context, key string) (object.Info, error) {
	_, info, err := b.Get(ctx, key)
	return info, err
}

func (b *memBucket) Delete(_ context.Context, keys ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail(); err != nil {
		return err
	}
	for _, k := range keys {
		delete(b.objects, k)
	}
	return nil
}

func (b *memBucket) PresignGet(key string, _ time.Duration, disposition string) (string, error) {
	return "https://s3.example.com/" + key + "?disposition=" + disposition, nil
}
