package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
)

// ends is how many lines of a batch have ended, and how.
type ends struct{ Succeeded, Failed, Canceled, Expired int64 }

// However often an end comes, its line counts once, also one whose row the
// database does not take.
func TestBatchEndsAreCountedOnce(t *testing.T) {
	url := storetest.URL(t)
	s := storetest.Connect(t, url)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	now := time.Now().UTC()
	line := func(batch string, n int, state job.State) store.Ended {
		e := succeeded(job.NewID(), now)
		e.Job.Batch, e.Job.Line, e.Job.Pass, e.Job.State = batch, n, 1, state
		if state != job.Succeeded {
			e.Job.Result, e.Job.Billable, e.Units = nil, nil, 0
		}
		if state == job.Failed {
			e.Job.Failure = job.Fail(job.PageCrashed, job.StageCapture, "it crashed")
		}
		return e
	}
	one, two := line("batch_1", 1, job.Succeeded), line("batch_1", 2, job.Failed)
	alone := succeeded(job.NewID(), now)
	at := store.Projection{}
	file := func(list ...store.Ended) {
		t.Helper()
		next := store.Projection{Seq: at.Seq + 1}
		if _, err := s.Project(t.Context(), at, next, store.Filing{Ends: list}); err != nil {
			t.Fatal(err)
		}
		at = next
	}
	want := func(batch string, want ends) {
		t.Helper()
		var got ends
		if err := conn.QueryRow(t.Context(), "SELECT succeeded, failed, canceled, expired FROM batch_ends WHERE batch = $1", batch).
			Scan(&got.Succeeded, &got.Failed, &got.Canceled, &got.Expired); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", batch, diff)
		}
	}
	file(one, alone, line("batch_2", 1, job.Canceled))
	file(one, one, two, line("batch_1", 3, job.Expired), line("batch_2", 2, job.Succeeded)) // as after a commit that was not heard
	want("batch_1", ends{Succeeded: 1, Failed: 1, Expired: 1})
	want("batch_2", ends{Succeeded: 1, Canceled: 1})

	poison, impossible := line("batch_2", 3, job.Succeeded), line("batch_2", 4, "asleep")
	poison.Job.CustomID = "a\x00b"
	nowhere := line("batch_\x00", 1, "asleep")
	file(two, poison, impossible, nowhere)
	want("batch_1", ends{Succeeded: 1, Failed: 1, Expired: 1})
	want("batch_2", ends{Succeeded: 2, Failed: 1, Canceled: 1})

	got, err := s.Job(t.Context(), two.Job.ID)
	if err != nil || got.Batch != "batch_1" || got.Line != 2 || got.Pass != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	var rows int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM batch_ends").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("%d batches have ends, %v", rows, err)
	}
}
