package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
)

// ended is an end of acme's on the day that was so many days ago, kept until
// expires.
func ended(daysAgo int, expires time.Time) store.Ended {
	at := time.Now().UTC().AddDate(0, 0, -daysAgo).Truncate(time.Millisecond)
	e := succeeded(job.FirstID(at), at)
	e.Job.ExpiresAt, e.Job.Result.Object = expires, "r/acc_acme/"+string(e.Job.ID)+"/1.png"
	return e
}

func today(daysAgo int) time.Time {
	return time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -daysAgo)
}

func TestRetained(t *testing.T) {
	s := storetest.Open(t)
	someAccount(t, s, "acme")
	past, future := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	live, over, deleted, failed := ended(0, future), ended(40, past), ended(3, future), ended(2, past)
	for i, e := range []*store.Ended{&live, &over, &deleted} {
		e.CacheKey, e.FreshUntil = cacheKey(byte(i)), future
	}
	failed.Job.State, failed.Job.Result, failed.Job.Failure = job.Failed, nil, job.Fail(job.TLSError, job.StageNavigate, "no")
	failed.Job.Billable, failed.Units = new(bool), 0
	ends := []store.Ended{live, over, deleted, failed}
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 7}, store.Filing{Ends: ends}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DropResult(t.Context(), deleted.Job.Account, deleted.Job.ID); err != nil {
		t.Fatal(err)
	}
	ids := []job.ID{job.NewID()}
	for _, e := range ends {
		ids = append(ids, e.Job.ID)
	}
	got, err := s.Retained(t.Context(), ids, []string{"acc_acme", "acc_nobody"})
	if err != nil {
		t.Fatal(err)
	}
	want := store.Retained{At: got.At, Seq: 7, Accounts: map[string]bool{"acc_acme": true}, Shared: map[string]bool{live.Job.Result.Object: true}, Jobs: map[job.ID]store.Kept{
		live.Job.ID:    {Object: live.Job.Result.Object},
		over.Job.ID:    {Object: over.Job.Result.Object, Over: true},
		deleted.Job.ID: {Object: deleted.Job.Result.Object, Over: true},
		failed.Job.ID:  {Over: true},
	}}
	if diff := cmp.Diff(want, got); diff != "" || time.Since(got.At).Abs() > time.Minute {
		t.Errorf("at %s (-want +got):\n%s", got.At, diff)
	}
	if _, err := s.Retained(t.Context(), nil, nil); err != nil {
		t.Errorf("nothing asked: %v", err)
	}
}

// What has ended is not listed any more, and its key is free again.
func TestOverIsNotListed(t *testing.T) {
	s := storetest.Open(t)
	live, over := ended(0, time.Now().Add(time.Hour)), ended(31, time.Now().Add(-time.Second))
	live.KeyHash, over.KeyHash = []byte("live"), []byte("over")
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{live, over}}); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Jobs(t.Context(), "acc_acme", "", "", 10); err != nil || len(list) != 1 || list[0].ID != live.Job.ID {
		t.Errorf("%v, %v", list, err)
	}
	if _, _, err := s.JobByKey(t.Context(), "acc_acme", []byte("live")); err != nil {
		t.Error(err)
	}
	if _, _, err := s.JobByKey(t.Context(), "acc_acme", []byte("over")); !fault.Is(err, fault.NotFound) {
		t.Errorf("the key of a job that is over: %v", err)
	}
}

func TestWalk(t *testing.T) {
	s := storetest.Open(t)
	want := func(after string, due bool, every time.Duration) {
		t.Helper()
		if gotAfter, gotDue, err := s.Walk(t.Context(), every); err != nil || gotAfter != after || gotDue != due {
			t.Errorf("walk at %q, due %t, %v; want %q and %t", gotAfter, gotDue, err, after, due)
		}
	}
	want("", true, time.Hour) // never walked
	for _, to := range []string{"r/a", "r/b"} {
		if err := s.Walked(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		want(to, true, time.Hour)
	}
	if err := s.Walked(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	want("", false, time.Hour)
	want("", true, 0)
}

func TestDays(t *testing.T) {
	s := storetest.Open(t)
	past, future := time.Now().Add(-72*time.Hour), time.Now().Add(time.Hour)
	live, mixed, over, yesterday := ended(5, future), ended(40, past), ended(50, past), ended(1, past)
	longer := ended(40, future)
	longer.Job.ID = job.FirstID(mixed.Job.ID.Time().Truncate(24 * time.Hour))
	ends := []store.Ended{live, mixed, longer, over, yesterday}
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: ends}); err != nil {
		t.Fatal(err)
	}
	if err := s.MakeDays(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	days, err := s.Days(t.Context())
	if want := []time.Time{today(50), today(40), today(5), today(1), today(0), today(-1), today(-2)}; err != nil || !slices.Equal(days, want) {
		t.Fatalf("days %v, %v; want %v", days, err, want)
	}
	for _, d := range days {
		if got, err := s.DayOver(t.Context(), d); err != nil || got != d.Equal(today(50)) {
			t.Errorf("%s is over: %t, %v", d, got, err)
		}
	}
	if err := s.DropDay(t.Context(), today(50)); err != nil {
		t.Fatal(err)
	}
	if err := s.DropDay(t.Context(), today(50)); err != nil {
		t.Errorf("again: %v", err)
	}
	if _, err := s.Job(t.Context(), over.Job.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("of a day that was dropped: %v", err)
	}
	// A row of it that comes now all the same finds its partition made anew.
	if _, err := s.Project(t.Context(), store.Projection{Seq: 1}, store.Projection{Seq: 2}, store.Filing{Ends: []store.Ended{over}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Job(t.Context(), over.Job.ID); err != nil {
		t.Error(err)
	}

	for i, want := range []int{1, 0} { // the one that is over, and not the one beside it
		if n, err := s.DeleteExpired(t.Context(), today(40), 48*time.Hour, 10); err != nil || n != want {
			t.Errorf("round %d deleted %d rows, %v; want %d", i, n, err, want)
		}
	}
	if _, err := s.Job(t.Context(), longer.Job.ID); err != nil {
		t.Error(err)
	}
	if n, err := s.DeleteExpired(t.Context(), today(1), 100*time.Hour, 10); err != nil || n != 0 {
		t.Errorf("deleted %d rows that are not over for so long, %v", n, err)
	}
}

// Another process dropped a day that this one has filed under: its cache of
// partitions is wrong, and no row is taken for a poisoned one.
func TestDayDroppedElsewhere(t *testing.T) {
	url := storetest.URL(t)
	here, there := storetest.Connect(t, url), storetest.Connect(t, url)
	first, second := ended(40, time.Now().Add(-time.Hour)), ended(40, time.Now().Add(time.Hour))
	second.Job.ID = job.FirstID(first.Job.ID.Time().Add(-time.Millisecond))
	if _, err := here.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{first}}); err != nil {
		t.Fatal(err)
	}
	if err := there.DropDay(t.Context(), first.Job.ID.Time().Truncate(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if n, err := here.Project(t.Context(), store.Projection{Seq: 1}, store.Projection{Seq: 2}, store.Filing{Ends: []store.Ended{second}}); err != nil || n != 0 {
		t.Fatalf("stripped %d, %v", n, err)
	}
	if j, err := here.Job(t.Context(), second.Job.ID); err != nil || j.Evidence == nil {
		t.Errorf("%+v, %v", j, err)
	}
}
