package store_test

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
)

// someBatch is a batch of some days ago.
func someBatch() *batch.Batch {
	return &batch.Batch{
		ID: batch.NewID(), Account: "acc_acme", State: batch.Running, Pass: 1,
		CreatedAt: time.Now().UTC().Truncate(time.Millisecond).AddDate(0, 0, -3),
	}
}

// lineEnded is the end of a line's job.
func lineEnded(b *batch.Batch, line, pass int, at time.Time) store.Ended {
	e := succeeded(batch.JobID(b.ID, b.CreatedAt, line, pass), at)
	e.Job.Batch, e.Job.Line, e.Job.Pass = b.ID, line, pass
	return e
}

func TestBatchJobs(t *testing.T) {
	url := storetest.URL(t)
	s, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b, other, now := someBatch(), someBatch(), time.Now().UTC().Truncate(time.Microsecond)
	one, two, again := lineEnded(b, 1, 1, now), lineEnded(b, 2, 1, now.Add(3*time.Microsecond)), lineEnded(b, 2, 2, now.Add(time.Second))
	last := lineEnded(b, 4096, 1, now.Add(2*time.Second))
	two.Job.State, two.Job.Result, two.Units = job.Failed, nil, 0
	two.Job.Failure, two.Job.Billable = job.Fail(job.PageCrashed, job.StageWait, "the page crashed"), new(bool)
	alone := succeeded(job.NewID(), now)
	stranger := lineEnded(other, 1, 1, now)
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{last, two, one, alone, stranger}}); err != nil {
		t.Fatal(err)
	}
	want := func(after, limit int, jobs ...store.Ended) {
		t.Helper()
		got, err := s.BatchJobs(t.Context(), b, after, limit)
		if err != nil || len(got) != len(jobs) {
			t.Fatalf("%v, %v; want %d jobs", got, err, len(jobs))
		}
		for i, e := range jobs {
			if diff := cmp.Diff(e.Job, got[i], cmpopts.IgnoreFields(job.Job{},
				"CreatedAt", "StartedAt", "Attempts", "Billable", "Metadata", "Options", "Timings", "Evidence")); diff != "" {
				t.Errorf("job (-want +got):\n%s", diff)
			}
		}
	}
	want(0, 10, one, two, last)
	if _, err := s.Project(t.Context(), store.Projection{Seq: 1}, store.Projection{Seq: 2}, store.Filing{Ends: []store.Ended{again}}); err != nil {
		t.Fatal(err)
	}
	want(0, 10, one, again, last)
	want(0, 2, one, again)
	want(2, 10, last)
	want(4096, 10)
	if _, err := s.DropResult(t.Context(), "acc_acme", one.Job.ID); err != nil {
		t.Fatal(err)
	}
	one.Job.Result.Gone = true
	want(0, 1, one)

	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `
		INSERT INTO batch_refusals (batch, line, pass, code, detail)
		VALUES ($1, 7, 1, 'forbidden', 'first'), ($1, 7, 2, 'forbidden', 'then'), ($1, 9, 1, 'forbidden', 'no'), ($2, 1, 1, 'forbidden', 'not ours')`,
		b.ID, other.ID); err != nil {
		t.Fatal(err)
	}
	all := []batch.Refusal{{Line: 7, Pass: 2, Code: "forbidden", Detail: "then"}, {Line: 9, Pass: 1, Code: "forbidden", Detail: "no"}}
	for after, want := range map[int][]batch.Refusal{0: all, 7: all[1:], 9: {}} {
		if got, err := s.BatchRefusals(t.Context(), b, after, 10); err != nil || !cmp.Equal(got, want) {
			t.Errorf("behind %d: %v, %v", after, got, err)
		}
	}
}

// Whoever reads the ends of a batch in their order and goes on behind the last
// one that it read, while they are filed, meets each of them once.
func TestBatchEndsWhileTheyAreFiled(t *testing.T) {
	s := storetest.Open(t)
	b := someBatch()
	const lines = 3000
	var ends []store.Ended
	at := time.Now().UTC().Truncate(time.Microsecond)
	for _, line := range rand.Perm(lines) { // lines end in any order
		at = at.Add(time.Microsecond * time.Duration(1+line%3))
		ends = append(ends, lineEnded(b, line+1, 1, at))
	}
	filed := make(chan error, 1)
	go func() {
		rest, seq := ends, uint64(0)
		for len(rest) > 0 {
			n := min(1+rand.IntN(60), len(rest))
			if _, err := s.Project(t.Context(), store.Projection{Seq: seq}, store.Projection{Seq: seq + 1}, store.Filing{Ends: rest[:n]}); err != nil {
				filed <- err
				return
			}
			rest, seq = rest[n:], seq+1
		}
		filed <- nil
	}()
	var got []*job.Job
	var last job.Job
	for len(got) < lines {
		page, err := s.BatchEnds(t.Context(), b, last.FinishedAt, last.ID, 1+rand.IntN(200))
		if err != nil {
			t.Fatal(err)
		}
		if len(page) > 0 {
			got, last = append(got, page...), *page[len(page)-1]
			continue
		}
		select {
		case err := <-filed:
			if filed <- err; err != nil || last.ID == ends[lines-1].Job.ID {
				t.Fatalf("%d ends were met, want %d; %v", len(got), lines, err)
			}
		case <-time.After(time.Millisecond):
		}
	}
	if err := <-filed; err != nil {
		t.Fatal(err)
	}
	if len(got) != lines {
		t.Fatalf("%d ends were met, want %d", len(got), lines)
	}
	for i, j := range got {
		if j.ID != ends[i].Job.ID {
			t.Fatalf("number %d is %s, want %s", i, j.ID, ends[i].Job.ID)
		}
	}
}

func TestJobsOfBatch(t *testing.T) {
	s := storetest.Open(t)
	b, other, now := someBatch(), someBatch(), time.Now().UTC().Truncate(time.Microsecond)
	var ends []store.Ended
	for line := 1; line <= 9; line++ {
		ends = append(ends, lineEnded(b, line, 1, now.Add(time.Duration(line)*time.Microsecond)))
	}
	ends = append(ends, lineEnded(b, 4, 2, now.Add(time.Second)), lineEnded(other, 4, 1, now.Add(2*time.Second)))
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: ends}); err != nil {
		t.Fatal(err)
	}
	var lines []int
	before := job.ID("")
	for {
		page, err := s.JobsOfBatch(t.Context(), b, job.Succeeded, before, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page {
			if before != "" && j.ID >= before || j.Batch != b.ID {
				t.Errorf("%s of %s behind %s", j.ID, j.Batch, before)
			}
			lines, before = append(lines, j.Line), j.ID
		}
		if len(page) < 3 {
			break
		}
	}
	if want := []int{9, 8, 7, 6, 5, 4, 4, 3, 2, 1}; !cmp.Equal(lines, want) {
		t.Errorf("lines %v, want %v", lines, want)
	}
	if list, err := s.JobsOfBatch(t.Context(), b, job.Failed, "", 3); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}
