package store_test

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
)

var november = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// shelf files one filing after another.
type shelf struct {
	*store.Store
	t  *testing.T
	at store.Projection
}

func newShelf(t *testing.T) *shelf { return &shelf{Store: storetest.Open(t), t: t} }

func (s *shelf) file(f store.Filing) {
	s.t.Helper()
	next := store.Projection{Seq: s.at.Seq + 1}
	if _, err := s.Project(s.t.Context(), s.at, next, f); err != nil {
		s.t.Fatal(err)
	}
	s.at = next
}

// want compares the sums, which are equal whatever was filed (I7).
func (s *shelf) want(when string, events int, units int64) {
	s.t.Helper()
	days, err := s.Usage(s.t.Context(), "acc_acme", november)
	if err != nil {
		s.t.Fatal(err)
	}
	var sum int64
	for _, d := range days {
		sum += d.Units
	}
	n, all, month := usage(s.t, s.Store, november)
	if n != events || all != units || month != units || sum != units {
		s.t.Errorf("%s: %d events of %d units, month %d, days %d; want %d of %d", when, n, all, month, sum, events, units)
	}
}

// A give-back takes what the job's own charge says, once, and nothing where
// there is no charge.
func TestGiveBack(t *testing.T) {
	s := newShelf(t)
	at := november.AddDate(0, 0, 20)
	e, free := succeeded(job.NewID(), at), succeeded(job.NewID(), at)
	e.Units, free.Units = 240, 0
	later := at.AddDate(0, 1, 0) // in the next period: the money goes back to the job's own
	lost := func(e store.Ended, owner string) store.Charge {
		return store.Charge{ID: "lost_" + string(e.Job.ID), Account: owner, Period: later, Units: -7, Reason: "lost", Count: 1, Happened: later}
	}
	s.file(store.Filing{Charges: []store.Charge{lost(e, "acc_acme")}})
	s.want("before the charge is there", 0, 0)
	s.file(store.Filing{Ends: []store.Ended{e, free}})
	s.file(store.Filing{Charges: []store.Charge{lost(e, "acc_other"), lost(free, "acc_acme")}})
	s.want("given back to a stranger, and what was free", 1, 240)
	if paid, err := s.JobCharge(t.Context(), "acc_acme", e.Job.ID); err != nil || paid.Units != 240 || !paid.Period.Equal(november) || paid.GivenBack {
		t.Errorf("the job is said to cost %+v, %v", paid, err)
	}
	for range 2 {
		s.file(store.Filing{Charges: []store.Charge{lost(e, "acc_acme"), lost(e, "acc_acme")}})
		s.want("given back", 2, 0)
	}
	if paid, err := s.JobCharge(t.Context(), "acc_acme", e.Job.ID); err != nil || !paid.GivenBack {
		t.Errorf("given back, it is said to cost %+v, %v", paid, err)
	}
	for _, none := range []store.Ended{e, free} {
		if paid, err := s.JobCharge(t.Context(), "acc_other", none.Job.ID); err != nil || paid != (account.JobCharge{}) {
			t.Errorf("to a stranger it is said to cost %+v, %v", paid, err)
		}
	}
	both := succeeded(job.NewID(), at)
	s.file(store.Filing{Ends: []store.Ended{both}, Charges: []store.Charge{lost(both, "acc_acme")}})
	s.want("charged and given back at once", 4, 0)
}

func TestChargesOfCalls(t *testing.T) {
	s := newShelf(t)
	at := november.AddDate(0, 0, 3).Add(time.Hour)
	calls := []store.Charge{
		{ID: "chg_1", Account: "acc_acme", Period: november, Units: 1200, Reason: "call", Count: 10, Happened: at},
		{ID: "chg_2", Account: "acc_acme", Period: november, Units: -240, Reason: "call", Count: 2, Happened: at},
		{ID: "chg_3", Account: "acc_acme", Period: november, Units: 19, Reason: "download", Count: 3, Happened: at},
		{ID: "chg_4", Account: "acc_acme", Period: november, Units: 0, Reason: "call", Count: 1, Happened: at},
		{ID: "chg_5", Account: "acc_other", Period: november, Units: 120, Reason: "call", Count: 1, Happened: at},
	}
	for range 2 {
		s.file(store.Filing{Charges: calls})
		s.want("calls", 3, 979)
	}
	days, err := s.Usage(t.Context(), "acc_acme", november)
	if diff := cmp.Diff([]account.UsageDay{{Day: november.AddDate(0, 0, 3), Units: 979, Calls: 8}}, days); diff != "" || err != nil {
		t.Errorf("%v, days (-want +got):\n%s", err, diff)
	}
}

// Outcomes are counted once, whatever way the rows go in, also where nothing is
// charged.
func TestOutcomes(t *testing.T) {
	s := newShelf(t)
	at := november.AddDate(0, 0, 4)
	end := func(state job.State) store.Ended {
		e := succeeded(job.NewID(), at)
		e.Units = 0
		if e.Job.State = state; state != job.Succeeded {
			e.Job.Result, e.Job.Billable = nil, new(bool)
		}
		if state == job.Failed {
			e.Job.Failure = job.Fail(job.Internal, "", "no")
		}
		return e
	}
	cached := end(job.Succeeded)
	cached.Job.Cached = true
	ends := []store.Ended{end(job.Succeeded), cached, end(job.Failed), end(job.Failed), end(job.Canceled), end(job.Expired)}
	want := []account.UsageDay{{Day: at, Succeeded: 1, Cached: 1, Failed: 2, Canceled: 1, Expired: 1}}
	check := func(when string) {
		t.Helper()
		days, err := s.Usage(t.Context(), "acc_acme", november)
		if diff := cmp.Diff(want, days); diff != "" || err != nil {
			t.Errorf("%s: %v, days (-want +got):\n%s", when, err, diff)
		}
	}
	s.file(store.Filing{Ends: ends})
	check("at once")
	s.file(store.Filing{Ends: append(ends, ends[0])})
	check("again")
	poison := end(job.Canceled)
	poison.Job.CustomID = "a\x00b"
	s.file(store.Filing{Ends: append(ends, poison)})
	want[0].Canceled = 2
	check("one by one")
}

func TestQuotaEventsOnce(t *testing.T) {
	s := newShelf(t)
	at := november.AddDate(0, 0, 4).Add(time.Second)
	warning := store.QuotaReached{
		Account: "acc_acme", Period: november, Percent: 80, Used: 9600, Limit: 12_000, ResetsAt: november.AddDate(0, 1, 0), Happened: at,
	}
	again, next := warning, warning
	again.Used, next.Period = 9720, november.AddDate(0, 1, 0)
	for range 2 {
		s.file(store.Filing{Reached: []store.QuotaReached{warning, again, next}})
	}
	got, err := s.QuotaEvents(t.Context(), "acc_acme", november)
	if diff := cmp.Diff([]store.QuotaReached{warning}, got, cmp.Comparer(time.Time.Equal)); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

// What an older release has left gets billing days and outcomes.
func TestMigrateBills(t *testing.T) {
	url := storetest.URL(t)
	s := storetest.Connect(t, url)
	old := &shelf{Store: s, t: t}
	a, _, _ := someAccount(t, s, "acme")
	if got, err := s.Account(t.Context(), a.ID); err != nil || got.BillingDay != got.CreatedAt.Day() {
		t.Errorf("a new account: %+v, %v", got, err)
	}
	chosen := account.Account{ID: "acc_chosen", Name: "chosen", Plan: "default", BillingDay: 31}
	k, _ := account.NewKey(chosen.ID, "")
	if err := s.CreateAccount(t.Context(), chosen, k); err != nil {
		t.Fatal(err)
	}
	if _, got, err := s.Key(t.Context(), k.ID); err != nil || got.BillingDay != 31 {
		t.Errorf("a chosen day: %+v, %v", got, err)
	}
	end := succeeded(job.NewID(), november.AddDate(0, 0, 9))
	old.file(store.Filing{Ends: []store.Ended{end}})
	before, err := s.Usage(t.Context(), a.ID, november)
	if err != nil || len(before) != 1 {
		t.Fatalf("%v, %v", before, err)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{
		"UPDATE accounts SET created_at = '2025-02-28T23:30:00Z' WHERE id = 'acc_acme'",
		"ALTER TABLE accounts DROP COLUMN billing_day",
		"ALTER TABLE usage_events DROP CONSTRAINT usage_events_units_check, DROP COLUMN count, ADD CONSTRAINT usage_events_units_check CHECK (units > 0)",
		"ALTER TABLE usage_day DROP COLUMN succeeded, DROP COLUMN cached, DROP COLUMN failed, DROP COLUMN canceled, DROP COLUMN expired, DROP COLUMN calls",
		"DROP TABLE quota_events",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	migration, err := os.ReadFile("migration/0004_bills.sql")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.PgConn().Exec(t.Context(), string(migration)).ReadAll(); err != nil {
		t.Fatal(err)
	}
	s = storetest.Connect(t, url) // whose plans know the new columns
	if got, err := s.Account(t.Context(), a.ID); err != nil || got.BillingDay != 28 {
		t.Errorf("an old account: %+v, %v", got, err)
	}
	after, err := s.Usage(t.Context(), a.ID, november)
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("%v, days (-before +after):\n%s", err, diff)
	}
}
