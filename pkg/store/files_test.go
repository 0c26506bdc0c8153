package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/store/storetest"
)

func TestFiles(t *testing.T) {
	s := storetest.Open(t)
	insert := func(account string, size int64, life time.Duration) (*batch.File, error) {
		id := batch.NewFileID()
		f := &batch.File{ID: id, Account: account, Name: "pages.csv", Object: "f/" + account + "/" + id, SizeBytes: size, SHA256: []byte("sum")}
		return f, s.InsertFile(t.Context(), f, life)
	}
	var all []*batch.File
	for range 3 {
		f, err := insert("acc_1", 3<<30, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		all = append([]*batch.File{f}, all...)
	}
	if _, err := insert("acc_1", 2<<30, time.Hour); !fault.Is(err, fault.TooLarge) {
		t.Errorf("too much together: %v", err)
	}
	expired, err := insert("acc_1", 1, -time.Second)
	if err != nil {
		t.Error(err)
	}
	if _, err := s.File(t.Context(), "acc_1", expired.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("expired: %v", err)
	}
	if _, err := insert("acc_2", 2<<30, time.Hour); err != nil {
		t.Errorf("another account: %v", err)
	}
	got, err := s.Files(t.Context(), "acc_1", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, err = s.Files(t.Context(), "acc_1", all[0].ID, 1); err != nil || len(got) != 1 || got[0].ID != all[1].ID {
		t.Errorf("second page: %v, %v", got, err)
	}
	if one, err := s.File(t.Context(), "acc_1", all[1].ID); err != nil || !cmp.Equal(one, all[1]) {
		t.Errorf("%+v, %v", one, err)
	}

	// What is being read stays.
	b := &batch.Batch{ID: batch.NewID(), Account: "acc_1", Format: batch.CSV, OnError: batch.Skip, File: all[0].ID, Input: all[0].Object}
	if err := s.InsertBatch(t.Context(), b, time.Hour, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteFile(t.Context(), "acc_1", all[0].ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("being read: %v", err)
	}
	if object, err := s.DeleteFile(t.Context(), "acc_1", all[1].ID); err != nil || object != all[1].Object {
		t.Errorf("%q, %v", object, err)
	}
	for account, id := range map[string]string{"acc_1": all[1].ID, "acc_2": all[2].ID} {
		if _, err := s.DeleteFile(t.Context(), account, id); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", id, err)
		}
		if _, err := s.File(t.Context(), account, id); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v", id, err)
		}
	}
}
