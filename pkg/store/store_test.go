package store_test

import (
	"errors"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/fault"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
)

func TestMain(m *testing.M) { os.Exit(storetest.Main(m)) }

func someAccount(t *testing.T, s *store.Store, name string) (account.Account, account.Key, string) {
	t.Helper()
	a := account.Account{ID: "acc_" + name, Name: name, Plan: "default"}
	k, text := account.NewKey(a.ID, "first")
	if err := s.CreateAccount(t.Context(), a, k); err != nil {
		t.Fatal(err)
	}
	return a, k, text
}

func TestAccountsAndKeys(t *testing.T) {
	s := storetest.Open(t)
	a, k, text := someAccount(t, s, "acme")

	other, otherKey, _ := someAccount(t, s, "zeta")
	err := s.CreateAccount(t.Context(), account.Account{ID: "acc_2", Name: "acme", Plan: "default"}, otherKey)
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("a second account of the same name: %v, want a conflict", err)
	}
	list, err := s.Accounts(t.Context(), "", 10)
	if err != nil || len(list) != 2 || list[0].Name != "acme" || list[1].ID != other.ID {
		t.Errorf("accounts: %v, %v", list, err)
	}
	scoped, _ := account.NewKey(a.ID, "scoped")
	scoped.Scopes, scoped.ExpiresAt = []account.Scope{account.ScopeRead}, time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	older, _ := account.NewKey(a.ID, "of an older release")
	older.SigningSecret = ""
	for _, further := range []account.Key{scoped, older} {
		if err := s.CreateKey(t.Context(), further); err != nil {
			t.Fatal(err)
		}
		got, _, err := s.Key(t.Context(), further.ID)
		if further.Scopes == nil {
			further.Scopes = []account.Scope{}
		}
		further.CreatedAt = got.CreatedAt
		if err != nil || !reflect.DeepEqual(got, further) {
			t.Errorf("%+v, %v; want %+v", got, err, further)
		}
	}
	if list, err := s.Keys(t.Context(), a.ID); err != nil || len(list) != 3 || list[1].SigningSecret != scoped.SigningSecret {
		t.Errorf("keys: %+v, %v", list, err)
	}
	got, gotAccount, err := s.Key(t.Context(), k.ID)
	if err != nil || !got.Matches(text) || got.Matches(text+"x") || gotAccount.ID != a.ID {
		t.Errorf("key: %+v of %+v, %v", got, gotAccount, err)
	}
	if err := s.RevokeKey(t.Context(), other.ID, k.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("revoking another account's key: %v, want not found", err)
	}
	for range 2 { // the second time changes nothing
		if err := s.RevokeKey(t.Context(), a.ID, k.ID); err != nil {
			t.Error(err)
		}
	}
	if got, _, _ = s.Key(t.Context(), k.ID); got.Live(time.Now()) {
		t.Error("a revoked key is live")
	}
	if _, err := s.Account(t.Context(), "acc_none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("an account that is not there: %v", err)
	}
}

func TestUpdateAccount(t *testing.T) {
	s := storetest.Open(t)
	a, k, _ := someAccount(t, s, "acme")
	before, err := s.Account(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	plan, yes, no, day := "gold", true, false, 31
	for _, step := range []struct {
		to   account.Update
		want func(*account.Account)
	}{
		{account.Update{}, func(*account.Account) {}},
		{account.Update{Plan: &plan}, func(a *account.Account) { a.Plan = plan }},
		{account.Update{Suspended: &yes, BillingDay: &day}, func(a *account.Account) { a.Suspended, a.BillingDay = true, 31 }},
		{account.Update{Suspended: &no}, func(a *account.Account) { a.Suspended = false }},
	} {
		step.want(&before)
		got, err := s.UpdateAccount(t.Context(), a.ID, step.to)
		if err != nil || got != before {
			t.Errorf("%+v, %v; want %+v", got, err, before)
		}
		if _, read, err := s.Key(t.Context(), k.ID); err != nil || read != before {
			t.Errorf("its key finds %+v, %v; want %+v", read, err, before)
		}
	}
	if _, err := s.UpdateAccount(t.Context(), "acc_none", account.Update{Plan: &plan}); !fault.Is(err, fault.NotFound) {
		t.Errorf("an account that is not there: %v", err)
	}
}

func succeeded(id job.ID, at time.Time) store.Ended {
	yes := true
	return store.Ended{
		Units: 120, Period: time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC),
		Job: &job.Job{
			ID: id, Account: "acc_acme", State: job.Succeeded, CreatedAt: at, StartedAt: at, FinishedAt: at, ExpiresAt: at.Add(time.Hour),
			Attempts: 1, Billable: &yes, CustomID: "c-1", Metadata: map[string]string{"a": "b"}, Options: []byte(`{"url":"http://e/"}`),
			Result: &job.Result{
				Object: "r/x", ContentType: "image/png", Width: 10, Height: 20, SizeBytes: 5,
				SHA256: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
			},
			Timings: &job.Timings{TotalMS: 7}, Evidence: &job.Evidence{Title: "t", StatusCode: 200},
		},
	}
}

func usage(t *testing.T, s *store.Store, period time.Time) (events int, sum, month int64) {
	t.Helper()
	events, sum, month, err := s.Audit(t.Context(), "acc_acme", period)
	if err != nil {
		t.Fatal(err)
	}
	return events, sum, month
}

func TestProjectOnce(t *testing.T) {
	s := storetest.Open(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	e := succeeded(job.NewID(), now)
	zero, one, two := store.Projection{}, store.Projection{Seq: 7, Chain: 0xdeadbeef}, store.Projection{Seq: 9, Chain: 1}

	if _, err := s.Project(t.Context(), zero, one, store.Filing{Ends: []store.Ended{e}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Project(t.Context(), zero, one, store.Filing{Ends: []store.Ended{e}}); !errors.Is(err, store.ErrOvertaken) {
		t.Errorf("the same offset twice: %v, want ErrOvertaken", err)
	}
	// The same end again under a later offset changes neither row nor bill.
	if _, err := s.Project(t.Context(), one, two, store.Filing{Ends: []store.Ended{e}}); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Projection(t.Context()); err != nil || p != two {
		t.Errorf("projection %v, %v; want %v", p, err, two)
	}
	if events, sum, month := usage(t, s, e.Period); events != 1 || sum != 120 || month != 120 {
		t.Errorf("%d events of %d units, month %d; want one of 120", events, sum, month)
	}
	got, err := s.Job(t.Context(), e.Job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e.Job, got); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	list, err := s.Jobs(t.Context(), "acc_acme", job.Succeeded, "", 5)
	if err != nil || len(list) != 1 || list[0].ID != e.Job.ID {
		t.Errorf("list: %v, %v", list, err)
	}
	if list, err = s.Jobs(t.Context(), "acc_other", "", "", 5); err != nil || len(list) != 0 {
		t.Errorf("another account sees %v, %v", list, err)
	}
}

func TestUsageByDay(t *testing.T) {
	s := storetest.Open(t)
	var ends []store.Ended
	for _, at := range []string{
		"2026-11-01T00:00:00Z", "2026-11-01T23:59:59.999Z", "2026-11-02T00:00:00Z",
		"2026-12-01T00:00:01Z", // ended after the month it was accepted in
	} {
		moment, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		e := succeeded(job.NewID(), moment)
		e.Period = november
		ends = append(ends, e)
	}
	free, other := succeeded(job.NewID(), november), succeeded(job.NewID(), november)
	free.Units, other.Job.Account = 0, "acc_other"
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: append(ends, free, other)}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Usage(t.Context(), "acc_acme", november)
	want := []account.UsageDay{
		{Day: november, Units: 240, Renders: 2, Succeeded: 3},
		{Day: november.AddDate(0, 0, 1), Units: 120, Renders: 1, Succeeded: 1},
		{Day: november.AddDate(0, 1, 0), Units: 120, Renders: 1, Succeeded: 1},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, usage (-want +got):\n%s", err, diff)
	}
	if events, sum, month := usage(t, s, november); events != 4 || sum != 480 || month != 480 {
		t.Errorf("%d events of %d units, month %d; want what the days sum up to", events, sum, month)
	}
	if got, err := s.Usage(t.Context(), "acc_acme", november.AddDate(0, 1, 0)); err != nil || len(got) != 0 {
		t.Errorf("the next month: %v, %v", got, err)
	}
}

// Days and months are sums of the same charges, whatever comes twice; where a
// release that knew no days filed some of it, the charges are read.
func TestUsageIsTheSumOfItsCharges(t *testing.T) {
	url := storetest.URL(t)
	s := storetest.Connect(t, url)
	at, n := store.Projection{}, 0
	for batch := range 5 {
		var ends []store.Ended
		for i := range 40 {
			e := succeeded(job.NewID(), november.AddDate(0, 0, (batch+i)%9))
			e.Units = int64(1 + i)
			ends = append(ends, e)
		}
		n += len(ends)
		for range 2 { // as after a commit that was not heard
			next := store.Projection{Seq: at.Seq + 1}
			if _, err := s.Project(t.Context(), at, next, store.Filing{Ends: ends}); err != nil {
				t.Fatal(err)
			}
			at = next
		}
	}
	equal := func(what string) {
		t.Helper()
		days, err := s.Usage(t.Context(), "acc_acme", november)
		if err != nil {
			t.Fatal(err)
		}
		var units int64
		renders := 0
		for i, d := range days {
			units, renders = units+d.Units, renders+d.Renders
			if i > 0 && !days[i-1].Day.Before(d.Day) {
				t.Errorf("%s: days are not in order: %v", what, days)
			}
		}
		if events, sum, month := usage(t, s, november); len(days) != 9 || units != sum || units != month || renders != events || events != n {
			t.Errorf("%s: %d days of %d units and %d renders; %d events of %d units, month %d; want %d events", what, len(days), units, renders, events, sum, month, n)
		}
	}
	equal("by days")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "UPDATE usage_day SET units = units - 1, renders = renders - 1 WHERE day = '2026-11-03'"); err != nil {
		t.Fatal(err)
	}
	equal("by charges")
}

func TestJobByKey(t *testing.T) {
	s := storetest.Open(t)
	now := time.Now().UTC().Truncate(time.Millisecond)
	// Keys are looked for on all days that are kept.
	keyed, older, without := succeeded(job.NewID(), now), succeeded(job.FromUUID(uuid.MustParse("01900000-0000-7000-8000-000000000001")), now), succeeded(job.NewID(), now)
	keyed.KeyHash, keyed.Fingerprint = []byte("hash"), []byte("print")
	older.KeyHash, older.Fingerprint = []byte("old"), []byte("p")
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{keyed, older, without}}); err != nil {
		t.Fatal(err)
	}
	got, fingerprint, err := s.JobByKey(t.Context(), "acc_acme", []byte("hash"))
	if err != nil || string(fingerprint) != "print" {
		t.Fatalf("%q, %v", fingerprint, err)
	}
	if diff := cmp.Diff(keyed.Job, got); diff != "" {
		t.Errorf("job (-want +got):\n%s", diff)
	}
	if got, _, err := s.JobByKey(t.Context(), "acc_acme", []byte("old")); err != nil || got.ID != older.Job.ID {
		t.Errorf("%+v, %v", got, err)
	}
	for _, tc := range []struct{ account, hash string }{{"acc_acme", "other"}, {"acc_other", "hash"}, {"acc_acme", ""}} {
		if got, _, err := s.JobByKey(t.Context(), tc.account, []byte(tc.hash)); !fault.Is(err, fault.NotFound) {
			t.Errorf("%+v: %+v, %v; want not found", tc, got, err)
		}
	}
}

func TestRefusedRowKeepsItsMoney(t *testing.T) {
	s := storetest.Open(t)
	now := time.Now().UTC()
	poison, sound := succeeded(job.NewID(), now), succeeded(job.NewID(), now)
	poison.Job.CustomID = "a\x00b" // text refuses U+0000
	failed := succeeded(job.NewID(), now)
	failed.Units, failed.Job.State, failed.Job.Result, failed.Job.Billable = 0, job.Failed, nil, new(bool)
	failed.Job.Failure = job.Fail(job.Internal, "a\x00b", "c\x00d")
	stripped, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{poison, failed, sound}})
	if err != nil || stripped != 2 {
		t.Fatalf("stripped %d, %v; want 2", stripped, err)
	}
	if events, sum, month := usage(t, s, sound.Period); events != 2 || sum != 240 || month != 240 {
		t.Errorf("%d events of %d units, month %d; want both billed", events, sum, month)
	}
	got, err := s.Job(t.Context(), poison.Job.ID)
	if err != nil || got.CustomID != "" || got.Evidence != nil || got.Result == nil {
		t.Errorf("the poison row: %+v, %v; want its result and none of its text", got, err)
	}
	if got, err = s.Job(t.Context(), sound.Job.ID); err != nil || got.Evidence == nil {
		t.Errorf("the sound row lost its evidence: %+v, %v", got, err)
	}
}

// A row that no form of is taken is left out; its charge and all others stay.
func TestRowRefusedInEveryForm(t *testing.T) {
	s := storetest.Open(t)
	now := time.Now().UTC()
	odd, impossible, sound := succeeded(job.NewID(), now), succeeded(job.NewID(), now), succeeded(job.NewID(), now)
	odd.Job.Result.ContentType = "image/\x00png\xff"
	impossible.Job.State = "asleep"
	n, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{odd, impossible, sound}})
	if err != nil || n != 2 {
		t.Fatalf("stripped %d, %v; want 2", n, err)
	}
	if events, sum, month := usage(t, s, sound.Period); events != 3 || sum != 360 || month != 360 {
		t.Errorf("%d events of %d units, month %d; want all three billed", events, sum, month)
	}
	if got, err := s.Job(t.Context(), odd.Job.ID); err != nil || got.Result.ContentType != "image/png" {
		t.Errorf("text that no column takes: %+v, %v", got, err)
	}
	if _, err := s.Job(t.Context(), impossible.Job.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("a state that there is not: %v", err)
	}
	if got, err := s.Job(t.Context(), sound.Job.ID); err != nil || got.Evidence == nil {
		t.Errorf("the sound row: %+v, %v", got, err)
	}
	if p, err := s.Projection(t.Context()); err != nil || p.Seq != 1 {
		t.Errorf("projection %v, %v", p, err)
	}
}

func TestOptionsMayHoldNUL(t *testing.T) {
	s := storetest.Open(t)
	e := succeeded(job.NewID(), time.Now().UTC())
	e.Job.Options = []byte(`{"html":"a\u0000b"}`)
	if n, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{e}}); err != nil || n != 0 {
		t.Fatalf("stripped %d, %v", n, err)
	}
	got, err := s.Job(t.Context(), e.Job.ID)
	if err != nil || string(got.Options) != string(e.Job.Options) {
		t.Errorf("options %s, %v", got.Options, err)
	}
}

func TestDropResult(t *testing.T) {
	s := storetest.Open(t)
	e := succeeded(job.NewID(), time.Now().UTC())
	if _, err := s.DropResult(t.Context(), e.Job.Account, e.Job.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("dropping what is not there: %v", err)
	}
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{e}}); err != nil {
		t.Fatal(err)
	}
	if object, err := s.DropResult(t.Context(), "acc_other", e.Job.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another account dropped %q, %v", object, err)
	}
	if got, err := s.Job(t.Context(), e.Job.ID); err != nil || got.Result.Gone {
		t.Errorf("after another account's try: %+v, %v", got, err)
	}
	for range 2 {
		if object, err := s.DropResult(t.Context(), e.Job.Account, e.Job.ID); err != nil || object != "r/x" {
			t.Errorf("dropped %q, %v", object, err)
		}
	}
	if got, err := s.Job(t.Context(), e.Job.ID); err != nil || !got.Result.Gone {
		t.Errorf("%+v, %v; want a result that is gone", got, err)
	}
}
