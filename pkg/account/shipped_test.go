package account

import (
	"strings"
	"testing"
	"time"

	"github.com/tintype/tintype/deploy/policies"
)

// shipped reads a policy that comes with Tintype.
func shipped(t *testing.T, name string) *Policy {
	t.Helper()
	p, err := ReadPolicy(name)
	if err != nil {
		t.Fatal(err)
	}
	promised(t, p)
	text, _ := policies.Text(name)
	if name != DefaultName && !strings.Contains(string(text), "reads it so:\n") {
		t.Errorf("%s does not say how it reads its page", name)
	}
	return p
}

func planOf(t *testing.T, p *Policy, name string) Plan {
	t.Helper()
	plan, ok := p.Plan(name)
	if !ok {
		t.Fatalf("no plan %s; there are %q", name, p.Names())
	}
	return plan
}

func TestEveryBuiltInReads(t *testing.T) {
	if got := strings.Join(BuiltIns(), " "); got != "default page2images screenshot-api shotit urlbox webshot" {
		t.Errorf("built in are %s", got)
	}
	for _, name := range BuiltIns() {
		p := shipped(t, name)
		for _, plan := range p.Plans {
			want := Dialect(name)
			if name == DefaultName {
				want = DialectTintype
			}
			if plan.Dialect != want {
				t.Errorf("%s of %s speaks %q", plan.Name, name, plan.Dialect)
			}
		}
	}
}

// Seconds a shot, of the page: 16 by the threads. Its row of 4 threads is that
// of 8.
func TestPage2imagesTable(t *testing.T) {
	p := shipped(t, "page2images")
	for _, row := range []struct {
		plan    string
		threads int
		shot    time.Duration
	}{
		{"1-thread", 1, 16 * time.Second},
		{"8-threads", 8, 2 * time.Second},
		{"12-threads", 12, 1333 * time.Millisecond},
		{"24-threads", 24, 666 * time.Millisecond},
		{"40-threads", 40, 400 * time.Millisecond},
	} {
		plan := planOf(t, p, row.plan)
		if got := 16 * time.Second / time.Duration(plan.Threads); plan.Threads != row.threads || got.Truncate(time.Millisecond) != row.shot {
			t.Errorf("%s: %d threads take %s for a shot", row.plan, plan.Threads, got)
		}
	}
	if p.Plans[0].Name != "8-threads" {
		t.Errorf("the first plan is %s, not the page's example", p.Plans[0].Name)
	}
	for _, plan := range p.Plans {
		if plan.OverThreads.Action != Park || plan.OverThreads.Backlog != Unlimited || plan.Rate.Limited() || plan.SlotsBy != ByAccount {
			t.Errorf("%s refuses what only has to wait: %+v", plan.Name, plan)
		}
		if plan.CacheTTL < 48*time.Hour || plan.CacheTTL > plan.Retention {
			t.Errorf("%s caches for %s and keeps for %s", plan.Name, plan.CacheTTL, plan.Retention)
		}
		if q := plan.Quota; q.Unit != UnitCredit || q.Period != MonthUTC || (plan.Name == "premium") != q.Overage.Allowed {
			t.Errorf("%s: %+v", plan.Name, q)
		}
	}
	if o := planOf(t, p, "premium").Quota; o.Overage.Above != 5_000_000 || o.Overage.PriceNano == 0 {
		t.Errorf("pay as you go: %+v", o)
	}
	if p.Queue.WaitLimit != 0 || p.Queue.Length != maxLength || p.AnonymousPlan != "" {
		t.Errorf("%+v", p)
	}
}

// A bucket for each address, and an allowance instead of it for premium keys.
func TestWebshotTable(t *testing.T) {
	p := shipped(t, "webshot")
	if p.AnonymousPlan != "anonymous" || p.Plans[0].Name != "free" {
		t.Errorf("%q, %q", p.AnonymousPlan, p.Names())
	}
	bucket := Rate{Algorithm: TokenBucket, Requests: 30, Window: time.Minute, Burst: 10, By: ByIP, Charge: ChargeSuccess}
	for _, name := range []string{"anonymous", "free"} {
		if plan := planOf(t, p, name); plan.Rate != bucket || plan.Quota.Limited() {
			t.Errorf("%s: %+v", name, plan)
		}
	}
	if plan := planOf(t, p, "premium"); plan.Rate.Limited() || plan.Quota != (Quota{Unit: UnitRender, Limit: 100_000, Period: MonthUTC, Status: 402}) {
		t.Errorf("premium: %+v", plan)
	}
}

// The numbers of the page's example of headers.
func TestUrlboxTable(t *testing.T) {
	p := shipped(t, "urlbox")
	plan := planOf(t, p, "trial")
	if plan.Rate != (Rate{Algorithm: FixedWindow, Requests: 250, Window: time.Minute, By: ByKey, Charge: ChargeSuccess}) ||
		plan.Quota != (Quota{Unit: UnitRender, Limit: 100, Period: BillingDay, Status: 429}) || plan.CacheTTL > plan.Retention {
		t.Errorf("%+v", plan)
	}
}

// The page's table of plans.
func TestScreenshotAPITable(t *testing.T) {
	p := shipped(t, "screenshot-api")
	for _, row := range []struct {
		plan           string
		minute, atOnce int
		month          int64
	}{
		{"free", 5, 1, 100},
		{"starter", 30, 3, 2_000},
		{"pro", 60, 10, 10_000},
	} {
		plan := planOf(t, p, row.plan)
		if plan.Threads != row.atOnce || plan.SlotsBy != ByKey ||
			plan.Rate != (Rate{Algorithm: FixedWindow, Requests: row.minute, Window: time.Minute, By: ByKey, Charge: ChargeAll}) ||
			plan.Quota != (Quota{Unit: UnitRender, Limit: row.month, Period: MonthUTC, Status: 402}) ||
			plan.OverThreads != (OverThreads{Action: Refuse, Backlog: 100_000, Status: 429}) && plan.OverThreads != (OverThreads{Action: Refuse, Status: 429}) ||
			plan.CacheTTL != 5*time.Minute || plan.UpgradeURL == "" {
			t.Errorf("%+v", plan)
		}
	}
	if len(p.Plans) != 3 || p.AnonymousPlan != "" {
		t.Errorf("%q %q", p.Names(), p.AnonymousPlan)
	}
}

// The page's table of sponsors, and of its servers.
func TestShotitTable(t *testing.T) {
	p := shipped(t, "shotit")
	rows := []struct {
		plan     string
		month    int64
		atOnce   int
		priority int
	}{
		{"free", 1_000, 1, 0},
		{"$1", 1_000, 1, 2},
		{"$5", 5_000, 1, 2},
		{"$10", 10_000, 1, 5},
		{"$20", 20_000, 2, 5},
		{"$50", 50_000, 3, 5},
		{"$100", 100_000, 4, 6},
	}
	for i, row := range rows {
		plan := p.Plans[i]
		if plan.Name != row.plan || plan.Tier != row.priority || plan.Threads != row.atOnce ||
			plan.Quota != (Quota{Unit: UnitRender, Limit: row.month, Period: MonthUTC, Status: 402}) ||
			plan.OverThreads != (OverThreads{Action: Refuse, Status: 402}) || plan.Rate.Limited() {
			t.Errorf("%+v", plan)
		}
	}
	if len(p.Plans) != len(rows) || p.AnonymousPlan != "free" || p.Queue.Length != 8 || !p.Queue.CountRunning {
		t.Errorf("%q, anonymous %q, %+v", p.Names(), p.AnonymousPlan, p.Queue)
	}
	limits := map[string]int{}
	for _, l := range p.HTTPLimits {
		if l.By != ByIP || l.Window != time.Minute {
			t.Errorf("%+v", l)
		}
		limits[l.Class] = l.Requests
	}
	if len(limits) != 3 || limits["web"] != 600 || limits["api"] != 60 || limits["media"] != 60 {
		t.Errorf("%v", limits)
	}
}
