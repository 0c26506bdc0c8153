package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
)

// What the archive in memory has of the lines of batches: the jobs in m.jobs,
// and m.refusals.

func (m *memStore) BatchJobs(_ context.Context, b *batch.Batch, after, limit int) ([]*job.Job, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	last := map[int]*job.Job{}
	for _, j := range m.jobs {
		if old := last[j.Line]; j.Batch == b.ID && j.Line > after && (old == nil || j.Pass > old.Pass) {
			last[j.Line] = j
		}
	}
	var out []*job.Job
	for _, j := range last {
		out = append(out, j)
	}
	slices.SortFunc(out, func(a, b *job.Job) int { return cmp.Compare(a.Line, b.Line) })
	return out[:min(limit, len(out))], nil
}

func (m *memStore) BatchEnds(_ context.Context, b *batch.Batch, at time.Time, id job.ID, limit int) ([]*job.Job, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	order := func(a *job.Job, at time.Time, id job.ID) int {
		return cmp.Or(a.FinishedAt.Compare(at), cmp.Compare(a.ID, id))
	}
	var out []*job.Job
	for _, j := range m.jobs {
		if j.Batch == b.ID && order(j, at, id) > 0 {
			out = append(out, j)
		}
	}
	slices.SortFunc(out, func(a, b *job.Job) int { return order(a, b.FinishedAt, b.ID) })
	return out[:min(limit, len(out))], nil
}

func (m *memStore) BatchRefusals(_ context.Context, b *batch.Batch, after, limit int) ([]batch.Refusal, error) {
	unlock, err := m.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	last := map[int]batch.Refusal{}
	for _, r := range m.refusals[b.ID] {
		if r.Line > after && r.Pass > last[r.Line].Pass {
			last[r.Line] = r
		}
	}
	var out []batch.Refusal
	for _, r := range last {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b batch.Refusal) int { return cmp.Compare(a.Line, b.Line) })
	return out[:min(limit, len(out))], nil
}

func (m *memStore) JobsOfBatch(ctx context.Context, b *batch.Batch, state job.State, before job.ID, limit int) ([]*job.Job, error) {
	all, err := m.Jobs(ctx, b.Account, state, before, 1<<30)
	all = slices.DeleteFunc(all, func(j *job.Job) bool { return j.Batch != b.ID })
	return all[:min(limit, len(all))], err
}

func (m *memStore) DropBatch(ctx context.Context, accountID, id string) (*batch.Batch, error) {
	b, err := m.Batch(ctx, accountID, id)
	switch {
	case err != nil:
		return nil, err
	case !b.State.Ended():
		return nil, fault.New(fault.Conflict, "the batch is %s; cancel it, or wait for its end", b.State)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batches = slices.DeleteFunc(m.batches, func(b memBatch) bool { return b.ID == id })
	return b, nil
}

func (m *memStore) DropBatchResults(ctx context.Context, b *batch.Batch, after, limit int) (objects []string, last int, err error) {
	jobs, err := m.BatchJobs(ctx, b, after, limit)
	if err != nil {
		return nil, 0, err
	}
	for _, j := range jobs {
		if j.Result == nil {
			continue
		}
		if _, err := m.DropResult(ctx, b.Account, j.ID); err != nil {
			return nil, 0, err
		}
		objects = append(objects, j.Result.Object)
	}
	if len(jobs) == limit {
		last = jobs[limit-1].Line
	}
	return objects, last, nil
}

func (m *memStore) DeleteBatch(context.Context, string) error {
	unlock, err := m.lock()
	if err == nil {
		unlock()
	}
	return err
}

// aBatch is a batch of the farm's account, whose lines ended as a test says.
type aBatch struct {
	*batch.Batch
	f     *farm
	lines []batch.Line
	ended time.Time // the last end
}

// batch is one that runs and has these lines.
func (f *farm) batch(lines ...batch.Line) *aBatch {
	f.t.Helper()
	id := batch.NewID()
	b := &aBatch{f: f, lines: lines, Batch: &batch.Batch{
		ID: id, Account: f.acct.ID, Format: batch.JSONL, OnError: batch.Skip, Input: "b/" + f.acct.ID + "/" + id + "/input",
	}}
	if err := f.store.InsertBatch(f.t.Context(), b.Batch, time.Hour, nil, nil); err != nil {
		f.t.Fatal(err)
	}
	b.ended = b.CreatedAt
	b.put("lines", lines)
	b.change(func(of *batch.Batch) {
		of.State, of.Lines, of.PassObject, of.Total = batch.Running, b.object("lines"), b.object("lines"), int64(len(lines))
		for _, l := range lines {
			if len(l.Errors) > 0 {
				of.Invalid++
			}
		}
	})
	return b
}

func (b *aBatch) object(name string) string {
	return fmt.Sprintf("b/%s/%s/%s.jsonl", b.Account, b.ID, name)
}

func (b *aBatch) put(name string, lines []batch.Line) {
	var all strings.Builder
	for _, l := range lines {
		line, err := json.Marshal(l)
		if err != nil {
			b.f.t.Fatal(err)
		}
		all.Write(append(line, '\n'))
	}
	b.f.bucket.set(b.object(name), []byte(all.String()))
}

// change does what a feeder does.
func (b *aBatch) change(to func(*batch.Batch)) {
	b.f.store.changeBatch(b.ID, to)
	var err error
	if b.Batch, err = b.f.store.Batch(context.Background(), b.Account, b.ID); err != nil {
		b.f.t.Fatal(err)
	}
}

// line is one that a job can be made of.
func line(number int, customID string) batch.Line {
	spec := job.Defaults()
	spec.URL = fmt.Sprintf("https://example.com/%d", number)
	return batch.Line{Number: number, CustomID: customID, Spec: spec.Marshal()}
}

// end is the end of a line's job, a millisecond after the one before it.
func (b *aBatch) end(number, pass int, state job.State, data []byte) *job.Job {
	j := b.f.filed(batch.JobID(b.ID, b.CreatedAt, number, pass), state, data)
	b.ended = b.ended.Add(time.Millisecond)
	j.FinishedAt, j.Batch, j.Line, j.Pass = b.ended, b.ID, number, pass
	for _, l := range b.lines {
		if l.Number == number {
			j.CustomID = l.CustomID
		}
	}
	switch state {
	case job.Failed:
		j.Failure = job.Fail(job.PageCrashed, job.StageWait, "the page crashed")
	case job.Expired, job.Canceled, job.Succeeded, job.Queued, job.Running:
	}
	return j
}

func (b *aBatch) refuse(number, pass int) {
	b.f.store.mu.Lock()
	defer b.f.store.mu.Unlock()
	if b.f.store.refusals == nil {
		b.f.store.refusals = map[string][]batch.Refusal{}
	}
	b.f.store.refusals[b.ID] = append(b.f.store.refusals[b.ID], batch.Refusal{Line: number, Pass: pass, Code: "forbidden", Detail: "the plan has no pdf"})
}

// results fetches them as JSON lines.
func (b *aBatch) results(query string) []BatchResult {
	b.f.t.Helper()
	a := b.f.do("GET", "/v1/batches/"+b.ID+"/results"+query, "")
	if a.Code != 200 {
		b.f.t.Fatalf("%d %s", a.Code, a.Body)
	}
	return readResults(b.f.t, a.Body.String())
}

func readResults(t testing.TB, body string) []BatchResult {
	t.Helper()
	var out []BatchResult
	for text := range strings.Lines(body) {
		var v BatchResult
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		out = append(out, v)
	}
	return out
}

// brief is a result in short: its line, status, and pass or error.
func brief(results []BatchResult) string {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "%d %s", r.Line, r.Status)
		if r.Error != nil {
			fmt.Fprintf(&b, " %s", r.Error.Code)
		}
		b.WriteString(", ")
	}
	return strings.TrimSuffix(b.String(), ", ")
}
