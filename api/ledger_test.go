package api

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
)

// charged makes a ledger of n renders a month for an account, of which the last
// is given back, in an order that is not theirs.
func (f *farm) charged(id string, period time.Time, n int) {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	var events []account.UsageEvent
	for i := range n {
		e := account.UsageEvent{
			ID: string(job.NewID()), Account: id, Period: period, Units: 120, Reason: "render", Count: 1,
			Happened: period.Add(time.Duration(i/2) * 1500 * time.Microsecond), // two at a time
		}
		events = append(events, e)
		if i == n-1 {
			e.ID, e.Units, e.Reason, e.Happened = lostPrefix+e.ID, -120, "lost", e.Happened.Add(time.Hour)
			events = append(events, e)
		}
	}
	slices.Reverse(events)
	f.store.events = append(f.store.events, events...)
}

func TestUsageEvents(t *testing.T) {
	f := newFarm(t)
	february := date(t, "2026-02-01")
	f.charged(f.acct.ID, february, 9)
	f.charged(f.acct.ID, date(t, "2026-03-01"), 3)
	f.charged("acc_other", february, 4)

	var all []UsageEvent
	after := ""
	for page := 0; ; page++ {
		var list UsageEventList
		f.do("GET", "/v1/usage/events?period=2026-02&limit=4&after="+url.QueryEscape(after), "").json(t, &list)
		all = append(all, list.Data...)
		if list.NextCursor == nil {
			t.Fatalf("no cursor: %+v", list)
		}
		after = *list.NextCursor
		if !list.HasMore {
			break
		}
	}
	var units int64
	seen := map[string]bool{}
	for i, e := range all {
		units += e.Units
		if seen[e.Id] || e.Account != f.acct.ID || i > 0 && all[i-1].HappenedAt.After(e.HappenedAt.Time) || e.Job == nil || e.Period != "2026-02-01" {
			t.Errorf("%+v", e)
		}
		seen[e.Id] = true
	}
	if last := all[len(all)-1]; len(all) != 10 || units != 8*120 || last.Units != -120 || last.Reason != "lost" || lostPrefix+*last.Job != last.Id {
		t.Errorf("%d events of %d units, the last %+v", len(all), units, last)
	}

	// The last page's cursor finds what comes later.
	f.store.mu.Lock()
	f.store.events = append(f.store.events, account.UsageEvent{ID: "calls_1", Account: f.acct.ID, Period: february, Units: 360, Reason: "call", Count: 3, Happened: date(t, "2026-02-20")})
	f.store.mu.Unlock()
	var later UsageEventList
	f.do("GET", "/v1/usage/events?period=2026-02&after="+url.QueryEscape(after), "").json(t, &later)
	if len(later.Data) != 1 || later.Data[0].Id != "calls_1" || later.Data[0].Job != nil || later.Data[0].Count != 3 || later.HasMore {
		t.Errorf("%+v", later)
	}

	// The whole of it, as two kinds of lines.
	a := f.do("GET", "/v1/usage/events?period=2026-02&format=csv", "")
	rows, err := csv.NewReader(a.Body).ReadAll()
	if err != nil || len(rows) != 12 || !slices.Equal(rows[0], usageEventHead) || a.Header().Get("Content-Disposition") != "attachment; filename=usage-events-2026-02.csv" {
		t.Fatalf("%v, %v, %v", err, rows, a.Header())
	}
	a = f.do("GET", "/v1/usage/events?period=2026-02", "", header{"Accept": "application/jsonl"})
	lines := strings.Split(strings.TrimSuffix(a.Body.String(), "\n"), "\n")
	if len(lines) != 11 || a.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%d lines, %v", len(lines), a.Header())
	}
	for i, line := range lines {
		var e UsageEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Id != rows[i+1][0] || strconv.FormatInt(e.Units, 10) != rows[i+1][4] {
			t.Errorf("%v: %s, %v", err, line, rows[i+1])
		}
	}
	var none UsageEventList
	f.do("GET", "/v1/usage/events", "").json(t, &none) // of the present month
	if none.Data == nil || len(none.Data) != 0 || none.HasMore || none.NextCursor != nil {
		t.Errorf("%+v", none)
	}
}

// A cursor that is none, or another account's, is refused by name; so is one
// where there are no pages.
func TestUsageEventCursors(t *testing.T) {
	f := newFarm(t)
	theirs := "2026-02-01.acc_other.1770000000000000.job_x"
	for _, after := range []string{
		"x", "....", "2026-02-01", theirs, "2026-02-30." + f.acct.ID + ".1.x", "2026-03-01." + f.acct.ID + ".1.x",
		"2026-02-01." + f.acct.ID + ".-1.x", "2026-02-01." + f.acct.ID + ".9223372036854775807.x", "2026-02-01." + f.acct.ID + ".1.",
		"2026-02-01." + f.acct.ID + ".1" + strings.Repeat("0", 400), "\xff", "a\x00b",
	} {
		p := f.do("GET", "/v1/usage/events?period=2026-02&after="+url.QueryEscape(after), "").problem(t, http.StatusBadRequest, "invalid_input")
		if (*p.Errors)[0].Pointer != "after" {
			t.Errorf("%q: %+v", after, p.Errors)
		}
	}
	for _, query := range []string{"format=csv&limit=5", "format=jsonl&after=x", "limit=0", "limit=201", "limit=x"} {
		f.do("GET", "/v1/usage/events?"+query, "").problem(t, http.StatusBadRequest, "invalid_input")
	}
	for _, after := range []string{"x", "2026-02-01", "2026-02-01.", "2026-02-30.acc_x"} {
		f.admin("GET", "/admin/v1/usage?after="+after, "").problem(t, http.StatusBadRequest, "invalid_input")
	}
	f.admin("GET", "/admin/v1/usage/events?after="+url.QueryEscape(theirs), "") // theirs too, for an admin
	f.store.setDown(true)
	for _, format := range []string{"json", "csv", "jsonl"} {
		f.do("GET", "/v1/usage/events?format="+format, "").problem(t, http.StatusServiceUnavailable, "unavailable")
	}
}

// An export is whole, whatever its size, and one that cannot be finished is
// broken off: nobody takes a part for all of it.
func TestExportIsWhole(t *testing.T) {
	f := newFarm(t)
	f.charged(f.acct.ID, date(t, "2026-02-01"), 2*exportPage+7)
	a := f.do("GET", "/v1/usage/events?period=2026-02&format=jsonl", "")
	if n := bytes.Count(a.Body.Bytes(), []byte("\n")); n != 2*exportPage+8 {
		t.Errorf("%d lines", n)
	}
	a = f.do("HEAD", "/v1/usage/events?period=2026-02&format=jsonl", "")
	if a.Code != http.StatusOK || a.Body.Len() > 0 {
		t.Errorf("HEAD: %d, %d bytes", a.Code, a.Body.Len())
	}
	f.store.mu.Lock()
	f.store.pages, f.store.failsAt = 0, 2
	f.store.mu.Unlock()
	defer func() {
		if r := recover(); r != http.ErrAbortHandler { //nolint:errorlint // recover gives the value itself
			t.Errorf("half an export was served as if it were whole: %v", r)
		}
	}()
	f.do("GET", "/v1/usage/events?period=2026-02&format=csv", "")
}

// The admin's sums: of each account, its events.
func TestBillsAddUp(t *testing.T) {
	f := newFarm(t)
	other, _ := f.store.newAccount(`=HYPERLINK("http://evil.example/")`)
	february := date(t, "2026-02-01")
	f.charged(f.acct.ID, february, 5)
	f.charged(other.ID, february.AddDate(0, 0, 13), 3)
	f.charged("anon_cb007107", february, 2)
	f.charged(f.acct.ID, date(t, "2026-03-01"), 1)

	var rows []AccountUsage
	for after := ""; ; {
		var list AccountUsageList
		f.admin("GET", "/admin/v1/usage?period=2026-02&limit=2&after="+url.QueryEscape(after), "").json(t, &list)
		rows = append(rows, list.Data...)
		if !list.HasMore {
			break
		}
		after = *list.NextCursor
	}
	sums := map[string]int64{}
	var all UsageEventList
	f.admin("GET", "/admin/v1/usage/events?period=2026-02&limit=200", "").json(t, &all)
	for _, e := range all.Data {
		sums[e.Account+e.Period] += e.Units
	}
	if len(rows) != 3 || len(all.Data) != 13 {
		t.Fatalf("%+v, %d events", rows, len(all.Data))
	}
	for _, r := range rows {
		if r.Units != r.EventsUnits || r.Units != sums[r.Account+r.Period] || r.Used != float64(r.Units)/120 || (r.Name == nil) != strings.HasPrefix(r.Account, "anon_") {
			t.Errorf("%+v, the events are %d", r, sums[r.Account+r.Period])
		}
	}
	var one UsageEventList
	f.admin("GET", "/admin/v1/usage/events?period=2026-02&account="+other.ID, "").json(t, &one)
	if len(one.Data) != 4 || one.Data[0].Account != other.ID {
		t.Errorf("%+v", one)
	}
	f.admin("GET", "/admin/v1/usage/events?account=a.b", "").problem(t, http.StatusBadRequest, "invalid_input")

	a := f.admin("GET", "/admin/v1/usage?period=2026-02&format=csv", "")
	table, err := csv.NewReader(a.Body).ReadAll()
	if err != nil || len(table) != 4 {
		t.Fatalf("%v, %v", err, table)
	}
	for _, row := range table[1:] {
		if row[0] == other.ID && row[1] != `'=HYPERLINK("http://evil.example/")` {
			t.Errorf("a formula: %q", row)
		}
	}
	for _, path := range []string{"/admin/v1/usage", "/admin/v1/usage/events"} {
		f.do("GET", path, "").problem(t, http.StatusUnauthorized, "invalid_key")
	}
}

func TestCells(t *testing.T) {
	for _, text := range []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＠x"} {
		if got := cell(text); got != "'"+text {
			t.Errorf("%q is written %q", text, got)
		}
	}
	for _, text := range []string{"", "a=1", "job_1", "x-1", "5"} {
		if got := cell(text); got != text {
			t.Errorf("%q is written %q", text, got)
		}
	}
}

func TestAccountsWithUsage(t *testing.T) {
	f := newFarm(t, withPlan(account.Plan{Quota: account.Quota{Unit: account.UnitRender, Limit: 50}}))
	start := account.MonthUTC
	period, ends := start.Span(time.Now(), 1)
	f.charged(f.acct.ID, period, 5)
	f.charged(f.acct.ID, period.AddDate(0, -1, 0), 9)
	a := f.acct
	a.Suspended = true
	f.store.setAccount(a)
	f.admin("POST", "/admin/v1/accounts/"+a.ID+"/keys", `{}`)
	var list AccountList
	f.admin("GET", "/admin/v1/accounts", "").json(t, &list)
	var one AccountOverview
	f.admin("GET", "/admin/v1/accounts/"+a.ID, "").json(t, &one)
	if len(list.Data) != 1 || fmt.Sprint(toJSON(t, list.Data[0])) != toJSON(t, one) {
		t.Errorf("%+v, alone %+v", list, one)
	}
	if !one.Suspended || one.Keys != 2 || one.Usage.Units != 4*120 || one.Usage.Used != 4 || *one.Usage.Limit != 50 || *one.Usage.Unit != "render" ||
		!one.Usage.ResetsAt.Equal(ends) || one.Usage.Period != period.Format(monthLayout) {
		t.Errorf("%+v", one)
	}
	for _, id := range []string{"acc_x", "acc_" + strings.Repeat("0", 26), "%00", "..%2f"} {
		f.admin("GET", "/admin/v1/accounts/"+id, "").problem(t, http.StatusNotFound, "not_found")
	}
}
