package account

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tintype/tintype/deploy/policies"
	"github.com/tintype/tintype/pkg/job"
)

var update = flag.Bool("update", false, "write golden files")

// The built-in policy, in the words of the contract; the file says it all, so
// that nothing else has to know a default.
func TestDefaultPolicy(t *testing.T) {
	first := Plan{
		Name: "default", SlotsBy: ByAccount, OverThreads: OverThreads{Action: Park, Backlog: 100_000},
		Wall: time.Minute, Retention: 30 * 24 * time.Hour, Dialect: DialectTintype,
	}
	free, pro := first, first
	free.Name, free.Threads, free.OverThreads.Backlog, free.Retention = "free", 1, 100, 7*24*time.Hour
	free.Rate = Rate{Algorithm: TokenBucket, Requests: 30, Window: time.Minute, Burst: 10, By: ByAccount, Charge: ChargeAll}
	free.Quota = Quota{Unit: UnitRender, Limit: 100, Period: MonthUTC, Status: 402}
	pro.Name, pro.Tier, pro.Threads, pro.CacheTTL = "pro", 10, 8, 5*time.Minute
	pro.Rate = Rate{Algorithm: TokenBucket, Requests: 600, Window: time.Minute, Burst: 100, By: ByAccount, Charge: ChargeAll}
	pro.Quota = Quota{Unit: UnitRender, Limit: 10_000, Period: BillingDay, Status: 402}
	want := &Policy{Queue: Queue{Length: 10_000, WaitLimit: 24 * time.Hour}, Plans: []Plan{first, free, pro}}
	if diff := cmp.Diff(want, DefaultPolicy()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(first, Default()); diff != "" {
		t.Error(diff)
	}
	// A base of which nothing may be left.
	other := Policy{
		Queue: Queue{Length: 1, CountRunning: true, Strict: true, WaitLimit: time.Second, PerHost: 1},
		Plans: []Plan{{
			Name: "other", Tier: 1, Threads: 1, SlotsBy: ByKey, OverThreads: OverThreads{Action: Refuse, Backlog: 1, Status: 402, RetryAfter: true},
			Rate: Rate{FixedWindow, 1, 1, 1, ByIP, ChargeSuccess}, Quota: Quota{UnitCredit, 1, BillingDay, 429, Overage{1, 1, true}},
			CacheTTL: 1, Stale: 1, Wall: time.Second, Retention: 1, Formats: []job.Format{job.PDF}, Dialect: DialectShotit, UpgradeURL: "http://a",
		}},
	}
	filled(t, "base", reflect.ValueOf(other.Queue))
	filled(t, "base", reflect.ValueOf(other.Plans[0]))
	text, _ := policies.Text(DefaultName)
	got, err := parsePolicy("default.yaml", text, other)
	if err != nil {
		t.Fatal(err)
	}
	got.Plans, want.Plans = got.Plans[:1], want.Plans[:1] // the others are for copying and leave out what they share
	// A plan that parks has nothing to say of refusals.
	got.Plans[0].OverThreads.Status, got.Plans[0].OverThreads.RetryAfter = 0, false
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("default.yaml leaves something out:\n%s", diff)
	}
	for _, key := range []string{"trusted_proxies", "anonymous_plan", "http_limits", "formats"} {
		if !strings.Contains(string(text), key+":") {
			t.Errorf("default.yaml does not show %s", key)
		}
	}
	DefaultPolicy().Plans[0].Tier = 9
	if Default().Tier != 0 {
		t.Error("a caller changed the built-in policy")
	}
}

// filled fails where a field is at its zero value: a new one has to be told to
// the test above.
func filled(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.Kind() != reflect.Struct {
		if v.IsZero() {
			t.Errorf("%s is not set in this test", path)
		}
		return
	}
	for i := range v.NumField() {
		filled(t, path+"."+v.Type().Field(i).Name, v.Field(i))
	}
}

func TestGoodPolicies(t *testing.T) {
	base := *DefaultPolicy()
	plan := func(change func(*Plan)) Plan {
		p := base.Plans[0]
		p.Name = "a"
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		text  string
		queue Queue
		plan  Plan
	}{
		"least": {"version: 1\nplans: [{name: a}]", base.Queue, plan(func(*Plan) {})},
		"whole": {
			"version: 1\nqueue: {length: 8, count_running: true, strict: true, wait_limit_s: 60, per_host: 2}\n" +
				"plans:\n- name: a\n  tier: -3\n  threads: 7\n  over_threads: {action: park, backlog: 992}\n  retention_days: 2\n  wall_ms: 90000",
			Queue{Length: 8, CountRunning: true, Strict: true, WaitLimit: time.Minute, PerHost: 2},
			plan(func(p *Plan) {
				p.Tier, p.Threads, p.OverThreads.Backlog, p.Retention, p.Wall = -3, 7, 992, 48*time.Hour, 90*time.Second
			}),
		},
		"slots, cache, formats, dialect": {
			"version: 1\nplans: [{name: a, slots_by: key, cache_ttl_s: 300, stale_while_revalidate_s: 60, formats: [pdf, png], dialect: urlbox, upgrade_url: 'https://a.example/?b=1'}]",
			base.Queue,
			plan(func(p *Plan) {
				p.SlotsBy, p.CacheTTL, p.Stale, p.Formats, p.Dialect, p.UpgradeURL = ByKey, 5*time.Minute, time.Minute, []job.Format{job.PDF, job.PNG}, DialectUrlbox, "https://a.example/?b=1"
			}),
		},
		"a bucket, in short": {
			"version: 1\nplans: [{name: a, rate: {requests: 5}}]", base.Queue,
			plan(func(p *Plan) { p.Rate = Rate{TokenBucket, 5, time.Minute, 5, ByAccount, ChargeAll} }),
		},
		"a bucket": {
			"version: 1\nplans: [{name: a, rate: {algorithm: token_bucket, requests: 1, window_s: 3600, burst: 9, by: ip, charge: success}}]", base.Queue,
			plan(func(p *Plan) { p.Rate = Rate{TokenBucket, 1, time.Hour, 9, ByIP, ChargeSuccess} }),
		},
		"a window": {
			"version: 1\nplans: [{name: a, rate: {algorithm: fixed_window, requests: 250, by: key}}]", base.Queue,
			plan(func(p *Plan) { p.Rate = Rate{FixedWindow, 250, time.Minute, 0, ByKey, ChargeAll} }),
		},
		"a quota, in short": {
			"version: 1\nplans: [{name: a, quota: {limit: 5}}]", base.Queue,
			plan(func(p *Plan) { p.Quota = Quota{Unit: UnitRender, Limit: 5, Period: MonthUTC, Status: 402} }),
		},
		"a quota and what is above": {
			"version: 1\nplans: [{name: a, quota: {unit: credit, limit: 5, period: billing_day, status: 429, overage: {above: 7, price_per_unit: 0.0002}}}]", base.Queue,
			plan(func(p *Plan) {
				p.Quota = Quota{UnitCredit, 5, BillingDay, 429, Overage{Above: 7, PriceNano: 200_000, Allowed: true}}
			}),
		},
		"above the quota itself, for whole money": {
			"version: 1\nplans: [{name: a, quota: {unit: request, limit: 5, overage: {price_per_unit: 2}}}]", base.Queue,
			plan(func(p *Plan) {
				p.Quota = Quota{UnitRequest, 5, MonthUTC, 402, Overage{Above: 5, PriceNano: 2_000_000_000, Allowed: true}}
			}),
		},
		"a part of the queue": {
			"version: 1\nqueue: {length: 8}\nplans: [{name: a}]", Queue{Length: 8, WaitLimit: 24 * time.Hour}, plan(func(*Plan) {}),
		},
		"waiting for ever": {"version: 1\nqueue: {wait_limit_s: 0}\nplans: [{name: a}]", Queue{Length: 10_000}, plan(func(*Plan) {})},
		"refuse": {
			"version: 1\nplans: [{name: a, threads: 1, over_threads: {action: refuse}}]", base.Queue,
			plan(func(p *Plan) {
				p.Threads, p.OverThreads = 1, OverThreads{Action: Refuse, Status: 429, RetryAfter: true}
			}),
		},
		"refuse with 402": {
			"version: 1\nplans: [{name: a, threads: 1, over_threads: {action: refuse, status: 402, retry_after: false}}]", base.Queue,
			plan(func(p *Plan) { p.Threads, p.OverThreads = 1, OverThreads{Action: Refuse, Status: 402} }),
		},
		"unlimited": {
			"version: 1\nplans: [{name: a, threads: seats, over_threads: {backlog: unlimited}}]", base.Queue,
			plan(func(p *Plan) { p.OverThreads.Backlog = Unlimited }),
		},
		"no backlog": {
			"version: 1\nplans: [{name: a, over_threads: {action: park, backlog: 0}}]", base.Queue, plan(func(p *Plan) { p.OverThreads.Backlog = 0 }),
		},
		"quotes, comments, indented list": {
			"# ours\n\"version\": 1\nplans:\n  # one\n  - 'name': \"a\" # yes\n    tier: 0x2\n", base.Queue, plan(func(p *Plan) { p.Tier = 2 }),
		},
		"carriage returns, document start": {"---\r\nversion: 1\r\nplans:\r\n- name: a\r\n  tier: 5\r\n", base.Queue, plan(func(p *Plan) { p.Tier = 5 })},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePolicy("policy.yaml", []byte(test.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&Policy{Queue: test.queue, Plans: []Plan{test.plan}}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is not of a plan.
func TestEverybodysLimits(t *testing.T) {
	got, err := ParsePolicy("policy.yaml", []byte(`
version: 1
trusted_proxies: [10.1.2.3/8, 192.0.2.7, "2001:db8::1", "2001:db8:1::/48"]
anonymous_plan: b
http_limits:
- {class: api, requests: 60}
- {class: media, by: key, requests: 600, window_s: 10}
plans: [{name: a}, {name: b}]`))
	if err != nil {
		t.Fatal(err)
	}
	want := *got
	want.TrustedProxies = []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"),
		netip.MustParsePrefix("2001:db8::1/128"), netip.MustParsePrefix("2001:db8:1::/48"),
	}
	want.AnonymousPlan = "b"
	want.HTTPLimits = []HTTPLimit{{"api", ByIP, 60, time.Minute}, {"media", ByKey, 600, 10 * time.Second}}
	if diff := cmp.Diff(&want, got, samePrefixes); diff != "" {
		t.Error(diff)
	}
	none, err := ParsePolicy("policy.yaml", []byte("version: 1\ntrusted_proxies: []\nhttp_limits: []\nanonymous_plan: ''\nplans: [{name: a, formats: [], upgrade_url: ''}]"))
	if err != nil || len(none.TrustedProxies)+len(none.HTTPLimits)+len(none.Plans[0].Formats) > 0 || none.AnonymousPlan+none.Plans[0].UpgradeURL != "" {
		t.Errorf("%+v %v", none, err)
	}
}

// What is written is read to the same; all built-in policies, and names that
// YAML would take for something else.
func TestPolicyText(t *testing.T) {
	all := map[string]*Policy{}
	for _, name := range BuiltIns() {
		all[name] = shipped(t, name)
	}
	odd, err := ParsePolicy("odd.yaml", []byte(`
version: 1
trusted_proxies: [10.0.0.0/8, "2001:db8::/32"]
anonymous_plan: "it's: [odd] # really"
plans:
- {name: "it's: [odd] # really", upgrade_url: "https://a.example/?a='b'&c=#d", formats: [pdf]}
- {name: "null"}
- {name: "1e3", quota: {unit: request, limit: 5, overage: {price_per_unit: 0.000000001}}}
- {name: "- ~"}
- {name: "'"}
- {name: "größe {"}`))
	if err != nil {
		t.Fatal(err)
	}
	all["odd"] = odd
	for name, p := range all {
		again, err := ParsePolicy("again.yaml", p.Text())
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, p.Text())
		} else if diff := cmp.Diff(p, again, samePrefixes); diff != "" {
			t.Errorf("%s is read as another policy:\n%s", name, diff)
		}
	}
}

func TestPlanByName(t *testing.T) {
	p, err := ParsePolicy("policy.yaml", []byte("version: 1\nplans: [{name: free, tier: 1}, {name: $100, tier: 6}]"))
	if err != nil {
		t.Fatal(err)
	}
	if plan, ok := p.Plan("$100"); !ok || plan.Tier != 6 {
		t.Errorf("%+v %v", plan, ok)
	}
	if plan, ok := p.Plan("gone"); ok || plan.Name != "free" {
		t.Errorf("a plan that is not there: %+v %v", plan, ok)
	}
	if diff := cmp.Diff([]string{"free", "$100"}, p.Names()); diff != "" {
		t.Error(diff)
	}
}

func TestReadPolicy(t *testing.T) {
	if p, err := ReadPolicy(""); err != nil || !cmp.Equal(p, DefaultPolicy()) {
		t.Errorf("no file: %v %v", p, err)
	}
	if _, err := ReadPolicy(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	for _, name := range BuiltIns() {
		if p, err := ReadPolicy(name); err != nil || !BuiltIn(name) || BuiltIn("./"+name) {
			t.Errorf("%s: %v %v", name, p, err)
		}
	}
	want := "open shotitt: no such file or directory; did you mean shotit?; built in are default, page2images, screenshot-api, shotit, urlbox, webshot"
	if _, err := ReadPolicy("shotitt"); !errors.Is(err, os.ErrNotExist) || err.Error() != want {
		t.Errorf("neither a file nor a name: %v", err)
	}
	long := filepath.Join(t.TempDir(), "long.yaml")
	if err := os.WriteFile(long, []byte("#"+strings.Repeat(" ", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPolicy(long); err == nil || !strings.Contains(err.Error(), "long.yaml:1:1: the file has") {
		t.Errorf("a long file: %v", err)
	}
}

// Everything that can be wrong, and what is said of it.
func TestBadPolicies(t *testing.T) {
	files, err := filepath.Glob("testdata/policy/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := ParsePolicy(name, text)
			bad, ok := errors.AsType[*PolicyError](err)
			if !ok || p != nil {
				t.Fatalf("%v, %v; want a PolicyError", p, err)
			}
			got := strings.Join(bad.Lines(), "\n") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// No text makes the parser panic; what passes keeps the promises of a Policy.
func FuzzPolicy(f *testing.F) {
	files, err := filepath.Glob("testdata/policy/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, name := range BuiltIns() {
		text, _ := policies.Text(name)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePolicy("p.yaml", text)
		if err != nil {
			bad, ok := errors.AsType[*PolicyError](err)
			if !ok || p != nil || len(bad.Problems) == 0 {
				t.Fatalf("%v, %v", p, err)
			}
			for i, line := range bad.Lines() {
				if at := bad.Problems[i]; at.Line < 1 || at.Column < 1 || at.Rule == "" || strings.ContainsAny(line, "\n\r") {
					t.Errorf("%q", line)
				}
			}
			return
		}
		promised(t, p)
		again, err := ParsePolicy("again.yaml", p.Text())
		if err != nil || !cmp.Equal(p, again, samePrefixes) {
			t.Errorf("%s\nis read as another policy: %v\n%s", p.Text(), err, cmp.Diff(p, again, samePrefixes))
		}
	})
}

var samePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// promised is what every reader of a policy relies on.
func promised(t *testing.T, p *Policy) {
	t.Helper()
	among := func(what any, v string, words ...string) {
		if !slices.Contains(words, v) {
			t.Errorf("%+v: %q", what, v)
		}
	}
	if len(p.Plans) == 0 || p.Queue.Length < 1 || p.Queue.WaitLimit < 0 || p.Queue.PerHost < 0 {
		t.Errorf("%+v", p)
	}
	if p.AnonymousPlan != "" && !slices.Contains(p.Names(), p.AnonymousPlan) {
		t.Errorf("no plan for the anonymous: %q of %q", p.AnonymousPlan, p.Names())
	}
	for _, n := range p.TrustedProxies {
		if !n.IsValid() || n != n.Masked() || n.Addr().Zone() != "" {
			t.Errorf("proxy %v", n)
		}
	}
	limited := map[[2]string]bool{}
	for _, l := range p.HTTPLimits {
		among(l, l.Class, "api", "web", "media")
		among(l, string(l.By), "ip", "key", "account")
		what := [2]string{l.Class, string(l.By)}
		if l.Requests < 1 || l.Window < time.Second || l.Window > time.Hour || limited[what] {
			t.Errorf("%+v", l)
		}
		limited[what] = true
	}
	names := map[string]bool{}
	for _, plan := range p.Plans {
		if plan.Name == "" || names[plan.Name] || plan.Threads < 0 || plan.Wall < time.Second || plan.Retention < 24*time.Hour ||
			int(int32(plan.Tier)) != plan.Tier || plan.OverThreads.Backlog < 0 || plan.CacheTTL < 0 || plan.Stale < 0 {
			t.Errorf("%+v", plan)
		}
		names[plan.Name] = true
		among(plan, string(plan.SlotsBy), "account", "key")
		among(plan, string(plan.OverThreads.Action), "park", "refuse")
		among(plan, string(plan.Dialect), "tintype", "page2images", "webshot", "urlbox", "screenshot-api", "shotit")
		if s := plan.OverThreads.Status; plan.OverThreads.Action == Refuse && s != 402 && s != 429 {
			t.Errorf("%+v", plan.OverThreads)
		}
		for i, f := range plan.Formats {
			if !slices.Contains(job.Formats, f) || slices.Contains(plan.Formats[:i], f) {
				t.Errorf("%+v", plan.Formats)
			}
		}
		if r := plan.Rate; r != (Rate{}) {
			among(r, string(r.Algorithm), "token_bucket", "fixed_window")
			among(r, string(r.By), "ip", "key", "account")
			among(r, string(r.Charge), "all", "success")
			if !r.Limited() || r.Window < time.Second || r.Window > time.Hour || (r.Burst > 0) != (r.Algorithm == TokenBucket) {
				t.Errorf("%+v", r)
			}
		}
		if q := plan.Quota; q != (Quota{}) {
			among(q, string(q.Unit), "render", "request", "credit")
			among(q, string(q.Period), "month_utc", "billing_day")
			if !q.Limited() || q.Limit < 1 || q.Status != 402 && q.Status != 429 {
				t.Errorf("%+v", q)
			}
			if o := q.Overage; o != (Overage{}) && (!o.Allowed || o.Above < q.Limit || o.PriceNano < 0) {
				t.Errorf("%+v", q)
			}
		}
	}
}
