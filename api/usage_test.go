package api

import (
	"net/http"
	"testing"
	"time"

	"github.com/tintype/tintype/pkg/account"
)

func TestUsage(t *testing.T) {
	f := newFarm(t)
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	f.store.usage = map[string][]account.UsageDay{
		f.acct.ID + " 2026-02": {{Day: day("2026-02-03"), Units: 240, Renders: 2}, {Day: day("2026-02-28"), Units: 130, Renders: 1}},
		"acc_other 2026-02":    {{Day: day("2026-02-03"), Units: 120, Renders: 1}},
	}
	a := f.do("GET", "/v1/usage?period=2026-02", "")
	want := `{"period":"2026-02","starts_at":"2026-02-01T00:00:00.000Z","resets_at":"2026-03-01T00:00:00.000Z","used":3.0833333333333335,"renders":3,` +
		`"by_day":[{"date":"2026-02-03","used":2,"renders":2},{"date":"2026-02-28","used":1.0833333333333333,"renders":1}]}`
	if a.Code != http.StatusOK || a.Body.String() != want {
		t.Errorf("%d %s, want %s", a.Code, a.Body, want)
	}

	var now Usage // of the present month, in which nothing happened
	f.do("GET", "/v1/usage", "").json(t, &now)
	if starts := now.StartsAt.Time; now.Used != 0 || now.Renders != 0 || now.ByDay == nil || starts.Day() != 1 || time.Since(starts) < 0 || time.Until(now.ResetsAt.Time) < 0 {
		t.Errorf("%+v", now)
	}
	for _, bad := range []string{"period=2026", "period=2026-13", "period=2026-2", "period=now", "period=", "month=2026-02"} {
		f.do("GET", "/v1/usage?"+bad, "").problem(t, http.StatusBadRequest, "invalid_input")
	}
	f.do("GET", "/v1/usage", "", header{"Authorization": ""}).problem(t, http.StatusUnauthorized, "missing_key")
	f.store.setDown(true)
	f.do("GET", "/v1/usage", "").problem(t, http.StatusServiceUnavailable, "unavailable")
}
