package store_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store/storetest"
)

func TestInsertBatch(t *testing.T) {
	s := storetest.Open(t)
	b := &batch.Batch{
		ID: batch.NewID(), Account: "acc_1", Key: "k1", Address: "203.0.113.7", Format: batch.CSV, Gzip: true, OnError: batch.Skip,
		Defaults: json.RawMessage(`{"width": 800}`), Sealed: []byte("sealed"), Webhook: &job.Webhook{URL: "https://example.com/", Events: []string{"job.failed"}},
		LineEvents: true, CustomID: "mine", Metadata: map[string]string{"a": "b"}, File: "file_1", Input: "f/acc_1/file_1", InputBytes: 17,
	}
	hash, fingerprint := []byte("hash"), []byte("print")
	if err := s.InsertBatch(t.Context(), b, 7*24*time.Hour, hash, fingerprint); err != nil {
		t.Fatal(err)
	}
	if b.State != batch.Validating || b.Pass != 1 || b.CreatedAt.Nanosecond()%int(time.Millisecond) != 0 || time.Since(b.CreatedAt).Abs() > time.Minute {
		t.Errorf("%+v", b)
	}
	if life := b.ExpiresAt.Sub(b.CreatedAt).Round(time.Hour); life != 7*24*time.Hour {
		t.Errorf("lives for %s", life)
	}
	got, err := s.Batch(t.Context(), "acc_1", b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b, got); diff != "" {
		t.Errorf("-inserted +found:\n%s", diff)
	}
	got, print, err := s.BatchByKey(t.Context(), "acc_1", hash)
	if err != nil || got.ID != b.ID || string(print) != "print" {
		t.Errorf("%v, %q, %v", got, print, err)
	}
	for what, find := range map[string]func() error{
		"another account's":        func() error { _, err := s.Batch(t.Context(), "acc_2", b.ID); return err },
		"an unknown one":           func() error { _, err := s.Batch(t.Context(), "acc_1", batch.NewID()); return err },
		"another account's by key": func() error { _, _, err := s.BatchByKey(t.Context(), "acc_2", hash); return err },
	} {
		if err := find(); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	second := *b
	second.ID = batch.NewID()
	if err := s.InsertBatch(t.Context(), &second, time.Hour, hash, fingerprint); !fault.Is(err, fault.Conflict) {
		t.Errorf("the key twice: %v", err)
	}
	if err := s.InsertBatch(t.Context(), b, time.Hour, nil, nil); !fault.Is(err, fault.Conflict) {
		t.Errorf("the id twice: %v", err)
	}
}

func TestUnfinishedBatchesAreBounded(t *testing.T) {
	s := storetest.Open(t)
	insert := func(account string) error {
		b := &batch.Batch{ID: batch.NewID(), Account: account, Format: batch.Text, OnError: batch.Reject, Input: "b/x"}
		return s.InsertBatch(t.Context(), b, time.Hour, nil, nil)
	}
	for n := range 100 {
		if err := insert("acc_1"); err != nil {
			t.Fatalf("batch %s: %v", strconv.Itoa(n+1), err)
		}
	}
	if f := fault.From(insert("acc_1")); f == nil || f.Kind != fault.ThreadsFull || f.Code != "backlog_full" || f.Wait() == 0 {
		t.Errorf("batch 101: %v", f)
	}
	if err := insert("acc_2"); err != nil {
		t.Errorf("another account's: %v", err)
	}
}
