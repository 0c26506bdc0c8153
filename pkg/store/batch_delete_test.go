package store_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
)

// Results of a batch are dropped a page at a time, all of them, also of lines
// that were tried again; the object of another job is not ours to delete.
func TestDropBatchResults(t *testing.T) {
	s := storetest.Open(t)
	b := &batch.Batch{ID: batch.NewID(), Account: "acc_acme", Key: "key", Format: batch.Text, OnError: batch.Skip, Input: "b/acc_acme/x/input"}
	if err := s.InsertBatch(t.Context(), b, time.Hour, []byte("key"), []byte("print")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DropBatch(t.Context(), "acc_acme", b.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("a batch that has not ended: %v", err)
	}
	if _, err := s.DropBatch(t.Context(), "acc_other", b.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account's: %v", err)
	}
	claim, err := s.ClaimBatch(t.Context(), "boot", time.Minute)
	if err != nil || claim == nil {
		t.Fatal(err)
	}
	b.Failure, b.Lines = "it is wrong", "b/acc_acme/x/lines"
	if _, err := s.BatchValidated(t.Context(), "boot", b); err != nil {
		t.Fatal(err)
	}
	if _, err := s.EndBatch(t.Context(), "boot", b.ID, time.Hour, func(*batch.Batch) (json.RawMessage, error) { return json.RawMessage("{}"), nil }); err != nil {
		t.Fatal(err)
	}

	b.Pass = 3
	now := time.Now().UTC().Truncate(time.Millisecond)
	var ends []store.Ended
	var want []string
	for line := 1; line <= 20; line++ {
		for pass := 1; pass <= 1+line%3; pass++ {
			e := lineEnded(b, line, pass, now.Add(time.Duration(line*3+pass)*time.Microsecond))
			if e.Job.Result.Object = "r/acc_acme/" + string(e.Job.ID) + "/7.png"; line == 5 {
				e.Job.Result.Object = "r/acc_acme/" + string(job.NewID()) + "/7.png"
			} else {
				want = append(want, e.Job.Result.Object)
			}
			ends = append(ends, e)
		}
	}
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: ends}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DropBatch(t.Context(), "acc_acme", b.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Batch(t.Context(), "acc_acme", b.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a deleted batch: %v", err)
	}
	if list, err := s.Batches(t.Context(), "acc_acme", "", "", 10); err != nil || len(list) != 0 {
		t.Errorf("deleted, and listed: %v, %v", list, err)
	}
	if _, _, err := s.BatchByKey(t.Context(), "acc_acme", []byte("key")); !fault.Is(err, fault.NotFound) {
		t.Errorf("its Idempotency-Key is not free: %v", err)
	}
	over, err := s.OverBatches(t.Context(), 10)
	if err != nil || len(over) != 1 || !over[0].KeptUntil.Before(over[0].CreatedAt) {
		t.Fatalf("%+v, %v", over, err)
	}
	got := map[string]bool{}
	pages := 0
	for after := 0; ; pages++ {
		objects, last, err := s.DropBatchResults(t.Context(), b, after, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			got[o] = true
		}
		if last != 0 && last <= after {
			t.Fatalf("it stays at line %d", after)
		}
		if after = last; last == 0 {
			break
		}
	}
	if len(got) != len(want) || pages < 5 || slices.ContainsFunc(want, func(o string) bool { return !got[o] }) {
		t.Errorf("%d objects in %d pages, want %d", len(got), pages, len(want))
	}
	for _, e := range ends {
		if j, err := s.Job(t.Context(), e.Job.ID); err != nil || !j.Result.Gone {
			t.Errorf("line %d: %+v, %v", e.Job.Line, j, err)
		}
	}
	if err := s.DeleteBatch(t.Context(), b.ID); err != nil {
		t.Fatal(err)
	}
	if over, err := s.OverBatches(t.Context(), 10); err != nil || len(over) != 0 {
		t.Errorf("%+v, %v", over, err)
	}
}
