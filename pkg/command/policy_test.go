package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/config"
)

func TestCheckPolicy(t *testing.T) {
	check := func(text string) (out, errOut string, err error) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var s screen
		err = CheckPolicy(s.terminal(false), config.PolicyCheck{File: path})
		return s.out.String(), s.err.String(), err
	}
	out, said, err := check("version: 1\nqueue: {length: 8}\nplans:\n- {name: free, threads: 2}\n- {name: pro, tier: 5, over_threads: {action: refuse, status: 402}}\n")
	if err != nil || said != "" {
		t.Fatalf("%v %q", err, said)
	}
	for _, want := range []string{"a queue of 8", "free  0     2        park, up to 100000  -", "pro   5     seats    refuse, 402", "30 d       1m    all      tintype  -\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	out, said, err = check("version: 1\nplans:\n- {name: free, rate: {}, tiers: 1}\n")
	if ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), "has 2 problems") || out != "" {
		t.Errorf("%v %q", err, out)
	}
	for _, want := range []string{
		"policy.yaml:3:16: plans[0].rate.requests: is missing: how many in each window\n", "policy.yaml:3:26: plans[0].tiers: is not known; did you mean tier?\n",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in\n%s", want, said)
		}
	}
	if _, _, err := check(""); ExitCode(err) != ExitUsage || !strings.Contains(err.Error(), "has 1 problem") || strings.Contains(err.Error(), "problems") {
		t.Errorf("%v", err)
	}
	if err := CheckPolicy((&screen{}).terminal(false), config.PolicyCheck{File: "/does/not/exist"}); ExitCode(err) != ExitUsage {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Every limit has its column.
func TestCheckPolicyShowsEverything(t *testing.T) {
	for name, wants := range map[string][]string{
		"page2images": {"a queue of 1000000\n", "park, unlimited", "5000000 credits, month_utc, 402", "above 5000000, 0.0002 each", "3 d    7 d "},
		"webshot":     {"clients without a key have the plan anonymous", "30 in 1m by ip, burst 10, successes"},
		"urlbox":      {"250 in 1m by key, fixed, successes", "100 renders, billing_day, 429", "30 d   30 d "},
		"screenshot-api": {
			"10 a key", "refuse, 429, no Retry-After", "60 in 1m by key, fixed", "10000 renders, month_utc, 402", "5m", "https://app.example.com/dashboard?upgrade=true\n",
		},
		"shotit": {
			"a queue of 8, running jobs included, waits of up to 1 d", "requests of class web by ip: 600 in 1m", "requests of class media by ip: 60 in 1m", "refuse, 402, no Retry-After",
		},
	} {
		var s screen
		if err := CheckPolicy(s.terminal(false), config.PolicyCheck{File: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range wants {
			if !strings.Contains(s.out.String(), want) {
				t.Errorf("%s: %q is missing in\n%s", name, want, s.out.String())
			}
		}
	}
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte("version: 1\nqueue: {strict: true, per_host: 2, wait_limit_s: 5400}\ntrusted_proxies: [10.0.0.0/8]\n"+
		"plans: [{name: a, formats: [png, pdf], cache_ttl_s: 90, stale_while_revalidate_s: 30}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	var s screen
	if err := CheckPolicy(s.terminal(false), config.PolicyCheck{File: path}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"strict, waits of up to 1h30m, 2 jobs of an account on one host", "trusted in X-Forwarded-For: 10.0.0.0/8", "1m30s, stale 30s", "png, pdf"} {
		if !strings.Contains(s.out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, s.out.String())
		}
	}
}

// What is shown passes the check, and is the farm's own where none is named.
func TestShowPolicy(t *testing.T) {
	s := serve(t, "")
	target := config.Target{Server: s.URL}
	for _, name := range []string{"default", "shotit", ""} {
		var seen screen
		if err := ShowPolicy(t.Context(), seen.terminal(false), config.PolicyShow{Target: target, Admin: config.Admin{AdminToken: "t"}, File: name}); err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		path := filepath.Join(t.TempDir(), "shown.yaml")
		if err := os.WriteFile(path, seen.out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		var again screen
		if err := ShowPolicy(t.Context(), again.terminal(false), config.PolicyShow{File: path}); err != nil || again.out.String() != seen.out.String() {
			t.Errorf("%q: %v\n%s", name, err, again.out.String())
		}
	}
	for _, test := range []struct {
		cfg  config.PolicyShow
		code int
	}{
		{config.PolicyShow{File: "shotitt"}, ExitUsage},
		{config.PolicyShow{Target: target, Admin: config.Admin{AdminToken: "wrong"}}, ExitRefused},
		{config.PolicyShow{Target: config.Target{Server: "127.0.0.1:1"}, Admin: config.Admin{AdminToken: "t"}}, ExitUnreachable},
	} {
		var seen screen
		if err := ShowPolicy(t.Context(), seen.terminal(false), test.cfg); ExitCode(err) != test.code || seen.out.Len() > 0 {
			t.Errorf("%+v: %v, %q", test.cfg, err, seen.out.String())
		}
	}
}

func TestUpdateAccountCommand(t *testing.T) {
	s := serve(t, "")
	admin := config.AdminClient{Target: config.Target{Server: s.URL}, Admin: config.Admin{AdminToken: "t"}}
	for _, test := range []struct {
		cfg  config.AccountUpdate
		body string
	}{
		{config.AccountUpdate{Plan: "gold"}, `{"plan":"gold"}`},
		{config.AccountUpdate{Suspend: true, BillingDay: 31}, `{"billing_day":31,"suspended":true}`},
		{config.AccountUpdate{Resume: true}, `{"suspended":false}`},
	} {
		var seen screen
		test.cfg.AdminClient, test.cfg.Account = admin, "acme"
		if err := UpdateAccount(t.Context(), seen.terminal(false), test.cfg); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		if s.patched != test.body {
			t.Errorf("sent %s, want %s", s.patched, test.body)
		}
		s.mu.Unlock()
		if want := "account acme (acc_1): plan gold, billing day 31, suspended\n"; seen.out.String() != want {
			t.Errorf("printed %q", seen.out.String())
		}
	}
	if err := UpdateAccount(t.Context(), (&screen{}).terminal(false), config.AccountUpdate{AdminClient: admin, Account: "acme"}); ExitCode(err) != ExitUsage {
		t.Errorf("nothing to change: %v", err)
	}
	if err := UpdateAccount(t.Context(), (&screen{}).terminal(false), config.AccountUpdate{AdminClient: admin, Account: "nobody", Resume: true}); ExitCode(err) != ExitUsage {
		t.Errorf("nobody: %v", err)
	}
}
