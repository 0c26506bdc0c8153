package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/client"
	"github.com/tintype/tintype/pkg/config"
)

// usageOf is a server's word about a period.
func usageOf(w http.ResponseWriter, r *http.Request) {
	switch q := r.URL.Query(); {
	case q.Get("period") == "9999-12":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"status": 400, "code": "invalid_input", "detail": "period: must be from 1970-01 to the present one, 2026-11"}`)
	case q.Get("format") == "csv":
		fmt.Fprint(w, "date,used\r\n2026-11-02,1\r\n")
	case q.Get("period") == "2026-10": // without a quota
		fmt.Fprint(w, `{"period": "2026-10", "resets_at": "2026-11-01T00:00:00Z", "plan": "free", "used": 0, "by_day": []}`)
	default:
		fmt.Fprint(w, `{"period": "2026-11", "resets_at": "2026-12-01T00:00:00Z", "plan": "pro", "unit": "credit", "used": 3.0333333333333334, "limit": 10,
			"remaining": 5, "pending": 1.5, "overage": {"above": 2, "used": 1.0333333, "price_per_unit": "0.5", "cost": "0.516666667"},
			"by_day": [{"date": "2026-11-02", "used": 3.0333333333333334, "outcomes": {"succeeded": 3, "cached": 1, "failed": 2, "canceled": 4, "expired": 5, "calls": 6}}]}`)
	}
}

func TestUsage(t *testing.T) {
	s := serve(t, succeeded)
	show := func(change func(*config.Usage)) (string, error) {
		cfg := config.Usage{Client: config.Client{Target: config.Target{Server: s.URL}, Key: "k"}, Output: "-"}
		change(&cfg)
		var sc screen
		err := ShowUsage(t.Context(), sc.terminal(false), cfg)
		return sc.out.String(), err
	}
	const table = `period   2026-11, until 2026-12-01
plan     pro
used     3.033 of 10 credits
pending  1.5
left     5
overage  1.033 above 2, for 0.516666667

DATE        USED   SUCCEEDED  CACHED  FAILED  CANCELED  EXPIRED  CALLS
2026-11-02  3.033  3          1       2       4         5        6
`
	if out, err := show(func(*config.Usage) {}); err != nil || out != table {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := show(func(c *config.Usage) { c.Period = "2026-10" }); err != nil || out != "period  2026-10, until 2026-11-01\nplan    free\nused    0\n" {
		t.Errorf("%v\n%s", err, out)
	}
	var u client.Usage
	if out, err := show(func(c *config.Usage) { c.JSON = true }); err != nil || json.Unmarshal([]byte(out), &u) != nil || *u.Limit != 10 {
		t.Errorf("%v\n%s", err, out)
	}
	for want, change := range map[string]func(*config.Usage){
		"date,used\r\n2026-11-02,1\r\n": func(c *config.Usage) { c.CSV = true },
		"events as jsonl":               func(c *config.Usage) { c.Events = true },
		"events as csv":                 func(c *config.Usage) { c.Events, c.CSV = true, true },
	} {
		if out, err := show(change); err != nil || out != want {
			t.Errorf("%v, %q, want %q", err, out, want)
		}
	}
	path := filepath.Join(t.TempDir(), "events.csv")
	if out, err := show(func(c *config.Usage) { c.Events, c.CSV, c.Output = true, true, path }); err != nil || out != "" {
		t.Errorf("%v, %q", err, out)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "events as csv" {
		t.Errorf("%v, %q", err, text)
	}
	// Half an export is none, and what was there stays.
	if _, err := show(func(c *config.Usage) { c.Events, c.Output, c.Period = true, path, "broken" }); ExitCode(err) != ExitFailed || !strings.Contains(err.Error(), "not whole") {
		t.Errorf("a broken export: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "events as csv" {
		t.Errorf("%v, %q", err, text)
	}
	if _, err := show(func(c *config.Usage) { c.Period = "9999-12" }); ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), "1970-01") {
		t.Errorf("a period that there is not: %v", err)
	}
	if _, err := show(func(c *config.Usage) { c.Key, c.Data = "", "/does/not/exist" }); ExitCode(err) != ExitUsage {
		t.Errorf("no key: %v", err)
	}
}
