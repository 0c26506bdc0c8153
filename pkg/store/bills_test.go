package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	"github.com/tintype/tintype/pkg/store"
	"github.com/tintype/tintype/pkg/store/storetest"
)

// The ledger of charges is read a page at a time, each event once and in order,
// also where many happened in one moment, and it adds up.
func TestUsageEventsInPages(t *testing.T) {
	s := storetest.Open(t)
	november := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	someAccount(t, s, "acme")
	at := store.Projection{}
	project := func(f store.Filing) {
		t.Helper()
		next := store.Projection{Seq: at.Seq + 1}
		if _, err := s.Project(t.Context(), at, next, f); err != nil {
			t.Fatal(err)
		}
		at = next
	}
	var f store.Filing
	for i := range 25 {
		e := succeeded(job.NewID(), november.Add(time.Duration(i/6)*time.Microsecond)) // six in one moment
		f.Ends = append(f.Ends, e)
	}
	december, other := succeeded(job.NewID(), november.AddDate(0, 1, 0)), succeeded(job.NewID(), november)
	other.Job.Account, other.Period = "acc_other", november.AddDate(0, 0, 13)
	f.Ends = append(f.Ends, december, other)
	f.Charges = []store.Charge{
		{ID: "lost_" + string(f.Ends[3].Job.ID), Account: "acc_acme", Period: november, Units: -120, Reason: "lost", Happened: november.AddDate(0, 0, 3)},
		{ID: "calls", Account: "anon_cb007107", Period: november, Units: 360, Reason: "call", Count: 3, Happened: november},
	}
	project(f)

	var own []account.UsageEvent
	var after account.UsageCursor
	for {
		page, err := s.UsageEvents(t.Context(), "acc_acme", november, after, 4)
		if err != nil {
			t.Fatal(err)
		}
		if own = append(own, page...); len(page) < 4 {
			break
		}
		after = page[3].Cursor()
	}
	ids, units := map[string]bool{}, int64(0)
	for i, e := range own {
		ids[e.ID], units = true, units+e.Units
		if e.Account != "acc_acme" || !e.Period.Equal(november) || e.Count != 1 || i > 0 && own[i-1].Happened.After(e.Happened) {
			t.Errorf("%+v", e)
		}
	}
	if len(own) != 26 || len(ids) != 26 || units != 24*120 || own[25].Reason != "lost" {
		t.Errorf("%d events, %d ids, %d units, the last %+v", len(own), len(ids), units, own[25])
	}
	// What comes later is behind the last cursor.
	project(store.Filing{Ends: []store.Ended{succeeded(job.NewID(), november.AddDate(0, 0, 9))}})
	if page, err := s.UsageEvents(t.Context(), "acc_acme", november, own[25].Cursor(), 4); err != nil || len(page) != 1 {
		t.Errorf("%v, %v", page, err)
	}

	// An admin's: all accounts, by period and account.
	var all []account.UsageEvent
	for after = (account.UsageCursor{}); ; after = all[len(all)-1].Cursor() {
		page, err := s.AllUsageEvents(t.Context(), "", november, november.AddDate(0, 1, 0), after, 5)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, page...); len(page) < 5 {
			break
		}
	}
	var sums []string
	for account, units := range sum(all) {
		sums = append(sums, fmt.Sprint(account, " ", units))
	}
	slices.Sort(sums)
	want := []string{"acc_acme 2026-11-01 3000", "acc_other 2026-11-14 120", "anon_cb007107 2026-11-01 360"}
	if diff := cmp.Diff(want, sums); diff != "" || len(all) != 29 {
		t.Errorf("%d events (-want +got):\n%s", len(all), diff)
	}
	if one, err := s.AllUsageEvents(t.Context(), "acc_other", november, november.AddDate(0, 1, 0), account.UsageCursor{}, 5); err != nil || len(one) != 1 {
		t.Errorf("%v, %v", one, err)
	}

	// The bills are those sums, in pages too.
	var bills []account.Bill
	for after = (account.UsageCursor{}); ; {
		page, err := s.Bills(t.Context(), november, november.AddDate(0, 1, 0), after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		bills = append(bills, page...)
		after = account.UsageCursor{Period: page[0].Period, Account: page[0].Account}
	}
	if diff := cmp.Diff([]account.Bill{
		{Account: "acc_acme", Name: "acme", Period: november, Units: 3000, Events: 27, Sum: 3000},
		{Account: "anon_cb007107", Period: november, Units: 360, Events: 1, Sum: 360},
		{Account: "acc_other", Period: november.AddDate(0, 0, 13), Units: 120, Events: 1, Sum: 120},
	}, bills); diff != "" {
		t.Errorf("bills (-want +got):\n%s", diff)
	}
}

func sum(events []account.UsageEvent) map[string]int64 {
	out := map[string]int64{}
	for _, e := range events {
		out[e.Account+" "+e.Period.Format(time.DateOnly)] += e.Units
	}
	return out
}

func TestStandings(t *testing.T) {
	s := storetest.Open(t)
	november := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	acme, _, _ := someAccount(t, s, "acme")
	zeta, k, _ := someAccount(t, s, "zeta")
	if err := s.RevokeKey(t.Context(), zeta.ID, k.ID); err != nil {
		t.Fatal(err)
	}
	old, _ := account.NewKey(acme.ID, "old")
	old.ExpiresAt = time.Now().Add(-time.Hour)
	if err := s.CreateKey(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Project(t.Context(), store.Projection{}, store.Projection{Seq: 1}, store.Filing{Ends: []store.Ended{
		succeeded(job.NewID(), november), succeeded(job.NewID(), november.AddDate(0, 1, 0)),
	}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Standings(t.Context(), []string{acme.ID, zeta.ID}, []time.Time{november, november})
	want := map[string]account.Standing{acme.ID: {Units: 120, Keys: 1}, zeta.ID: {}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}
