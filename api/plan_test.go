package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/tintype/tintype/pkg/account"
	"github.com/tintype/tintype/pkg/job"
	pb "github.com/tintype/tintype/proto/tintype/v1"
)

// withPolicy has the default plan, a short one, and three that refuse.
func withPolicy(t *testing.T) func(*Config, *Deps) {
	t.Helper()
	p, err := account.ParsePolicy("policy.yaml", []byte(`
version: 1
plans:
- {name: default, tier: 2, over_threads: {backlog: unlimited}}
- {name: short, wall_ms: 5000, threads: 3, retention_days: 1, over_threads: {backlog: 7}}
- {name: plain, threads: 1, over_threads: {action: refuse}}
- {name: mute, threads: 1, over_threads: {action: refuse, retry_after: false}}
- {name: paid, threads: 1, over_threads: {action: refuse, status: 402}}
`))
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *Config, _ *Deps) { cfg.Policy = p }
}

// keyOn is the key of a new account with this plan.
func (f *farm) keyOn(plan string) header {
	f.t.Helper()
	var made NewAccount
	f.admin("POST", "/admin/v1/accounts", `{"name":"on `+plan+`","plan":"`+plan+`"}`).json(f.t, &made)
	if made.Plan != plan {
		f.t.Fatalf("%+v", made)
	}
	return header{"Authorization": "Bearer " + made.Key}
}

func TestPlans(t *testing.T) {
	f := newFarm(t, withPolicy(t))
	a := f.admin("GET", "/admin/v1/plans", "")
	if a.Code != http.StatusOK {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	golden(t, "plans.golden", append([]byte(strings.ReplaceAll(a.Body.String(), "},{\"name", "},\n{\"name")), '\n'))
	f.do("GET", "/admin/v1/plans", "").problem(t, 401, "invalid_key")

	p := f.admin("POST", "/admin/v1/accounts", `{"name":"x","plan":"gold"}`).problem(t, 400, "invalid_input")
	want := "is not a plan of this installation; its plans are default, short, plain, mute, paid"
	if got := (*p.Errors)[0]; got.Pointer != "/plan" || got.Detail != want {
		t.Errorf("%+v", got)
	}
	var made NewAccount
	f.admin("POST", "/admin/v1/accounts", `{"name":"x"}`).json(t, &made)
	if made.Plan != "default" {
		t.Errorf("%+v", made)
	}
}

// Every limit of a plan is shown.
func TestWholePlan(t *testing.T) {
	for _, test := range []struct{ policy, plan, want string }{
		{"page2images", "premium", `"rate":null,"quota":{"unit":"credit","limit":5000000,"period":"month_utc","status":402,"overage":{"above":5000000,"price_per_unit":"0.0002"}},"cache_ttl_s":259200`},
		{"screenshot-api", "pro", `"slots_by":"key","over_threads":{"action":"refuse","retry_after":false,"status":429},"rate":{"algorithm":"fixed_window","requests":60,"window_s":60,"burst":null,"by":"key","charge":"all"},` +
			`"quota":{"unit":"render","limit":10000,"period":"month_utc","status":402,"overage":null}`},
		{"screenshot-api", "pro", `"dialect":"screenshot-api","upgrade_url":"https://app.example.com/dashboard?upgrade=true"}`},
		{"webshot", "free", `"rate":{"algorithm":"token_bucket","requests":30,"window_s":60,"burst":10,"by":"ip","charge":"success"},"quota":null`},
	} {
		p, err := account.ReadPolicy(test.policy)
		if err != nil {
			t.Fatal(err)
		}
		plan, _ := p.Plan(test.plan)
		text, err := marshal(presentPlan(plan))
		if err != nil || !strings.Contains(string(text), test.want) {
			t.Errorf("%s of %s: %v %s\nlacks %s", test.plan, test.policy, err, text, test.want)
		}
	}
	if got := presentPlan(account.Plan{Formats: []job.Format{job.PDF}}).Formats; len(got) != 1 || got[0] != "pdf" {
		t.Errorf("formats %v", got)
	}
}

// The plan bounds timeout_ms, and its default too.
func TestWallOfThePlan(t *testing.T) {
	f := newFarm(t, withPolicy(t))
	short := f.keyOn("short")
	if got := f.do("POST", "/v1/jobs", `{"html":"x"}`, short).job(t, 202).Options.TimeoutMs; got != 5000 {
		t.Errorf("timeout_ms left out is %d", got)
	}
	f.do("POST", "/v1/jobs", `{"html":"x","timeout_ms":5001}`, short).problem(t, 400, "invalid_input")
	if got := f.submit(`{"html":"x"}`).Options.TimeoutMs; got != 30_000 {
		t.Errorf("on the default plan it is %d", got)
	}
}

// Another policy is gone by from the next request on, and a plan that it lacks
// is the first one.
func TestPolicyThatChanges(t *testing.T) {
	policies := account.NewLive(account.DefaultPolicy())
	f := newFarm(t, func(cfg *Config, _ *Deps) { cfg.Policies = policies })
	f.do("POST", "/v1/jobs", `{"html":"x","timeout_ms":5001}`).job(t, 202)
	f.admin("POST", "/admin/v1/accounts", `{"name":"x","plan":"short"}`).problem(t, 400, "invalid_input")
	var with Config
	withPolicy(t)(&with, nil)
	with.Policy.Plans = with.Policy.Plans[1:]
	policies.Set(with.Policy)
	f.do("POST", "/v1/jobs", `{"html":"x","timeout_ms":5001}`).problem(t, 400, "invalid_input")
	var plans PlanList
	f.admin("GET", "/admin/v1/plans", "").json(t, &plans)
	if len(plans.Data) != 4 || plans.Data[0].Name != "short" {
		t.Errorf("%+v", plans)
	}
	f.keyOn("short")
}

// An account whose plan is not in the policy has the first one.
func TestPlanThatIsGone(t *testing.T) {
	f := newFarm(t, func(cfg *Config, d *Deps) {
		withPolicy(t)(cfg, d)
		cfg.Policy.Plans = cfg.Policy.Plans[1:]
	})
	if got := f.submit(`{"html":"x"}`).Options.TimeoutMs; got != 5000 {
		t.Errorf("timeout_ms is %d, not that of the plan short", got)
	}
}

// How a refusal for the threads looks is the plan's to say; of other refusals
// it says nothing.
func TestPlansFaceOfARefusal(t *testing.T) {
	full := &pb.Fault{Kind: "threads_full", Code: "concurrency_limit_exceeded", Detail: "d", Policy: "threads", RetryAfterMs: 3000}
	for _, test := range []struct {
		plan   string
		fault  *pb.Fault
		status int
		waits  bool
	}{
		{"default", full, 429, true},
		{"plain", full, 429, true},
		{"mute", full, 429, false},
		{"paid", full, 402, true},
		{"paid", &pb.Fault{Kind: "threads_full", Code: "backlog_full"}, 429, true},
		{"mute", &pb.Fault{Kind: "queue_full", Code: "queue_full"}, 503, true},
	} {
		f := newFarm(t, withPolicy(t))
		f.leader.decide = refuseAll(test.fault)
		key := f.keyOn(test.plan)
		for _, target := range []string{"/v1/jobs", "/v1/screenshot"} {
			a := f.do("POST", target, `{"html":"x"}`, key)
			a.problem(t, test.status, test.fault.Code)
			if got := a.Header().Get("Retry-After") != ""; got != test.waits {
				t.Errorf("%s, %s of %s: Retry-After %q", test.plan, test.fault.Code, target, a.Header().Get("Retry-After"))
			}
		}
	}
}
