package api

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
)

func (f *farm) look(id string) Batch {
	f.t.Helper()
	return f.do("GET", "/v1/batches/"+id, "").batch(f.t, http.StatusOK)
}

// From the upload to the second end: what a batch says of itself, and what its
// account may do to it when.
func TestBatchThroughItsStates(t *testing.T) {
	f := feedingFarm(t, leaveAll)
	f.leader.mu.Lock()
	f.leader.running = true
	f.leader.mu.Unlock()
	v := f.upload("/v1/batches?on_error=skip", urls(8)+"nonsense\n", textPlain)
	f.until(v.Id, func(b *batch.Batch) bool { return b.State == batch.Running && len(f.published(v.Id, 1)) == 8 })
	got := f.look(v.Id)
	if want := (BatchCounts{Total: 9, Running: 8, Failed: 1}); got.Counts != want || got.Status != "running" || got.Progress != 1.0/9 || got.EstimatedEndAt != nil || got.StartedAt == nil || got.InvalidLines != 1 {
		t.Errorf("%+v", got)
	}
	act := func(what string) answered { t.Helper(); return f.do("POST", "/v1/batches/"+v.Id+"/"+what, "") }
	for range 2 {
		if got := act("pause").batch(t, http.StatusOK); got.Status != "paused" || got.PausedReason == nil || *got.PausedReason != "by_owner" || got.ResumeAt != nil {
			t.Errorf("%+v", got)
		}
	}
	act("retry-failed").problem(t, http.StatusConflict, "conflict")
	for range 2 {
		if got := act("resume").batch(t, http.StatusOK); got.Status != "running" && got.Status != "finalizing" || got.PausedReason != nil {
			t.Errorf("%+v", got)
		}
	}
	f.leader.mu.Lock()
	ids := slices.Sorted(maps.Keys(f.leader.jobs))
	f.leader.mu.Unlock()
	for _, id := range ids[:6] {
		f.fileAs(id, job.Succeeded)
	}
	got = f.look(v.Id)
	if want := (BatchCounts{Total: 9, Running: 2, Succeeded: 6, Failed: 1}); got.Counts != want || got.EstimatedEndAt == nil || got.EstimatedEndAt.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("%+v", got)
	}
	for _, id := range ids[6:] {
		f.fileAs(id, job.Failed)
	}
	f.until(v.Id, state(batch.Completed))
	got = f.look(v.Id)
	if want := (BatchCounts{Total: 9, Succeeded: 6, Failed: 3}); got.Counts != want || got.Progress != 1 || got.EstimatedEndAt != nil || got.FinishedAt == nil || got.KeptUntil == nil {
		t.Errorf("%+v", got)
	}
	for _, what := range []string{"cancel", "pause", "resume"} {
		act(what).problem(t, http.StatusConflict, "already_finished")
	}
	got = act("retry-failed").batch(t, http.StatusOK)
	got.Counts.Queued, got.Counts.Running = got.Counts.Queued+got.Counts.Running, 0 // they may have begun already
	if got.Status != "running" || got.Pass != 2 || got.Counts != (BatchCounts{Total: 9, Queued: 2, Succeeded: 6, Failed: 1}) {
		t.Errorf("%+v", got)
	}
	f.until(v.Id, func(b *batch.Batch) bool { return len(f.published(v.Id, 2)) == 2 })
	if got := act("cancel").batch(t, http.StatusOK); got.Status != "canceling" && got.Status != "canceled" {
		t.Errorf("%+v", got)
	}
	go func() {
		for c := range f.leader.canceled {
			for f.leaderState(c.Id) != "canceled" {
				<-time.After(time.Millisecond)
			}
			f.fileAs(c.Id, job.Canceled)
		}
	}()
	defer close(f.leader.canceled)
	f.until(v.Id, state(batch.Canceled))
	if got := f.look(v.Id); got.Counts != (BatchCounts{Total: 9, Succeeded: 6, Failed: 1, Canceled: 2}) {
		t.Errorf("%+v", got)
	}
	if got := act("cancel").batch(t, http.StatusOK); got.Status != "canceled" {
		t.Errorf("%+v", got)
	}
	act("retry-failed").problem(t, http.StatusConflict, "conflict")
	if err := f.stop(); err != nil { // before nobody reads what is canceled
		t.Error(err)
	}
}

func TestCancelWhileValidating(t *testing.T) {
	f := newFarm(t)
	v := f.upload("/v1/batches", urls(3), textPlain)
	f.do("POST", "/v1/batches/"+v.Id+"/pause", "").problem(t, http.StatusConflict, "conflict")
	f.do("POST", "/v1/batches/"+v.Id+"/cancel", "").batch(t, http.StatusOK)
	f.store.mu.Lock()
	f.store.feeds = true
	f.store.mu.Unlock()
	f.server.feeder.changed(v.Id)
	if b := f.until(v.Id, state(batch.Canceled)); b.Total != 0 || len(f.published(v.Id, 1)) > 0 {
		t.Errorf("%+v", b)
	}
}

func TestListBatches(t *testing.T) {
	f := newFarm(t)
	var ids []string
	for range 5 {
		ids = append(ids, f.upload("/v1/batches", urls(1), textPlain).Id)
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	var got []string
	for after := ""; ; {
		var page BatchList
		a := f.do("GET", "/v1/batches?limit=2&after="+after, "")
		if a.json(t, &page); a.Code != http.StatusOK || len(page.Data) > 2 || page.HasMore != (page.NextCursor != nil) {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
		for _, b := range page.Data {
			got = append(got, b.Id)
		}
		if !page.HasMore {
			break
		}
		after = *page.NextCursor
	}
	if !slices.Equal(got, ids) {
		t.Errorf("%q, want %q", got, ids)
	}
	var page BatchList
	if f.do("GET", "/v1/batches?status=running", "").json(t, &page); len(page.Data) != 0 {
		t.Errorf("%+v", page)
	}
	f.do("GET", "/v1/batches?after=x", "").problem(t, http.StatusBadRequest, "invalid_input")
	f.do("GET", "/v1/batches?status=asleep", "").problem(t, http.StatusBadRequest, "invalid_input")
	f.do("GET", "/v1/batches/batch_x", "").problem(t, http.StatusNotFound, "not_found")
	f.store.setDown(true)
	f.do("GET", "/v1/batches", "").problem(t, http.StatusServiceUnavailable, "unavailable")
	f.store.setDown(false)
}

// An estimate says when the lines that are left will have ended at the pace of
// those that ended lately, and nothing where that says nothing.
func TestEstimatedEnd(t *testing.T) {
	f := newFarm(t)
	now := time.Now()
	of := func(total, ended int64, began time.Duration, state batch.State) *batch.Batch {
		b := f.batch(line(1, "")).Batch
		b.State, b.Total, b.StartedAt, b.Ends = state, total, now.Add(-began), batch.Ends{Succeeded: ended}
		for i := range ended {
			j := &job.Job{ID: batch.JobID(b.ID, b.CreatedAt, int(i)+1, 1), Batch: b.ID, Line: int(i) + 1, State: job.Succeeded, FinishedAt: now.Add(-time.Millisecond)}
			f.store.put(j)
		}
		return b
	}
	for name, c := range map[string]struct {
		b    *batch.Batch
		want time.Duration
	}{
		"half":        {of(200, 100, time.Minute, batch.Running), time.Minute},
		"a tenth":     {of(100, 10, time.Minute, batch.Running), 9 * time.Minute},
		"long ago":    {of(100, 10, time.Hour, batch.Running), 90 * time.Minute},
		"few":         {of(100, 4, time.Minute, batch.Running), 0},
		"paused":      {of(100, 50, time.Minute, batch.Paused), 0},
		"further off": {of(1_000_000, 5, paceFor, batch.Running), 0},
	} {
		end := f.server.endOf(context.Background(), c.b, now)
		if got := end.Sub(now); c.want == 0 != end.IsZero() || c.want > 0 && got.Round(time.Second) != c.want {
			t.Errorf("%s: in %s, want %s", name, got, c.want)
		}
	}
}
