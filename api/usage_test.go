package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

func date(t testing.TB, text string) time.Time {
	t.Helper()
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// withPlan makes the one plan that a test wants that of its account.
func withPlan(plan account.Plan) func(*Config, *Deps) {
	plan.Name, plan.Retention = "default", 24*time.Hour
	return func(cfg *Config, _ *Deps) {
		cfg.Policy = account.DefaultPolicy()
		cfg.Policy.Plans = []account.Plan{plan}
	}
}

func TestUsage(t *testing.T) {
	f := newFarm(t)
	f.store.usage = map[string][]account.UsageDay{
		f.acct.ID + " 2026-02-01": {
			{Day: date(t, "2026-02-03"), Units: 240, Renders: 2, Succeeded: 2, Failed: 1},
			{Day: date(t, "2026-02-28"), Units: 130, Renders: 1, Succeeded: 1, Cached: 4, Canceled: 2, Expired: 3, Calls: 1},
		},
		"acc_other 2026-02-01": {{Day: date(t, "2026-02-03"), Units: 120, Renders: 1}},
	}
	a := f.do("GET", "/v1/usage?period=2026-02", "")
	want := `{"period":"2026-02","starts_at":"2026-02-01T00:00:00.000Z","resets_at":"2026-03-01T00:00:00.000Z","plan":"default","unit":null,` +
		`"used":3.0833333333333335,"limit":null,"remaining":null,"pending":null,"units":370,"overage":null,"renders":3,` +
		`"outcomes":{"succeeded":3,"cached":4,"failed":1,"canceled":2,"expired":3,"calls":1},"by_day":[` +
		`{"date":"2026-02-03","used":2,"units":240,"renders":2,"outcomes":{"succeeded":2,"cached":0,"failed":1,"canceled":0,"expired":0,"calls":0}},` +
		`{"date":"2026-02-28","used":1.0833333333333333,"units":130,"renders":1,"outcomes":{"succeeded":1,"cached":4,"failed":0,"canceled":2,"expired":3,"calls":1}}]}`
	if a.Code != http.StatusOK || a.Body.String() != want {
		t.Errorf("%d %s, want %s", a.Code, a.Body, want)
	}
	if b := f.do("GET", "/v1/usage?period=2026-02-01", ""); b.Body.String() != want {
		t.Errorf("by its first day: %d %s", b.Code, b.Body)
	}

	table := "date,used,units,renders,succeeded,cached,failed,canceled,expired,calls\r\n" +
		"2026-02-03,2,240,2,2,0,1,0,0,0\r\n2026-02-28,1.0833333333333333,130,1,1,4,0,2,3,1\r\n"
	for _, a := range []answered{
		f.do("GET", "/v1/usage?period=2026-02&format=csv", ""),
		f.do("GET", "/v1/usage?period=2026-02", "", header{"Accept": "text/csv"}),
		f.do("GET", "/v1/usage?period=2026-02", "", header{"Accept": "application/json;q=0.5, text/csv"}),
	} {
		if a.Code != http.StatusOK || a.Body.String() != table || !strings.HasPrefix(a.Header().Get("Content-Type"), "text/csv") ||
			a.Header().Get("Content-Disposition") != "attachment; filename=usage-2026-02.csv" {
			t.Errorf("%d %v %q", a.Code, a.Header(), a.Body)
		}
	}
	for _, accept := range []string{"*/*", "text/html", "text/csv;q=0", "text/csv;q=x", ";;", "text/csv;q=0.3, application/json"} {
		if a := f.do("GET", "/v1/usage?period=2026-02", "", header{"Accept": accept}); a.Body.String() != want {
			t.Errorf("Accept %s: %s", accept, a.Body)
		}
	}

	var now Usage // of the present month, in which nothing happened
	f.do("GET", "/v1/usage", "").json(t, &now)
	if starts := now.StartsAt.Time; now.Used != 0 || now.Renders != 0 || now.ByDay == nil || starts.Day() != 1 || time.Since(starts) < 0 || time.Until(now.ResetsAt.Time) < 0 {
		t.Errorf("%+v", now)
	}
	f.do("GET", "/v1/usage", "", header{"Authorization": ""}).problem(t, http.StatusUnauthorized, "missing_key")
	f.store.setDown(true)
	f.do("GET", "/v1/usage", "").problem(t, http.StatusServiceUnavailable, "unavailable")
}

// What is no period, or none yet, is refused by name.
func TestUsageOfNoPeriod(t *testing.T) {
	f := newFarm(t)
	next := time.Now().UTC().AddDate(0, 1, 0).Format(monthLayout)
	for _, path := range []string{"/v1/usage", "/v1/usage/events", "/admin/v1/usage", "/admin/v1/usage/events"} {
		bad := []string{"2026", "2026-13", "2026-00", "2026-2", "now", "", "9999-12", "9998-12", "0000-01", "0001-01", "1969-12", "-001-01", "10000-01", "2026-11%00", next}
		if strings.HasPrefix(path, "/v1") {
			bad = append(bad, "2026-02-30", "2026-02-00", "2026-02-1", "2026-02-32", "9999-12-31", "1969-12-31", next+"-28")
		} else {
			bad = append(bad, "2026-02-01")
		}
		for _, text := range bad {
			p := f.do("GET", path+"?period="+text, "", header{"Authorization": f.credentials(path)}).problem(t, http.StatusBadRequest, "invalid_input")
			if p.Errors == nil || len(*p.Errors) != 1 || (*p.Errors)[0].Pointer != "period" {
				t.Errorf("%s, period %q: %+v", path, text, p.Errors)
			}
		}
		for _, query := range []string{"month=2026-02", "format=xml", "format=", "format=csv&format=csv", "period=2026-02&period=2026-03"} {
			f.do("GET", path+"?"+query, "", header{"Authorization": f.credentials(path)}).problem(t, http.StatusBadRequest, "invalid_input")
		}
	}
	f.do("GET", "/v1/usage?format=jsonl", "").problem(t, http.StatusBadRequest, "invalid_input")
}

// credentials are those that a path wants.
func (f *farm) credentials(path string) string {
	if strings.HasPrefix(path, "/admin") {
		return "Bearer " + adminToken
	}
	return "Bearer " + f.key
}

// A period that begins on the account's own day is asked for by its month, by
// its first day, and is the present one until that comes.
func TestUsageByBillingDay(t *testing.T) {
	plan := account.Plan{Quota: account.Quota{Unit: account.UnitRender, Limit: 10, Period: account.BillingDay}}
	for _, tc := range []struct {
		day                        int
		query, period, start, ends string
	}{
		{14, "2026-02", "2026-02-14", "2026-02-14", "2026-03-14"},
		{14, "2026-02-14", "2026-02-14", "2026-02-14", "2026-03-14"},
		{31, "2026-02", "2026-02-28", "2026-02-28", "2026-03-31"},
		{31, "2024-02", "2024-02-29", "2024-02-29", "2024-03-31"},
		{31, "2026-01", "2026-01-31", "2026-01-31", "2026-02-28"},
		{1, "2026-02", "2026-02", "2026-02-01", "2026-03-01"},
		{14, "2026-02-01", "2026-02", "2026-02-01", "2026-03-01"}, // of the plan that it had before
	} {
		c := &call{account: account.Account{BillingDay: tc.day}, plan: plan, query: &input{members: map[string]any{"period": tc.query}}}
		p, err := spanFrom(c, date(t, "2026-11-22"))
		if err != nil || p.text() != tc.period || !p.start.Equal(date(t, tc.start)) || !p.end.Equal(date(t, tc.ends)) || p.present {
			t.Errorf("%+v: %+v, %v", tc, p, err)
		}
	}
	for _, tc := range []struct{ now, query, want string }{
		{"2026-11-22", "", "2026-11-14"},
		{"2026-11-13", "", "2026-10-14"},
		{"2026-11-13", "2026-10", "2026-10-14"},
		{"2026-11-14", "2026-11-14", "2026-11-14"},
	} {
		c := &call{account: account.Account{BillingDay: 14}, plan: plan, query: &input{members: map[string]any{}}}
		if tc.query != "" {
			c.query.members["period"] = tc.query
		}
		if p, err := spanFrom(c, date(t, tc.now)); err != nil || p.text() != tc.want || !p.present {
			t.Errorf("%+v: %+v, %v", tc, p, err)
		}
	}
}

// What is left is the leader's word, which the headers have too; without it, it
// is reckoned from what is filed.
func TestUsageOfAQuota(t *testing.T) {
	present := span{start: date(t, "2026-11-01"), end: date(t, "2026-12-01"), present: true}
	past := span{start: date(t, "2026-10-01"), end: date(t, "2026-11-01")}
	meter := func(limit, remaining int64) []*pb.Meter {
		return []*pb.Meter{{Kind: pb.Meter_KIND_RATE, Limit: 7, Remaining: 7}, {Kind: pb.Meter_KIND_QUOTA, Limit: limit, Remaining: remaining}}
	}
	renders := account.Plan{Quota: account.Quota{Unit: account.UnitRender, Limit: 10}}
	credit := account.Plan{Quota: account.Quota{
		Unit: account.UnitCredit, Limit: 10, Overage: account.Overage{Above: 12, PriceNano: 1_500_000, Allowed: true},
	}}
	for _, tc := range []struct {
		what      string
		plan      account.Plan
		of        span
		units     int64
		meters    []*pb.Meter
		remaining int64
		pending   float64 // less than 0: null
		overage   string
	}{
		{"nobody answers", renders, present, 3 * 120, nil, 7, -1, ""},
		{"two are under way", renders, present, 3 * 120, meter(1200, 600), 5, 2, ""},
		{"all is filed", renders, present, 3 * 120, meter(1200, 840), 7, 0, ""},
		{"filed since it was asked", renders, present, 4 * 120, meter(1200, 840), 7, 0, ""},
		{"used up", renders, present, 10 * 120, meter(1200, 0), 0, -1, ""},
		{"another month", renders, past, 3 * 120, meter(1200, 0), 7, -1, ""},
		{"beyond it", renders, past, 11 * 120, nil, 0, -1, ""},
		{"a part of a credit", credit, present, 5, nil, 9, -1, "0"},
		{"of which some is pending", credit, present, 5, meter(1200, 1190), 9, 5.0 / 120, "0"},
		{"paid for", credit, present, 13*120 + 60, meter(1200, 0), 0, -1, "0.00225"},
		{"a change of plan that the leader knows", renders, present, 120, meter(2400, 2280), 19, 0, ""},
	} {
		u := presentUsage(tc.plan, tc.of, []account.UsageDay{{Day: tc.of.start, Units: tc.units}}, tc.meters)
		if *u.Remaining != tc.remaining || (u.Pending == nil) != (tc.pending < 0) || u.Pending != nil && *u.Pending != tc.pending {
			t.Errorf("%s: remaining %d, pending %v; want %d, %v", tc.what, *u.Remaining, u.Pending, tc.remaining, tc.pending)
		}
		if (u.Overage == nil) != (tc.overage == "") || u.Overage != nil && (u.Overage.Cost != tc.overage || u.Overage.PricePerUnit != "0.0015") {
			t.Errorf("%s: overage %+v, want %s", tc.what, u.Overage, tc.overage)
		}
	}
}
