package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/batch"
	"github.com/tintype/tintype/pkg/store/storetest"
)

// Batches that go on, and those that ended not long ago, of one account.
func TestRecentBatches(t *testing.T) {
	url := storetest.URL(t)
	s := storetest.Connect(t, url)
	insert := func(account string) string {
		t.Helper()
		b := &batch.Batch{ID: batch.NewID(), Account: account, Format: batch.JSONL, OnError: batch.Skip, Input: "x", Metadata: map[string]string{}}
		if err := s.InsertBatch(t.Context(), b, time.Hour, nil, nil); err != nil {
			t.Fatal(err)
		}
		return b.ID
	}
	open, fresh, old, foreign := insert("acc_1"), insert("acc_1"), insert("acc_1"), insert("acc_2")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for id, ago := range map[string]string{fresh: "1 minute", old: "3 minutes", foreign: "1 minute"} {
		if _, err := conn.Exec(t.Context(), "UPDATE batches SET state = 'completed', finished_at = now() - $2::interval WHERE id = $1", id, ago); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.RecentBatches(t.Context(), "acc_1", 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range list {
		got = append(got, b.ID)
	}
	if diff := cmp.Diff([]string{fresh, open}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
