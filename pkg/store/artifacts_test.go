package store_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
)

func cacheKey(fill byte) []byte { return bytes.Repeat([]byte{fill}, 32) }

// keeping is an end of acme's whose result is kept for an hour.
func keeping(fill byte, minutesAgo int) store.Ended {
	e := ended(0, time.Now().Add(24*time.Hour).UTC().Truncate(time.Millisecond))
	e.Job.ID = job.NewID()
	e.Job.Result.Object = "r/acc_acme/" + string(e.Job.ID) + "/1.png"
	e.Job.FinishedAt = e.Job.FinishedAt.Add(-time.Duration(minutesAgo) * time.Minute)
	e.CacheKey, e.FreshUntil = cacheKey(fill), e.Job.FinishedAt.Add(time.Hour)
	return e
}

func TestArtifact(t *testing.T) {
	s := storetest.Open(t)
	seq := uint64(0)
	project := func(ends ...store.Ended) {
		t.Helper()
		if _, err := s.Project(t.Context(), store.Projection{Seq: seq}, store.Projection{Seq: seq + 1}, store.Filing{Ends: ends}); err != nil {
			t.Fatal(err)
		}
		seq++
	}
	want := func(what string, fill byte, e *store.Ended) {
		t.Helper()
		got, err := s.Artifact(t.Context(), "acc_acme", cacheKey(fill))
		if e == nil {
			if !fault.Is(err, fault.NotFound) {
				t.Errorf("%s: %+v, %v; want none", what, got, err)
			}
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got.MadeAt, got.FreshUntil, got.ExpiresAt = got.MadeAt.UTC(), got.FreshUntil.UTC(), got.ExpiresAt.UTC()
		a := &job.Artifact{
			Job: e.Job.ID, Result: e.Job.Result, Evidence: e.Job.Evidence,
			MadeAt: e.Job.FinishedAt, FreshUntil: e.FreshUntil, ExpiresAt: e.Job.ExpiresAt,
		}
		if diff := cmp.Diff(a, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	want("before anything was made", 1, nil)
	first, second, other := keeping(1, 30), keeping(1, 20), keeping(2, 10)
	project(first, second, other) // two of one key in one statement
	want("the last of two", 1, &second)
	want("another key", 2, &other)
	older := keeping(1, 25)
	project(older)
	want("one that ended before it and is filed after it", 1, &second)
	if _, err := s.Artifact(t.Context(), "acc_other", cacheKey(1)); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account: %v", err)
	}

	// The deletion of another job's result changes nothing, that of its own ends it.
	if _, err := s.DropResult(t.Context(), older.Job.Account, older.Job.ID); err != nil {
		t.Fatal(err)
	}
	want("after the result of another job was deleted", 1, &second)
	if _, err := s.DropResult(t.Context(), second.Job.Account, second.Job.ID); err != nil {
		t.Fatal(err)
	}
	want("after its result was deleted", 1, nil)

	// It never outlives its job.
	short := keeping(3, 0)
	short.FreshUntil = short.Job.ExpiresAt.Add(time.Hour)
	project(short)
	short.FreshUntil = short.Job.ExpiresAt
	want("a time to live beyond the retention", 3, &short)
	over := keeping(4, 30)
	over.Job.ExpiresAt = time.Now().Add(-time.Second)
	project(over)
	want("after the retention", 4, nil)
}

func TestDeleteArtifacts(t *testing.T) {
	s := storetest.Open(t)
	fresh, stale, old, over := keeping(1, 0), keeping(2, 70), keeping(3, 120), keeping(4, 70)
	over.Job.ExpiresAt = time.Now().Add(-time.Second)
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{fresh, stale, old, over}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 1, 0} {
		if n, err := s.DeleteArtifacts(t.Context(), 30*time.Minute, 1); err != nil || n != want {
			t.Errorf("deleted %d, %v; want %d", n, err, want)
		}
	}
	for fill, there := range map[byte]bool{1: true, 2: true, 3: false, 4: false} {
		if _, err := s.Artifact(t.Context(), "acc_acme", cacheKey(fill)); fault.Is(err, fault.NotFound) == there {
			t.Errorf("key %d: %v", fill, err)
		}
	}
}
